# SPDX-License-Identifier: Apache-2.0
"""Imported first by every script: reports missing packages in one line instead of a traceback."""
import importlib.util
import os
import sys
from pathlib import Path

PROGRAM = os.environ.get("ESPL_ANALYSIS_PROGRAM")  # how messages call an installed script, espalier-report
PACKAGES = ("h5py", "jinja2", "matplotlib", "pandas", "scipy")

MISSING = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
if MISSING:
    sys.exit(f"{', '.join(MISSING)}: not installed. On Debian: apt-get install "
             f"{' '.join(f'python3-{name}' for name in PACKAGES)}; elsewhere: "
             f"pip install -r {Path(__file__).with_name('requirements.txt')}")
