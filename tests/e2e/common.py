# SPDX-License-Identifier: Apache-2.0
"""Imported by the Python tests in tests/: the environment and the command line of a program on several ranks."""
import os
import pathlib
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
SAPLING = ROOT / "tests" / "sapling"
# More ranks than cores, threads that sleep while they wait.
ENVIRONMENT = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OMP_NUM_THREADS="1",
                   OMPI_MCA_rmaps_base_oversubscribe="1", OMPI_MCA_hwloc_base_binding_policy="none",
                   OMP_WAIT_POLICY="passive")
# Seconds after which a program counts as hanging are multiplied by this: sanitizers make programs slow.
SLOW = int(os.environ.get("ESPL_TEST_SLOW", "1"))


def alone_environment(place):
    """Of a program without mpirun, and without MPI's daemon and networks: faster, and the exit code is the process's own.
    Open MPI keeps the sessions of all such processes in one directory of TMPDIR, and the first that ends removes it:
    each has a TMPDIR of its own, below `place`."""
    return {**ENVIRONMENT, "OMPI_MCA_ess_singleton_isolated": "1", "OMPI_MCA_pml": "ob1", "OMPI_MCA_btl": "self",
            "OMPI_MCA_sharedfp": "individual", "TMPDIR": tempfile.mkdtemp(prefix="t", dir=place)}


def mpirun(ranks, *command, threads=1):
    return ["mpirun", "-n", str(ranks), "-x", f"OMP_NUM_THREADS={threads}", *map(str, command)]


def skip(test, why):
    """Skips a unittest, and says so in the words that tests/run.sh looks for."""
    print(f"\nskipped: {why}", file=sys.stderr)  # unittest prints dots without line feeds
    test.skipTest(why)
