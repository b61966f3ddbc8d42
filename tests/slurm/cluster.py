#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Starts a private Slurm on loopback: munged, slurmctld and virtual nodes n1, n2, ... All daemons are children of this
process, all files are in one directory. Used by test_slurm.py; to start one by hand (as root):

    tests/slurm/cluster.py DIR [NODES]     until ^C; in another shell:  export SLURM_CONF=DIR/slurm.conf

The nodes share this machine's cores, memory and network, so this tests launching, signals and restarts, not speed.
"""
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

SBIN = "/usr/sbin"

CONF = """\
ClusterName=espalier
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={dir}/munge.socket
CredType=cred/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={dir}/state
SlurmdSpoolDir={dir}/%n
TmpFS={dir}/tmp-%n
SlurmctldPidFile={dir}/slurmctld.pid
SlurmdPidFile={dir}/slurmd-%n.pid
SlurmctldLogFile={dir}/slurmctld.log
SlurmdLogFile={dir}/slurmd-%n.log
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=1,batch_sched_delay=0
JobRequeue=1
ReturnToService=2
KillWait=10
MinJobAge=3600
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
MailProg=/bin/true
"""


def missing():
    """Why a cluster cannot run here; None if it can."""
    if os.geteuid() != 0:
        return "a private Slurm needs root"
    for tool in ("munged", "slurmctld", "slurmd"):
        if not os.path.exists(f"{SBIN}/{tool}"):
            return f"{tool} is not installed (Debian: slurmctld slurmd slurm-client munge)"
    if subprocess.run(["unshare", "--uts", "--mount", "true"], capture_output=True).returncode != 0:
        return "this container may not make namespaces (unshare), which virtual nodes need"
    return None


def free_ports(n):
    """n different ports that are free now. All are held until the last is found, so that none is returned twice."""
    held = [socket.socket() for _ in range(n)]
    for s in held:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in held]
    for s in held:
        s.close()
    return ports


def program(name):
    """Path of a daemon. Debian's alternatives may point to an emulator: the real one is NAME-wlm, if that exists."""
    real = f"{SBIN}/{name}-wlm"
    return real if os.path.exists(real) else f"{SBIN}/{name}"


class Cluster:
    def __init__(self, directory, nodes=2, cpus=8):
        self.dir, self.nodes, self.cpus = pathlib.Path(directory), nodes, cpus
        self.children = []
        self.environment = dict(os.environ, SLURM_CONF=str(self.dir / "slurm.conf"))

    # ------------------------------------------------------------ starting

    def write_files(self):
        host = socket.gethostname().split(".")[0]
        ports = free_ports(1 + self.nodes)
        lines = [CONF.format(host=host, ports=ports, dir=self.dir)]
        for i in range(1, self.nodes + 1):
            lines.append(f"NodeName=n{i} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[i]} CPUs={self.cpus} "
                         f"CoresPerSocket={self.cpus} RealMemory=1000 State=UNKNOWN\n")
            for name in (f"n{i}", f"tmp-n{i}"):
                (self.dir / name).mkdir()
        lines.append("PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE DefaultTime=10 State=UP\n")
        (self.dir / "slurm.conf").write_text("".join(lines))
        (self.dir / "cgroup.conf").write_text("CgroupAutomount=no\nConstrainCores=no\nConstrainRAMSpace=no\n")
        names = "".join(f"127.0.0.1 n{i}\n" for i in range(1, self.nodes + 1))
        (self.dir / "hosts").write_text(pathlib.Path("/etc/hosts").read_text() + names)
        (self.dir / "munge").mkdir(mode=0o700)
        key = self.dir / "munge" / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)

    def spawn(self, *command):
        with open(self.dir / "daemons.log", "ab") as log:
            self.children.append(subprocess.Popen(command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log,
                                                  stderr=log, start_new_session=True))

    def spawn_node(self, i):
        """Starts slurmd with a host name and a /dev/shm of its own. Otherwise ranks on different nodes would share
        names in /dev/shm, and Open MPI's shared-memory transport would crash."""
        inside = ('hostname "$1" && mount --bind "$2" /etc/hosts && mount -t tmpfs -o mode=1777 tmpfs /dev/shm && '
                  'shift 2 && exec "$@"')
        self.spawn("unshare", "--uts", "--mount", "--propagation", "private", "bash", "-c", inside, "_", f"n{i}",
                   str(self.dir / "hosts"), program("slurmd"), "-D", "-c", "-N", f"n{i}", "-f",
                   self.environment["SLURM_CONF"])

    def start(self):
        self.dir.chmod(0o755)
        (self.dir / "state").mkdir()
        self.write_files()
        self.spawn(f"{SBIN}/munged", "--foreground", "--force", f"--key-file={self.dir}/munge/key",
                   f"--socket={self.dir}/munge.socket", f"--pid-file={self.dir}/munged.pid",
                   f"--log-file={self.dir}/munged.log", f"--seed-file={self.dir}/munge/seed", "--num-threads=2")
        self.wait_for("munged", lambda: (self.dir / "munge.socket").exists())
        self.spawn(program("slurmctld"), "-D", "-c", "-f", self.environment["SLURM_CONF"])
        for i in range(1, self.nodes + 1):
            self.spawn_node(i)
        self.wait_for("idle nodes", lambda: self.tell("sinfo", "-h", "-N", "-o", "%T").split() == ["idle"] * self.nodes)

    def wait_for(self, what, condition, seconds=60):
        deadline = time.monotonic() + seconds
        while not condition():
            dead = [c.args[0] for c in self.children if c.poll() is not None]
            if dead or time.monotonic() > deadline:
                raise RuntimeError(f"no {what}; ended: {dead}\n{self.logs()}")
            time.sleep(0.1)

    def logs(self):
        return "\n".join(f"--- {p.name}\n" + "\n".join(p.read_text(errors="replace").splitlines()[-15:])
                         for p in sorted(self.dir.glob("*.log")))

    # --------------------------------------------------------------- using

    def tell(self, *command):
        """Standard output of a command; "" if it fails."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        return done.stdout if done.returncode == 0 else ""

    def job(self, number):
        """The fields of `scontrol show job` as a dictionary."""
        words = self.tell("scontrol", "-o", "show", "job", str(number)).split()
        return dict(w.split("=", 1) for w in words if "=" in w)

    # ------------------------------------------------------------ stopping

    def left_behind(self):
        """Yields the process ids of this cluster's step daemons, which outlive slurmd."""
        mine = f"SLURM_CONF={self.environment['SLURM_CONF']}".encode()
        for path in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if (path / "comm").read_text().strip() == "slurmstepd" and \
                        mine in (path / "environ").read_bytes().split(b"\0"):
                    yield int(path.name)
            except OSError:
                continue

    def stop(self):
        self.tell("scancel", "--user=root")
        deadline = time.monotonic() + 20
        while self.tell("squeue", "-h") and time.monotonic() < deadline:
            time.sleep(0.2)
        for child in reversed(self.children):
            child.terminate()
        for child in reversed(self.children):
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        for pid in self.left_behind():
            os.kill(pid, signal.SIGKILL)


def main():
    why = missing()
    if why:
        sys.exit(why)
    directory = pathlib.Path(sys.argv[1]).resolve()
    directory.mkdir(parents=True)
    cluster = Cluster(directory, int(sys.argv[2]) if len(sys.argv) > 2 else 2)
    try:
        cluster.start()
        print(f"export SLURM_CONF={directory}/slurm.conf", flush=True)
        signal.pause()
    except KeyboardInterrupt:
        pass
    finally:
        cluster.stop()
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
