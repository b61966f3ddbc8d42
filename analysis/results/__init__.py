# SPDX-License-Identifier: Apache-2.0
"""From runs to numbers: intervals, groups of runs, claims, tables. Each module uses only those named before it here:
intervals, formats, groups, select, claims, layout, build."""
