# SPDX-License-Identifier: Apache-2.0
"""Imported first by every script: reports missing packages in one line instead of a traceback.

Run by itself, it prints the interpreter that has them all.
"""
import importlib.util
import os
import sys
from pathlib import Path

PROGRAM = os.environ.get("ESPL_ANALYSIS_PROGRAM")  # how messages call an installed script, espalier-report
PACKAGES = ("h5py", "jinja2", "matplotlib", "pandas", "scipy")
SYSTEM = "/usr/bin/python3"  # packages of the system belong to its own interpreter, which need not be the first in PATH

MISSING = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
if MISSING and "ESPL_PYTHON" not in os.environ and os.path.exists(SYSTEM) and (
        os.path.realpath(SYSTEM) != os.path.realpath(sys.executable)):
    os.execv(SYSTEM, [SYSTEM, "-B", *sys.argv])
if MISSING:
    sys.exit(f"{', '.join(MISSING)}: not installed. On Debian: apt-get install "
             f"{' '.join(f'python3-{name}' for name in PACKAGES)}; elsewhere: "
             f"pip install -r {Path(__file__).with_name('requirements.txt')}")
if __name__ == "__main__":
    print(sys.executable)
