"""Imported first: one line instead of a traceback where a package is missing."""
import importlib.util
import sys

MISSING = [name for name in ("h5py", "matplotlib", "pandas") if importlib.util.find_spec(name) is None]
if MISSING:
    sys.exit(f"{', '.join(MISSING)}: not installed. On Debian: apt-get install python3-h5py python3-matplotlib python3-pandas; "
             "elsewhere: pip install -r analysis/requirements.txt")
