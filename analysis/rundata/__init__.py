# SPDX-License-Identifier: Apache-2.0
"""Reads run directories (docs/run.md). Needs neither the program nor the model nor the data."""
