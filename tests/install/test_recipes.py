#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the recipes of jobs/packages: they name this version and every library that CMake looks for, and they pass the
linters that this machine has (hadolint, eb with the easyconfigs and pycodestyle). Building them needs a network: see docs/install.md."""
import ast
import os
import pathlib
import re
import shutil
import subprocess
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
RECIPES = ROOT / "jobs" / "packages"
EASYCONFIG, = (RECIPES / "easybuild").glob("espalier-*.eb")

# What CMake looks for -> its name in Spack and EasyBuild; None: part of the toolchain, or left out.
LIBRARIES = {"MPI": ("mpi", None), "HDF5": ("hdf5", "HDF5"), "OPENBLAS": ("openblas", None), "CURL": ("curl", "cURL"),
             "CJSON": ("cjson", "cJSON"), "PCRE2": ("pcre2", "PCRE2"), "UTF8PROC": ("utf8proc", "utf8proc"),
             "XXHASH": ("xxhash", "xxHash"), "ZLIB": ("zlib-api", "zlib"),
             "HWLOC": ("hwloc", None),  # optional; foss has it for Open MPI
             "ONEDNN": ("onednn", None)}  # optional; no easyconfig of EasyBuild's own fits the toolchain


def version():
    return re.search(r"^project\(espalier VERSION ([0-9.]+)", (ROOT / "CMakeLists.txt").read_text(), re.M).group(1)


def easyconfig(path):
    """The parameters of an easyconfig, whose constants stand for themselves."""
    values = {"SOURCELOWER_TAR_GZ": "tarball", "SHLIB_EXT": "so"}
    exec(compile(path.read_text(), path, "exec"), values)  # our own file
    return values


def libraries_of_cmake():
    text = (ROOT / "src" / "cmake" / "EspalierDependencies.cmake").read_text()
    found = set(re.findall(r"pkg_check_modules\((\w+)", text)) | set(re.findall(r"find_package\((\w+)", text))
    return (found - {"PkgConfig", "OpenMP", "Threads"}) | {"OPENBLAS", "ONEDNN"}


class Recipes(unittest.TestCase):
    def test_the_table_of_libraries_is_that_of_cmake(self):
        self.assertEqual(set(LIBRARIES), libraries_of_cmake())

    def test_spack_names_version_and_libraries(self):
        tree = ast.parse((RECIPES / "spack/packages/espalier/package.py").read_text())
        calls = [(node.func.id, node.args[0].value) for node in ast.walk(tree) if isinstance(node, ast.Call)
                 and isinstance(node.func, ast.Name) and node.args and isinstance(node.args[0], ast.Constant)]
        self.assertIn(("version", version()), calls)
        names = {re.match(r"[a-z0-9-]+", value).group() for call, value in calls if call == "depends_on"}
        self.assertLessEqual({spack for spack, _ in LIBRARIES.values()}, names)
        minimum = re.search(r"^cmake_minimum_required\(VERSION ([0-9.]+)", (ROOT / "CMakeLists.txt").read_text(), re.M).group(1)
        self.assertIn(("depends_on", f"cmake@{minimum}:"), calls)

    def test_easybuild_names_version_and_libraries(self):
        values = easyconfig(EASYCONFIG)
        self.assertEqual(values["version"], version())
        self.assertEqual(EASYCONFIG.name, f"espalier-{version()}-foss-{values['toolchain']['version']}.eb")
        names = {name for name, *_ in values["dependencies"]}
        self.assertLessEqual({name for _, name in LIBRARIES.values() if name}, names)
        for path in (RECIPES / "easybuild").glob("*.eb"):
            self.assertTrue(path.name.startswith("{name}-{version}-".format(**easyconfig(path))), path)

    def eb(self, *arguments):
        if not shutil.which("eb"):
            self.skipTest("no eb")
        options = ["--allow-use-as-root-and-accept-consequences"] if os.geteuid() == 0 else []
        if not shutil.which("lmod"):
            options += ["--modules-tool=EnvironmentModules", "--module-syntax=Tcl"]
        shell = '. /usr/share/modules/init/bash 2>/dev/null; exec eb "$@"'  # as a login shell of Debian does
        done = subprocess.run(["bash", "-c", shell, "eb", *options, *arguments], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def test_easybuild_resolves_every_dependency(self):
        text = self.eb("--dry-run", f"--robot={RECIPES / 'easybuild'}:", str(EASYCONFIG))
        self.assertIn(f"module: espalier/{version()}", text)

    def test_easyconfigs_are_in_easybuilds_style(self):
        self.eb("--check-style", *map(str, sorted((RECIPES / "easybuild").glob("*.eb"))))

    def test_containers_install_what_the_debian_package_recommends(self):
        recommended = re.search(r'RECOMMENDS\s+"([^"]+)"', (ROOT / "src/cmake/EspalierInstall.cmake").read_text()).group(1)
        for name in ("Dockerfile", "espalier.def"):
            words = (RECIPES / name).read_text().split()
            for package in recommended.split(", "):
                self.assertIn(package, words, name)

    def test_the_dockerfile_passes_hadolint(self):
        if not shutil.which("hadolint"):
            self.skipTest("no hadolint")
        done = subprocess.run(["hadolint", "--failure-threshold", "info", RECIPES / "Dockerfile"],
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)
