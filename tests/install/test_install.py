#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Installs a build into a read-only prefix, and its Debian package into a scratch root, and uses both as another user
from another directory.

usage: test_install.py BUILD_DIR [unittest arguments]
"""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = None
NOBODY = 65534


def run(*command, code=0, cwd="/", **environment):
    """Runs a command as a user who may not write to the prefix."""
    def give_up_root():
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("ESPL_")}
    clean.update(HOME="/tmp", OMP_NUM_THREADS="1", **environment)
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, cwd=cwd, env=clean, timeout=250,
                          preexec_fn=give_up_root)
    if done.returncode != code:
        raise AssertionError(f"{command}: exit code {done.returncode}, expected {code}\n{done.stdout}\n{done.stderr}")
    return done


class Installed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.work = pathlib.Path(tempfile.mkdtemp(prefix="espalier-install-"))
        cls.addClassCleanup(shutil.rmtree, cls.work)
        cls.work.chmod(0o755)
        cls.prefix = cls.work / "prefix"
        cls.share = cls.prefix / "share" / "espalier"
        subprocess.run(["cmake", "--install", BUILD, "--prefix", cls.prefix], check=True, capture_output=True)
        subprocess.run(["chmod", "-R", "a-w,a+rX", cls.prefix], check=True)
        cls.addClassCleanup(subprocess.run, ["chmod", "-R", "u+w", cls.prefix], check=True)
        cls.program = cls.prefix / "bin" / "espalier"
        cls.home = cls.work / "home"  # of the user
        cls.home.mkdir(mode=0o777)
        cls.home.chmod(0o777)

    def commands(self):
        text = run(self.program, "--help").stdout
        return re.findall(r"^  ([a-z]+)\b", text.split("Commands:")[1].split("Help:")[0], re.M)

    def test_every_command_has_a_manual_page_with_every_option(self):
        commands = self.commands()
        self.assertGreaterEqual(len(commands), 7)
        for command in commands:
            page = (self.prefix / "share/man/man1" / f"espalier-{command}.1").read_text().replace("\\-", "-")
            options = re.findall(r"--([a-z][a-z-]+)", run(self.program, command, "--usage").stdout)
            self.assertGreater(len(options), 4)
            for option in options:
                self.assertIn(f"--{option}", page, command)
        self.assertIn("prune.target", (self.prefix / "share/man/man1/espalier.1").read_text())

    def complete(self, *words):
        """What bash offers for the last word."""
        script = (f". {self.prefix}/share/bash-completion/completions/espalier; compopt() {{ :; }}\n"
                  'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _espalier; printf "%s\\n" "${COMPREPLY[@]}"')
        return run("bash", "-c", script, "bash", *words).stdout.split()

    def test_bash_completes_commands_options_keys_and_values(self):
        self.assertEqual(self.complete("espalier", "pr"), ["prune"])
        self.assertEqual(self.complete("espalier", "prune", "--dr"), ["--dry-run"])
        self.assertEqual(self.complete("espalier", "prune", "c", "--set", "prune.thres"), ["prune.threshold="])
        self.assertEqual(self.complete("espalier", "prune", "c", "--set", "prune.score", "=", "wa"), ["wanda"])
        self.assertEqual(self.complete("espalier", "eval", "--mask", "=", f"{self.prefix}/b"), [f"{self.prefix}/bin"])
        self.assertEqual(self.complete("espalier", "eval", "--shots", ""), [])

    def test_zsh_completion_is_valid(self):
        if not shutil.which("zsh"):
            self.skipTest("no zsh")
        run("zsh", "-n", self.prefix / "share/zsh/site-functions/_espalier")

    def test_the_module_file_names_the_prefix(self):
        files = list((self.prefix / "share/modulefiles/espalier").iterdir())
        self.assertEqual(len(files), 1)
        self.assertIn(f"set prefix {self.prefix}\n", files[0].read_text())
        if shutil.which("modulecmd"):
            done = run("modulecmd", "sh", "load", "espalier", MODULEPATH=str(files[0].parents[1]))
            self.assertIn(f"ESPL_ROOT={self.share}", done.stdout)

    def test_the_demo_configuration_runs_from_any_directory(self):
        done = run(self.program, "prune", self.share / "configs/sapling.json", "--dry-run", "--set", "run.dir=r", cwd=self.home)
        self.assertIn("one iteration", done.stdout)
        listed = run(self.program, "sweep", self.share / "configs/sweeps/sapling.json", "--list", cwd=self.home).stdout
        self.assertRegex(listed, r"(?m)^ +1 +new +dense")

    def test_sweep_prints_a_command_that_works_anywhere(self):
        (self.home / "sweep.json").write_text(json.dumps({"dir": "s", "base": str(self.share / "configs/sapling.json")}))
        words = run(self.program, "sweep", "sweep.json", "--slurm", cwd=self.home).stdout.split()
        self.assertEqual(words[0], "sbatch")
        self.assertIn(f"--chdir='{self.home}'", words)
        self.assertEqual(words[-2:], [f"'{self.share}/jobs/sweep.sbatch'", f"'{self.home}/sweep.json'"])

    def test_batch_scripts_find_their_installation(self):
        for script in ("prune", "eval", "sweep", "scaling", "report"):
            done = run("bash", self.share / "jobs" / f"{script}.sbatch", code=2, cwd=self.home, SLURM_SUBMIT_DIR=str(self.home))
            self.assertIn(f"usage: sbatch jobs/{script}.sbatch" if script != "sweep" else "usage: sbatch --array", done.stderr)

    def test_a_script_outside_its_repository_says_so_in_one_line(self):
        for script in ("prune", "eval", "sweep", "scaling", "report"):
            done = run("bash", ROOT / "jobs" / f"{script}.sbatch", "x", code=2, cwd=self.home, SLURM_SUBMIT_DIR=str(self.home))
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
            self.assertIn("set ESPL_ROOT", done.stderr)

    def test_a_chain_checks_the_python_of_its_report_first(self):
        (self.home / "bin").mkdir(exist_ok=True)
        sbatch = self.home / "bin" / "sbatch"
        sbatch.write_text("#!/bin/sh\ntouch submitted\n")
        sbatch.chmod(0o755)
        done = run(self.share / "jobs/chain.sh", self.share / "configs/sapling.json", code=2, cwd=self.home,
                   ESPL_PYTHON="/nowhere/python3", PATH=f"{self.home}/bin:{os.environ['PATH']}")
        self.assertIn("/nowhere/python3", done.stderr)
        self.assertIn("nothing submitted", done.stderr)
        self.assertFalse((self.home / "submitted").exists())

    def test_a_chain_evaluates_with_the_windows_of_the_report(self):
        (self.home / "bin").mkdir(exist_ok=True)
        sbatch = self.home / "bin" / "sbatch"
        sbatch.write_text('#!/bin/sh\necho "$@" >> submissions\necho 7\n')
        sbatch.chmod(0o755)
        run(self.share / "jobs/chain.sh", self.share / "configs/sapling.json", "--set", "report.limit=4096", cwd=self.home,
            ESPL_REPORT="no", PATH=f"{self.home}/bin:{os.environ['PATH']}")
        lines = (self.home / "submissions").read_text().splitlines()
        self.assertEqual(len(lines), 2)
        self.assertIn(f"--text {self.share}/sapling/data/test.txt --window 512 --limit 4096", lines[1])

    def test_report_and_tables_are_commands(self):
        for name in ("report", "tables", "plots"):
            done = subprocess.run([self.prefix / "bin" / f"espalier-{name}", "--help"], capture_output=True, text=True)
            if done.returncode == 0:
                self.assertIn(f"usage: espalier-{name}", done.stdout)
            else:
                self.assertIn("not installed. On Debian: apt-get install", done.stderr)

    def test_configures_without_tests_and_cmocka(self):
        """pkg-config that does not know cmocka: only a build with tests asks for it."""
        real = shutil.which("pkg-config")
        wrapper = self.work / "pkg-config"
        wrapper.write_text(f'#!/bin/sh\ncase "$*" in *cmocka*) exit 1 ;; esac\nexec {real} "$@"\n')
        wrapper.chmod(0o755)
        def configure(tests):
            return subprocess.run(["cmake", "-S", ROOT, "-B", self.work / f"build-{tests}", f"-DESPL_TESTS={tests}",
                                   f"-DPKG_CONFIG_EXECUTABLE={wrapper}"], capture_output=True, text=True)
        done = configure("OFF")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn("-Werror", (self.work / "build-OFF" / "compile_commands.json").read_text())
        self.assertNotEqual(configure("ON").returncode, 0)


class Package(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        for tool in ("dpkg-shlibdeps", "file"):  # what cpack calls
            if not shutil.which(tool):
                raise unittest.SkipTest(f"no {tool}")
        cls.work = pathlib.Path(tempfile.mkdtemp(prefix="espalier-package-"))
        cls.addClassCleanup(shutil.rmtree, cls.work)
        cls.work.chmod(0o755)
        done = subprocess.run(["cpack", "--config", f"{BUILD}/CPackConfig.cmake", "-B", cls.work / "package"],
                              capture_output=True, text=True, cwd=cls.work)
        if done.returncode != 0:
            raise AssertionError(done.stdout + done.stderr)
        cls.package, = (cls.work / "package").glob("*.deb")

    def test_it_depends_on_the_libraries_and_the_launcher(self):
        depends = subprocess.run(["dpkg-deb", "-f", self.package, "Depends"], capture_output=True, text=True,
                                 check=True).stdout
        for name in ("libc6", "libopenmpi3", "libhdf5-openmpi", "libopenblas0", "libcurl4", "libcjson1", "libpcre2-8-0",
                     "libutf8proc", "libxxhash0", "zlib1g", "libdnnl", "libhwloc15", "openmpi-bin"):
            self.assertIn(name, depends)

    def test_it_installs_into_a_root_and_runs(self):
        if os.geteuid() != 0:
            self.skipTest("dpkg --root needs root")
        root = self.work / "root"
        (root / "var/lib/dpkg/info").mkdir(parents=True)
        (root / "var/lib/dpkg/updates").mkdir()
        (root / "var/lib/dpkg/status").touch()
        (root / "var/lib/dpkg/available").touch()
        # the libraries are this system's, hence force-depends
        subprocess.run(["dpkg", f"--root={root}", "--force-depends", "-i", self.package], check=True, capture_output=True)
        config = root / "usr/share/espalier/configs/sapling.json"
        self.assertIn('"/usr/share/espalier/sapling/model"', config.read_text())
        done = run(root / "usr/bin/espalier", "inspect", root / "usr/share/espalier/sapling/model")
        self.assertIn("layers", done.stdout)
        self.assertNotIn(str(self.work), (root / "usr/share/espalier/jobs/prune.sbatch").read_text())


if __name__ == "__main__":
    BUILD = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
