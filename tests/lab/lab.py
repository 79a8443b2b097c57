# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet of systemd hosts on this machine, reached over SSH.

    python -m tests.lab up --name demo --hosts 6      boot; prints the inventory's path
    python -m tests.lab exec --name demo gpu01 -- ip address
    python -m tests.lab status
    python -m tests.lab down --name demo              always removes everything, also after a run that was killed

In tests:

    with Lab("mine", hosts=2) as lab:
        lab.hosts["gpu01"].run("nft list ruleset")

What a lab consists of follows from its name: containers nfl-<name>-<host>, network namespace nfl-<name>, one veth in the
machine's namespace, a folder for state and keys in the cache, a folder for sockets in /run. So `down` needs no memory of `up`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import tarfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from tests.lab import engine, image, network
from tests.lab.engine import LabError, say

FILES = Path(__file__).resolve().parent / "files"
#: What every host gets beside its keys: path on the host, source, mode.
PAYLOAD = (
    ("usr/local/bin/model-server", "model-server", 0o755),
    ("etc/systemd/system/model-server.service", "model-server.service", 0o644),
    ("usr/local/bin/netsec-agent", "netsec-agent", 0o755),
    ("etc/systemd/system/netsec-agent.service", "netsec-agent.service", 0o644),
)
_NAME = re.compile(r"\A[a-z][a-z0-9-]{0,30}\Z")
BOOT_SECONDS = 120


@dataclass(frozen=True)
class Host:
    """One host. address, address6: on the lab's network."""

    name: str
    address: str
    address6: str
    lab: Lab

    def run(
        self, command: str | Sequence[str], *, check: bool = True, input: bytes | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell line (str) or an argument list on the host over SSH. Raises LabError when check and it fails."""
        line = command if isinstance(command, str) else shlex.join(command)
        done = engine.run([*self.lab.ssh, f"root@{self.address}", line], check=False, input=input, timeout=timeout)
        text = subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )
        if check and text.returncode != 0:
            raise LabError(f"{self.name}: {line}: exit status {text.returncode}: {(text.stderr or text.stdout).strip()[-1000:]}")
        return text


class Lab:
    """A lab by its name; up() boots it, down() removes it, and as a context manager it does both."""

    def __init__(self, name: str, hosts: int = 6, *, prefix: str = "gpu", group: str = "gpu-nodes") -> None:
        if not _NAME.match(name):
            raise LabError(f"lab name {name!r}: allowed are 1 to 31 lower-case letters, digits and dashes, a letter first")
        if not 1 <= hosts <= 99:
            raise LabError(f"a lab has 1 to 99 hosts, not {hosts}")
        self.name = name
        self.folder = engine.CACHE / "labs" / name
        self.sockets = engine.RUN / name
        self.names = [f"{prefix}{number:02d}" for number in range(1, hosts + 1)]
        self.group = group
        self.net: network.Net | None = None
        self.hosts: dict[str, Host] = {}

    # --- what others read

    @classmethod
    def attach(cls, name: str) -> Lab:
        """A lab that another process booted. Raises LabError when there is none."""
        lab = cls(name)
        state = lab._state()
        if state is None or not state.get("ready"):
            raise LabError(f"no lab {name!r} is up; start it with: python -m tests.lab up --name {name}")
        lab.names, lab.group = state["hosts"], state["group"]
        lab._lay_out(state["number"])
        return lab

    @property
    def inventory(self) -> Path:
        return self.folder / "hosts.yml"

    @property
    def ssh(self) -> list[str]:
        """ssh and its options for every host of the lab; host keys are known and checked."""
        return ["ssh", "-F", "none", *self._ssh_options(), "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]

    def _ssh_options(self) -> list[str]:
        options = [
            f"UserKnownHostsFile={self.folder / 'known_hosts'}",
            "GlobalKnownHostsFile=/dev/null",
            "StrictHostKeyChecking=yes",
            "IdentitiesOnly=yes",
            f"IdentityFile={self.folder / 'id_ed25519'}",
            "KexAlgorithms=curve25519-sha256",
        ]
        return [word for option in options for word in ("-o", option)]

    # --- up

    def up(self) -> Lab:
        """Boot; returns when systemd runs on every host and SSH answers. On failure everything is taken away again."""
        engine.require()
        started = time.monotonic()
        reference = image.ensure()
        with engine.locked("labs"):
            if self._state() is not None:
                raise LabError(
                    f"there is a lab {self.name!r} already; remove it with: python -m tests.lab down --name {self.name}"
                )
            number = network.free_number(self._taken())
            self.folder.mkdir(mode=0o700, parents=True)
            self._write_state(number, ready=False)
        try:
            self._lay_out(number)
            assert self.net is not None
            self.sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._write_keys()
            self._write_inventory()
            network.build(self.net)
            say(f"lab {self.name}: booting {len(self.names)} hosts in {self.net.v4} and {self.net.v6}")
            with ThreadPoolExecutor(max_workers=min(len(self.names), 2 * (os.cpu_count() or 2))) as pool:
                for name in pool.map(lambda host: self._boot(host, reference), list(self.hosts.values())):
                    say(f"lab {self.name}: {name} is up ({time.monotonic() - started:.1f} s)")
            self._write_state(number, ready=True)
        except BaseException:
            self.down()
            raise
        say(f"lab {self.name}: ready after {time.monotonic() - started:.1f} s; inventory {self.inventory}")
        return self

    def _lay_out(self, number: int) -> None:
        self.net = network.Net(self.name, number)
        for offset, name in enumerate(self.names):
            v4, v6 = self.net.address(network.FIRST_HOST + offset)
            self.hosts[name] = Host(name, v4, v6, self)

    def _container(self, host: str) -> str:
        return f"{engine.PREFIX}-{self.name}-{host}"

    def _write_keys(self) -> None:
        for name in ["id_ed25519", *(f"host_{host}" for host in self.names)]:
            engine.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"lab-{self.name}", "-f", str(self.folder / name)])
        lines = []
        for host in self.hosts.values():
            key = (self.folder / f"host_{host.name}.pub").read_text().split()
            lines.append(f"{host.address},{host.address6},{host.name} {key[0]} {key[1]}\n")
        (self.folder / "known_hosts").write_text("".join(lines))

    def _write_inventory(self) -> None:
        """YAML by way of JSON, which is YAML: no library needed."""
        common = {
            "ansible_user": "root",
            "ansible_ssh_common_args": shlex.join(["-F", "none", *self._ssh_options()]),
            # Connections that Ansible keeps open end with the lab.
            "ansible_control_path_dir": str(self.sockets),
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        hosts = {host.name: {"ansible_host": host.address, "lab_address6": host.address6} for host in self.hosts.values()}
        tree = {"all": {"children": {self.group: {"hosts": hosts, "vars": common}}}}
        self.inventory.write_text(json.dumps(tree, indent=2) + "\n")

    def _boot(self, host: Host, reference: str) -> str:
        assert self.net is not None
        name, pidfile = self._container(host.name), self.sockets / f"{host.name}.pid"
        engine.podman(
            "create", "--name", name, "--hostname", host.name, "--label", f"{engine.LABEL}={self.name}",
            "--privileged", "--systemd=always", "--network=none", "--cgroup-parent", f"/{engine.PREFIX}-{self.name}",
            "--pidfile", str(pidfile), "--stop-timeout=5", "--restart=no", reference,
        )  # fmt: skip
        engine.podman("cp", "-", f"{name}:/", input=self._payload(host))
        engine.podman("start", name)
        network.connect(self.net, host.name, int(pidfile.read_text()), network.FIRST_HOST + self.names.index(host.name))
        deadline = time.monotonic() + BOOT_SECONDS
        while not _answers(host.address, 22):
            if time.monotonic() > deadline:
                raise LabError(f"{host.name}: sshd did not answer within {BOOT_SECONDS} s; {self._last_words(host)}")
            time.sleep(0.1)
        state = host.run("systemctl is-system-running --wait", check=False, timeout=BOOT_SECONDS).stdout.strip()
        if state != "running":
            raise LabError(f"{host.name}: systemd says {state!r}, wanted 'running'; {self._last_words(host)}")
        return host.name

    def _last_words(self, host: Host) -> str:
        """Why a host did not come up, as far as it can say."""
        line = "systemctl --failed --no-legend --plain; journalctl -b -p warning -n 20 --no-pager -o cat"
        said = engine.podman("exec", self._container(host.name), "sh", "-c", line, check=False, timeout=20)
        return (said.stdout + said.stderr).decode(errors="replace").strip()[-1500:] or "it said nothing"

    def _payload(self, host: Host) -> bytes:
        """A tar stream of what makes the image this host."""
        names = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
        for each in self.hosts.values():
            names += f"{each.address} {each.name}\n{each.address6} {each.name}\n"
        content: list[tuple[str, bytes, int]] = [
            ("etc/hosts", names.encode(), 0o644),
            ("etc/hostname", f"{host.name}\n".encode(), 0o644),
            ("etc/ssh/ssh_host_ed25519_key", (self.folder / f"host_{host.name}").read_bytes(), 0o600),
            ("etc/ssh/ssh_host_ed25519_key.pub", (self.folder / f"host_{host.name}.pub").read_bytes(), 0o644),
            ("root/.ssh/authorized_keys", (self.folder / "id_ed25519.pub").read_bytes(), 0o600),
        ]
        content += [(path, (FILES / source).read_bytes(), mode) for path, source, mode in PAYLOAD]
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as tar:
            folder = tarfile.TarInfo("root/.ssh")
            folder.type, folder.mode = tarfile.DIRTYPE, 0o700
            tar.addfile(folder)
            for path, data, mode in content:
                entry = tarfile.TarInfo(path)
                entry.size, entry.mode, entry.mtime = len(data), mode, int(time.time())
                tar.addfile(entry, io.BytesIO(data))
            link = tarfile.TarInfo("etc/systemd/system/multi-user.target.wants/model-server.service")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/systemd/system/model-server.service"
            tar.addfile(link)
        return stream.getvalue()

    # --- down

    def down(self) -> None:
        """Remove everything that carries the lab's name. Raises LabError naming what is still there."""
        engine.require()
        self._stop_boot()
        net = network.Net(self.name, 0)
        if self.sockets.is_dir():
            for path in self.sockets.iterdir():
                if path.is_socket():
                    engine.run(["ssh", "-o", f"ControlPath={path}", "-O", "exit", "lab"], check=False)
        deadline = time.monotonic() + 60
        while True:
            found = self._containers()
            if found:
                engine.podman("rm", "--force", "--time", "0", "--volumes", *found, check=False)
            network.remove(net)
            left = [f"container {name}" for name in self._containers()] + network.left(net) + self._processes()
            if not left:
                break
            if time.monotonic() > deadline:
                raise LabError(f"lab {self.name}: still there after 60 s: {', '.join(left)}")
            time.sleep(0.1)
        self._remove_cgroups()
        shutil.rmtree(self.sockets, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _stop_boot(self) -> None:
        """End an `up` of this lab that still runs in another process."""
        state = self._state() or {}
        pid = state.get("pid")
        if state.get("ready") or not pid or pid == os.getpid() or _started(pid) != state.get("pid_started"):
            return
        say(f"lab {self.name}: ending the boot that process {pid} is busy with")
        deadline = time.monotonic() + 60
        os.kill(pid, signal.SIGTERM)
        while _started(pid) == state.get("pid_started"):
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)

    def _containers(self) -> list[str]:
        listed = engine.podman(
            "ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={engine.LABEL}={self.name}", "--external=false"
        )
        return listed.stdout.decode().split()

    def _processes(self) -> list[str]:
        """podman and conmon processes that still work for this lab, also those whose starter was killed."""
        found = []
        start = f"{engine.PREFIX}-{self.name}-"
        own = re.compile(rf"(\A|\0|[/:]){re.escape(start)}[a-z]+[0-9]+(\0|:|\Z)")
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (path / "comm").read_text().strip() in ("podman", "conmon", "runc", "crun"):
                    line = (path / "cmdline").read_bytes().decode(errors="replace")
                    if own.search(line):
                        found.append(f"process {path.name} ({line.split(chr(0))[0]})")
        return found

    def _remove_cgroups(self) -> None:
        """The hosts' control groups are empty by now; the engine leaves the lab's own one."""
        for top in _cgroup_roots():
            parent = top / f"{engine.PREFIX}-{self.name}"
            for folder, _folders, _files in os.walk(parent, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)

    def __enter__(self) -> Lab:
        return self.up()

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.down()

    # --- state

    def _state(self) -> dict[str, Any] | None:
        """The state file's content; a folder without a readable one is a lab that was killed at birth."""
        try:
            found: dict[str, Any] = json.loads((self.folder / "state.json").read_text())
        except FileNotFoundError:
            return {} if self.folder.exists() else None
        except ValueError:
            return {}
        return found

    def _write_state(self, number: int, *, ready: bool) -> None:
        state = {
            "name": self.name,
            "number": number,
            "hosts": self.names,
            "group": self.group,
            "ready": ready,
            "pid": os.getpid(),
            "pid_started": _started(os.getpid()),
        }
        fresh = self.folder / "state.json.new"
        fresh.write_text(json.dumps(state) + "\n")
        fresh.replace(self.folder / "state.json")

    @staticmethod
    def _taken() -> list[int]:
        numbers = []
        for path in (engine.CACHE / "labs").glob("*/state.json"):
            with contextlib.suppress(OSError, ValueError, KeyError):
                numbers.append(int(json.loads(path.read_text())["number"]))
        return numbers


def _cgroup_roots() -> list[Path]:
    """Where control groups are mounted: one place, or one per controller."""
    with open("/proc/self/mountinfo") as mounts:
        fields = [line.split() for line in mounts]
    return [Path(each[4]) for each in fields if each[each.index("-") + 1] in ("cgroup", "cgroup2")]


def _started(pid: int) -> str | None:
    """When a process started, in ticks since boot; None when it is gone. Tells it from a later one of the same number."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def _answers(address: str, port: int) -> bool:
    """Does a server say something there? (sshd speaks first.)"""
    try:
        with socket.create_connection((address, port), timeout=2) as connection:
            return bool(connection.recv(4))
    except OSError:
        return False


def names() -> list[str]:
    """All labs of this cache, half-booted ones too."""
    folder = engine.CACHE / "labs"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


# --- command line


def _status(name: str | None) -> int:
    for each in [name] if name else names():
        lab = Lab(each)
        state = lab._state()
        if state is None:
            print(f"{each}: down")
            continue
        up = "up" if state.get("ready") else "half-way (a boot in progress, or one that was killed)"
        running = engine.podman("ps", "--quiet", "--filter", f"label={engine.LABEL}={each}").stdout.split()
        print(f"{each}: {up}, {len(running)} of {len(state.get('hosts', []))} hosts run, inventory {lab.inventory}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description="Systemd hosts in containers, reached over SSH.")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="boot a lab and print its inventory's path")
    up.add_argument("--hosts", type=int, default=6)
    up.add_argument("--prefix", default="gpu", help="hosts are called <prefix>01, <prefix>02 ... (default: gpu)")
    up.add_argument("--group", default="gpu-nodes", help="their group in the inventory (default: gpu-nodes)")
    down = commands.add_parser("down", help="remove a lab, whatever is left of it")
    down.add_argument("--storage", action="store_true", help="remove the image and the engine's storage too, if no lab is left")
    commands.add_parser("clean", help="remove all labs, the image and the engine's storage")
    status = commands.add_parser("status", help="list the labs")
    execute = commands.add_parser("exec", help="run a command on a host")
    execute.add_argument("host")
    execute.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    fault = commands.add_parser("fault", help="bring a fault in, or take it away")
    fault.add_argument("action", choices=("inject", "revert"))
    fault.add_argument("fault")
    fault.add_argument("host")
    for each in (up, down, execute, fault):
        each.add_argument("--name", required=True, help="the lab's name")
    status.add_argument("--name")
    chosen = parser.parse_args(arguments)

    def stop(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGHUP, stop)
    try:
        if chosen.command == "up":
            print(Lab(chosen.name, chosen.hosts, prefix=chosen.prefix, group=chosen.group).up().inventory)
        elif chosen.command == "down":
            Lab(chosen.name).down()
            say(f"lab {chosen.name}: nothing of it is left")
            if chosen.storage:
                remove_storage()
        elif chosen.command == "clean":
            for name in names():
                Lab(name).down()
            if engine.CACHE.exists():
                remove_storage()
        elif chosen.command == "status":
            return _status(chosen.name)
        else:
            lab = Lab.attach(chosen.name)
            if chosen.host not in lab.hosts:
                raise LabError(f"lab {chosen.name} has no host {chosen.host!r}; it has {', '.join(lab.hosts)}")
            host = lab.hosts[chosen.host]
            if chosen.command == "fault":
                from tests.lab import faults

                faults.apply(host, chosen.fault, chosen.action)
            else:
                line = shlex.join(chosen.argv[1:] if chosen.argv[:1] == ["--"] else chosen.argv)
                return subprocess.run([*lab.ssh, f"root@{host.address}", *([line] if line else [])], check=False).returncode
    except LabError as error:
        say(f"lab: {error}")
        return 1
    return 0


def remove_storage() -> None:
    """Remove the image and all the engine keeps. Raises LabError while a lab is there."""
    if names():
        raise LabError(f"labs still use the storage: {', '.join(names())}")
    with engine.locked("image"):
        if (engine.CACHE / "storage").exists():
            engine.podman("image", "rm", "--all", "--force", timeout=300)
        # The driver mounts its folder onto itself while containers run.
        with open("/proc/self/mounts") as mounts:
            points = [line.split()[1] for line in mounts]
        for point in reversed([each for each in points if each.startswith(f"{engine.CACHE}/")]):
            engine.run(["umount", point])
    shutil.rmtree(engine.CACHE, ignore_errors=True)
    shutil.rmtree(engine.RUN, ignore_errors=True)


if __name__ == "__main__":
    raise SystemExit(main())
