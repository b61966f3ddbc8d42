# SPDX-License-Identifier: Apache-2.0
"""Spack 1.0 or newer. See jobs/packages/README.md."""
import os

from spack_repo.builtin.build_systems.cmake import CMakePackage

from spack.package import *


class Espalier(CMakePackage):
    """Compresses large language models by agent-guided adaptive pruning over MPI."""

    url = "file://{0}/espalier-0.1.0.tar.gz".format(os.getcwd())
    manual_download = True

    license("Apache-2.0")

    version("0.1.0")

    variant("report", default=True, description="Python packages for espalier-report and espalier-tables")

    variant("bf16", default=True, description="bf16 arithmetic by oneDNN")

    depends_on("c", type="build")
    depends_on("cmake@3.23:", type="build")
    depends_on("pkgconfig", type="build")
    depends_on("mpi@3.1:")
    depends_on("hdf5+mpi")
    # the OpenMP flavour shares one pool of threads with espalier
    depends_on("openblas threads=openmp")
    depends_on("curl@7.66:")
    depends_on("cjson")
    depends_on("pcre2")
    depends_on("utf8proc")
    depends_on("xxhash")
    depends_on("zlib-api")
    depends_on("hwloc@2:")
    depends_on("onednn", when="+bf16")

    with when("+report"):
        for name in ("h5py", "jinja2", "matplotlib", "pandas", "scipy"):
            depends_on(f"py-{name}", type="run")

    def cmake_args(self):
        return [
            self.define("ESPL_TESTS", self.run_tests),
            # spack's compiler wrapper adds the flags of the target
            self.define("ESPL_MARCH", ""),
            self.define_from_variant("ESPL_ONEDNN", "bf16"),
            self.define("ESPL_OPENBLAS_INCLUDE", self.spec["openblas"].headers.directories[0]),
            self.define("ESPL_OPENBLAS_LIBRARY", self.spec["openblas"].libs[0]),
        ]

    def setup_run_environment(self, env):
        env.set("ESPL_ROOT", self.prefix.share.espalier)

    @run_after("install")
    @on_package_attributes(run_tests=True)
    def check_install(self):
        Executable(self.prefix.bin.espalier)("inspect", self.prefix.share.espalier.sapling.model)
