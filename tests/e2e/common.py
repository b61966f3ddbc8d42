# SPDX-License-Identifier: Apache-2.0
"""Imported by the Python tests in tests/: the environment and the command line of a program on several ranks."""
import os
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
SAPLING = ROOT / "tests" / "sapling"
# More ranks than cores, threads that sleep while they wait.
ENVIRONMENT = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OMP_NUM_THREADS="1",
                   OMPI_MCA_rmaps_base_oversubscribe="1", OMPI_MCA_hwloc_base_binding_policy="none",
                   OMP_WAIT_POLICY="passive")
# Seconds after which a program counts as hanging are multiplied by this: sanitizers make programs slow.
SLOW = int(os.environ.get("ESPL_TEST_SLOW", "1"))


def mpirun(ranks, *command, threads=1):
    return ["mpirun", "-n", str(ranks), "-x", f"OMP_NUM_THREADS={threads}", *map(str, command)]
