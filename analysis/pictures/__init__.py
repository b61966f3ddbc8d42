# SPDX-License-Identifier: Apache-2.0
"""The pictures; each function returns a matplotlib figure, or None if the runs have nothing to show there."""
