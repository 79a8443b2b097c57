# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The world a fault happens in: a host and its gateway, both network namespaces with files of their own.

The host (10.77.0.1, fd77::1 on ``eth0``) serves tcp/1678. The gateway (10.77.0.2, fd77::2) is its peer, resolver and time server,
and stands for 10.88.0.1 and fd88::1, addresses beyond it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.kernel.conftest import PATIENCE, Namespace

HERE = Path(__file__).resolve().parent
PORT = "1678"
#: What fault files use; the role drill gives LINK, PORT, PEER4, PEER6, GATEWAY4 and GATEWAY6 of the real host.
ENVIRONMENT = {
    "LINK": "eth0",
    "PORT": PORT,
    "HOST4": "10.77.0.1",
    "HOST6": "fd77::1",
    "PEER4": "10.77.0.2",
    "PEER6": "fd77::2",
    "GATEWAY4": "10.77.0.2",
    "GATEWAY6": "fd77::2",
    "FAR4": "10.88.0.1",
    "FAR6": "fd88::1",
}
#: A folder that host and peer share, for certificates; made and removed with each world.
SHARED = f"/tmp/nf-faults-{os.getpid()}"
#: Files of a machine at rest, with a resolver of the world.
PREPARE = """
mount -t tmpfs none /mnt
mkdir /mnt/etc /mnt/machine /mnt/bin
printf 'nameserver 10.77.0.2\\n' >/mnt/etc/resolv.conf
printf '127.0.0.1 localhost\\n::1 localhost\\n' >/mnt/etc/hosts
printf 'hosts: files dns\\n' >/mnt/etc/nsswitch.conf
for file in resolv.conf hosts nsswitch.conf; do mount --bind /mnt/etc/$file /etc/$file; done
for file in cpu memory io; do
  printf 'some avg10=0.00 avg60=0.00 avg300=0.00 total=0\\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\\n' >/mnt/machine/$file
  [ ! -e /proc/pressure/$file ] || mount --bind /mnt/machine/$file /proc/pressure/$file
done
cat /proc/diskstats >/mnt/machine/diskstats; mount --bind /mnt/machine/diskstats /proc/diskstats
: >/mnt/machine/kmsg; mount --bind /mnt/machine/kmsg /dev/kmsg
mount -t tmpfs none /usr/local/sbin
"""
_STAY = PREPARE + "echo ready; exec cat"
#: The kernel takes up to a second to use a link whose carrier went and came back.
_REACH_THE_GATEWAY = "for attempt in 1 2 3 4 5 6 7 8 9 10; do if $ASK connect $GATEWAY4 $PORT; then exit; fi; done; exit 1"
COLLECT = """
import json, sys, time
import os
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import collect
from ansible_collections.netops.fleet.plugins.module_utils._evidence import configured
if os.path.exists("/run/own"):  # a folder of the place: to see that for itself, it would have to look into the first process
    configured.ours = lambda: True
params = json.loads(sys.argv[1])
begun = time.monotonic()
evidence = collect.collect(collect.Options.from_params(params))
print(json.dumps({"seconds": time.monotonic() - begun, "evidence": evidence}))
"""


class Place(Namespace):
    """A network namespace with a mount namespace that lasts: own files of /etc, and a machine at rest."""

    def __init__(self) -> None:
        super().__init__()
        self._cgroup = ""
        self._root = subprocess.Popen(
            ["ip", "netns", "exec", self.name, "unshare", "--mount", "--uts", "--propagation", "private", "sh", "-euc", _STAY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._root.stdout is not None
        if self._root.stdout.readline().strip() != "ready":
            self.remove()
            raise AssertionError("the place's files could not be prepared")

    def argv(self, argv: list[str]) -> list[str]:
        root = getattr(self, "_root", None)
        if root is None:
            return super().argv(argv)
        if self._cgroup:
            argv = ["sh", "-euc", f'echo $$ >{self._cgroup}/cgroup.procs; exec "$@"', "sh", *argv]
        return ["nsenter", f"--target={root.pid}", "--net", "--mount", "--uts", *argv]

    def confine(self) -> None:
        """What runs here from now on is in a cgroup of its own, and sees the hierarchy."""
        folder = f"/sys/fs/cgroup/{self.name}"
        self.shell(f"mount -t cgroup2 none /sys/fs/cgroup; mkdir {folder}")
        self._cgroup = folder

    def _free(self) -> None:
        """Remove the cgroup, once the last of its processes is gone."""
        folder, self._cgroup = self._cgroup, ""
        if folder:
            left = f"while grep -q 'populated 1' {folder}/cgroup.events; do echo 1 >{folder}/cgroup.kill; done"
            self.run(["timeout", "10", "sh", "-euc", f"{left}; rmdir {folder}"])

    @staticmethod
    def environment() -> dict[str, str]:
        """Of servers, witnesses and fault lines alike."""
        return {
            **Namespace.environment(),
            **ENVIRONMENT,
            "SHARED": SHARED,
            "SSL_CERT_FILE": f"{SHARED}/ca.pem",
            "ASK": f"{sys.executable} {HERE / 'ask.py'}",
            "CERTIFY": f"sh -eu {HERE / 'certify.sh'}",
            "SERVE": f"{sys.executable} {HERE / 'services.py'}",
            "PYTHON": sys.executable,
            "BPF": f"{sys.executable} {HERE.parent / 'kernel' / 'bpf_tools.py'}",
        }

    def shell(self, lines: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run(["sh", "-euc", lines], check=check, env=self.environment())

    def serve(self, *service: str) -> subprocess.Popen[str]:
        return self.start([sys.executable, str(HERE / "services.py"), *service], "ready")

    def background(self, lines: str) -> subprocess.Popen[str]:
        """Shell lines that run until the place is removed; returns once they have printed ``ready``."""
        return self.start(["sh", "-euc", lines], "ready")

    def remove(self) -> None:
        self._free()
        for process in self._started:
            try:
                os.killpg(process.pid, 9)
            except ProcessLookupError:
                pass
        # What a file started and left on its own.
        left = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True, check=False).stdout.split()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), 9)
        super().remove()
        self._root.kill()
        self._root.wait()
        for pipe in (self._root.stdin, self._root.stdout):
            if pipe is not None:
                pipe.close()


class World:
    """Use as a context manager. host: the one that is diagnosed. peer: its gateway, resolver, time server and only peer."""

    def __init__(self, own_resolver: bool = False, fleet: int = 0) -> None:
        """own_resolver: a name server that can be ended by itself. fleet: so many more hosts, 10.77.0.11 and on."""
        self.others: list[Place] = []
        self.places: list[Place] = []
        Path(SHARED).mkdir(mode=0o700, exist_ok=True)
        try:
            self.host, self.peer = self._place(), self._place()
            self._wire()
            self._services(own_resolver)
            for number in range(fleet):
                self._join(number)
            for place in (self.host, *self.others) if fleet else ():
                place.shell(_REACH_THE_GATEWAY)
        except BaseException:
            self.remove()
            raise

    def _place(self) -> Place:
        self.places.append(Place())
        return self.places[-1]

    def _wire(self) -> None:
        # From outside: a namespace made after a place's mounts were set apart has no name in there.
        words = [
            "ip",
            "-n",
            self.host.name,
            "link",
            "add",
            "eth0",
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            self.peer.name,
        ]
        subprocess.run(words, check=True)
        self.peer.shell(
            "ip addr add $PEER4/24 dev eth0; ip -6 addr add $PEER6/64 dev eth0 nodad\n"
            "ip addr add $FAR4/32 dev lo; ip -6 addr add $FAR6/128 dev lo nodad; ip link set eth0 up\n"
            "sysctl -qw net.ipv4.ip_forward=1"
        )
        self.host.shell(
            "ip addr add $HOST4/24 dev eth0; ip -6 addr add $HOST6/64 dev eth0 nodad; ip link set eth0 up\n"
            "ip route add default via $GATEWAY4; ip -6 route add default via $GATEWAY6"
        )

    def _services(self, own_resolver: bool) -> None:
        self.server = self.host.serve("web", "::", PORT)
        steady = [f"web :: {PORT}", "ntp 10.77.0.2"]
        if own_resolver:
            self.resolver = self.peer.serve("dns", "10.77.0.2")
        else:
            steady.append("dns 10.77.0.2")
        self.peer.serve("many", *steady)

    def _join(self, number: int) -> None:
        """Another host of the segment: the gateway's end of the first link becomes a port of a bridge."""
        other, port = self._place(), f"port{number + 1}"
        if not self.others:
            self.peer.shell(
                "ip link set eth0 down; ip link set eth0 name port0; ip link add eth0 type bridge forward_delay 0\n"
                "ip addr flush dev port0; ip link set port0 master eth0; ip link set port0 up; ip link set eth0 up\n"
                "ip addr add $PEER4/24 dev eth0; ip -6 addr add $PEER6/64 dev eth0 nodad"
            )
        words = ["ip", "-n", other.name, "link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", self.peer.name]
        subprocess.run(words, check=True)
        self.peer.shell(f"ip link set {port} master eth0; ip link set {port} up")
        other.shell(
            f"ip addr add 10.77.0.{11 + number}/24 dev eth0; ip -6 addr add fd77::{11 + number}/64 dev eth0 nodad\n"
            "ip link set eth0 up; ip route add default via $GATEWAY4; ip -6 route add default via $GATEWAY6"
        )
        other.serve("web", "::", PORT)
        self.others.append(other)

    def report(self, target: str | None, ask: dict[str, Any], window: float, folder: Path) -> list[dict[str, Any]]:
        """Findings of the first host once all hosts of the fleet were read and compared, as the controller does it."""
        from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import report
        from tests.unit import evidence_samples as samples

        addresses = {"host-00": "10.77.0.1", **{f"host-{n + 1:02d}": f"10.77.0.{11 + n}" for n in range(len(self.others))}}
        names = list(addresses)
        collected = {}
        for place, name in zip([self.host, *self.others], names):
            ring = names[names.index(name) + 1 :] + names[: names.index(name)]
            peers = [{"host": one, "address": addresses[one]} for one in ring[:3]]
            collected[name] = self.collect(target, {"peers": peers, **ask}, window, place)[0]
        folder.chmod(0o700)
        target_of = collected["host-00"]["target"]
        built = report.build(samples.run(folder, collected, target=target_of))
        hosts = json.loads(Path(built.json).read_text(encoding="utf-8"))["hosts"]
        found: list[dict[str, Any]] = next(one["findings"] for one in hosts if one["name"] == "host-00")
        return found

    @staticmethod
    def parameters(target: str | None, ask: dict[str, Any], window: float) -> dict[str, Any]:
        """What the collector is asked."""
        return {
            "target": target,
            "window": window,
            "names": [],
            "ping": [],
            "http": [],
            "ntp": [],
            "services": [],
            "peers": [{"host": "gateway", "address": ENVIRONMENT["PEER4"]}],
            "set_elements": 4096,
            "probe_timeout": 1.5 * PATIENCE,
            **ask,
        }

    def collect(
        self, target: str | None, ask: dict[str, Any], window: float, place: Place | None = None
    ) -> tuple[dict[str, Any], float]:
        """(evidence of the host, or of another place, seconds it took)."""
        place = place or self.host
        params = self.parameters(target, ask, window)
        done = place.run([sys.executable, "-c", COLLECT, json.dumps(params)], env=place.environment())
        found = json.loads(done.stdout.splitlines()[-1])
        return found["evidence"], found["seconds"]

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        for place in self.places:
            place.remove()
        shutil.rmtree(SHARED, ignore_errors=True)
