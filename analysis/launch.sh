#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installed as espalier-report, espalier-tables and espalier-plots: runs analysis/report.py and so on.
# ESPL_PYTHON: a Python with h5py, jinja2, matplotlib, pandas and scipy (python3).
program=$(basename "$0")
export ESPL_ANALYSIS_PROGRAM="$program"
here=$(dirname "$(readlink -f "$0")")
# -B: the prefix may be read-only
exec "${ESPL_PYTHON:-python3}" -B "$here/../share/espalier/analysis/${program#espalier-}.py" "$@"
