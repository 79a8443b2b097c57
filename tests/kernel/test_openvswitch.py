# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Open vSwitch's own daemons, with the datapath in user space. Witnesses: connections, and the counters of ovs-ofctl."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import flows, installed, losses
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.target import Target
from ansible_collections.netops.fleet.plugins.module_utils._evidence.drops import difference
from tests.kernel.conftest import Namespace, until
from tests.unit.hosts import healthy

pytestmark = pytest.mark.kernel

READ = """
import json, sys
from ansible_collections.netops.fleet.plugins.module_utils._evidence import ovs
from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Section
section = Section(None)
found = ovs.read(section, sys.argv[1])
print(json.dumps({"found": found, "counters": ovs.counters(sys.argv[1]), "gaps": [gap.what for gap in section.gaps]}))
"""
SERVE = """
import socket, sys
server = socket.create_server(("10.78.0.1", int(sys.argv[1])))
print("ready", flush=True)
while True:
    server.accept()[0].close()
"""
CONNECT = """
import json, socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 1.0).close()
    print(json.dumps("open"))
except OSError as error:
    print(json.dumps(type(error).__name__))
"""
#: Frames of an experimental protocol, each from another address, so that each needs a flow of its own.
STRANGERS = """
import socket, sys
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
    sock.bind(("eth0", 0))
    for number in range(int(sys.argv[1])):
        sock.send(b"\\xff" * 6 + b"\\x02\\x00" + number.to_bytes(4, "big") + b"\\x88\\xb5" + bytes(46))
"""
#: ETHTOOL_STXCSUM through SIOCETHTOOL (linux/ethtool.h).
NO_OFFLOAD = """
import array, fcntl, socket, struct, sys
value = array.array("I", [0x17, 0])
with socket.socket() as sock:
    fcntl.ioctl(sock, 0x8946, struct.pack("16sP", sys.argv[1].encode(), value.buffer_info()[0]))
"""


class Switch:
    """A host whose address lives on bridge br0 of Open vSwitch, and a peer behind the bridge's only port."""

    def __init__(self, host: Namespace, peer: Namespace, folder: Path) -> None:
        self.host, self.peer, self.folder = host, peer, folder
        self.run_dir = folder / "run" / "openvswitch"
        self.run_dir.mkdir(parents=True)
        database, socket = folder / "conf.db", self.run_dir / "db.sock"
        self._tool("ovsdb-tool", "create", str(database), "/usr/share/openvswitch/vswitch.ovsschema")
        self._start("ovsdb-server", str(database), f"--remote=punix:{socket}", f"--pidfile={self.run_dir}/ovsdb-server.pid")
        until(socket.exists)
        self.vsctl("--no-wait", "init")
        self._start("ovs-vswitchd", "--disable-system", f"--pidfile={self.run_dir}/ovs-vswitchd.pid", f"unix:{socket}")
        until((self.run_dir / "ovs-vswitchd.pid").exists)
        host.run(["ip", "link", "add", "port1", "type", "veth", "peer", "name", "eth0", "netns", peer.name])
        self.vsctl("add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev", "fail_mode=secure")
        self.vsctl("add-port", "br0", "port1")
        for space, link in ((host, "port1"), (host, "br0"), (peer, "eth0")):
            space.run(["ip", "link", "set", link, "up"])
        for space, link in ((host, "br0"), (peer, "eth0")):
            space.run(["ip", "addr", "add", "10.78.0.1/24" if space is host else "10.78.0.2/24", "dev", link])
        # The peer leaves checksums to its card, and a datapath that takes packets from a raw socket is none.
        peer.python(NO_OFFLOAD, "eth0")
        self.host.start_python(SERVE, "1678")
        self.host.start_python(SERVE, "1679")

    def _argv(self, tool: str, *words: str) -> list[str]:
        places = {"OVS_RUNDIR": self.run_dir, "OVS_LOGDIR": self.folder, "OVS_DBDIR": self.folder, "OVS_SYSCONFDIR": self.folder}
        return ["env", *(f"{name}={value}" for name, value in places.items()), tool, *words]

    def _start(self, tool: str, *words: str) -> None:
        self.host.start(self._argv(tool, "-vconsole:err", *words))

    def _tool(self, tool: str, *words: str) -> str:
        return self.host.run(self._argv(tool, *words)).stdout

    def vsctl(self, *words: str) -> str:
        return self._tool("ovs-vsctl", f"--db=unix:{self.run_dir}/db.sock", *words)

    def ofctl(self, *words: str) -> str:
        return self._tool("ovs-ofctl", *words)

    def reaches(self, port: int) -> bool:
        return bool(self.peer.python_json(CONNECT, "10.78.0.1", str(port)) == "open")

    def appctl(self, *words: str) -> str:
        pid = (self.run_dir / "ovs-vswitchd.pid").read_text(encoding="ascii").strip()
        return self._tool("ovs-appctl", "-t", str(self.run_dir / f"ovs-vswitchd.{pid}.ctl"), *words)

    def read(self) -> dict[str, Any]:
        told: dict[str, Any] = self.host.python_json(READ, str(self.folder))
        assert told["gaps"] == [] and [one["name"] for one in told["found"]["bridges"]] == ["br0"]
        return told

    def findings(self, before: dict[str, int] | None = None) -> list[Finding]:
        """before: counters at the begin of the window, else it begins now."""
        told = self.read()
        layer, _reset = difference(before or told["counters"], told["counters"])
        drops = {"seconds": 2.0, "reset": False, "layers": {"ovs": layer}}
        evidence = {**healthy(installed={"ovs": told["found"]}, drops=drops), "target": Target("tcp", 1678).to_dict()}
        facts = Facts(evidence)
        return [*flows.find(facts), *installed.find(facts), *losses.datapaths(facts)]


@pytest.fixture
def switch() -> Iterator[Switch]:
    host, peer = Namespace(), Namespace()
    # A short name: the path of a socket has room for 107 bytes.
    with TemporaryDirectory(prefix="nf-ovs-", dir="/tmp") as folder:
        try:
            yield Switch(host, peer, Path(folder))
        finally:
            host.remove()
            peer.remove()


def test_an_empty_bridge_a_dropping_flow_and_their_fixes(switch: Switch) -> None:
    assert not switch.reaches(1678)
    (empty,) = switch.findings()
    assert (empty.id, empty.subject) == ("ovs-bridge-empty", "br0")

    switch.ofctl("add-flow", "br0", "priority=10,actions=NORMAL")
    until(lambda: switch.reaches(1678) and switch.reaches(1679))
    assert switch.findings() == []

    switch.ofctl("add-flow", "br0", "priority=500,tcp,tp_dst=1678,actions=drop")
    assert not switch.reaches(1678) and switch.reaches(1679)
    (drop,) = until(switch.findings)
    assert (drop.id, drop.subject) == ("ovs-flow-drops", "br0"), drop
    shown = switch.ofctl("dump-flows", "br0", "table=0")
    counted = next(line for line in shown.splitlines() if "actions=drop" in line)
    assert f"n_packets={counted.partition('n_packets=')[2].partition(',')[0]}" in drop.evidence[0]
    assert "priority=500,tcp,tp_dst=1678" in drop.evidence[0]

    # The printed command takes away that flow and no other.
    fix = next(line for line in drop.fix if not line.startswith("#"))
    done = subprocess.run(
        switch.host.argv(switch._argv("sh", "-ec", fix)), capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 0, done.stderr
    until(lambda: switch.reaches(1678))
    assert switch.findings() == [] and switch.ofctl("dump-flows", "br0").count("priority=10 ") == 1


def test_a_controller_that_is_not_there_and_a_port_without_a_device(switch: Switch) -> None:
    switch.ofctl("add-flow", "br0", "priority=10,actions=NORMAL")
    switch.vsctl("set-controller", "br0", "tcp:127.0.0.1:6653")
    switch.vsctl("--no-wait", "add-port", "br0", "eth9")
    until(lambda: "No such device" in switch.vsctl("get", "interface", "eth9", "error"))
    found = {(one.id, one.subject) for one in switch.findings()}
    assert ("ovs-controller-lost", "br0") in found and ("ovs-port-broken", "eth9") in found, found


def test_a_full_datapath_and_its_fix(switch: Switch) -> None:
    switch.ofctl("add-flow", "br0", "priority=10,actions=NORMAL")
    (datapath,) = switch.appctl("dpctl/dump-dps").split()
    before = switch.read()
    assert before["counters"] == {f"{datapath} lost": 0, "upcall_flow_limit_hit": 0}
    shown = switch.appctl("upcall/show")
    (room,) = before["found"]["datapaths"]
    assert room["name"] == datapath and f"(limit {room['limit']})" in shown
    switch.peer.python(STRANGERS, "100")
    assert switch.findings(before["counters"]) == [], "there is room"

    # The switch takes the limit over when it looks through its flows the next time.
    switch.vsctl("set", "Open_vSwitch", ".", "other_config:flow-limit=5")
    until(lambda: "(limit 5)" in switch.appctl("upcall/show"))

    def full() -> list[Finding]:
        switch.peer.python(STRANGERS, "100")
        return switch.findings(before["counters"])

    (found,) = until(full)
    assert (found.id, found.subject, found.data["full"]) == ("ovs-datapath-overloaded", datapath, True)
    assert any("at most 5" in line for line in found.evidence), found

    # Flows that are made and thrown away that fast cost packets.
    (found,) = until(lambda: [one for one in full() if one.data["lost"]])
    shown = switch.appctl("dpctl/show")
    assert int(shown.partition("lost:")[2].split()[0]) >= found.data["lost"] > 0, shown

    # The printed commands: the table of flows, and a larger limit.
    assert "(limit 5)" in switch.appctl(*found.fix[0].split()[1:])
    larger = next(line for line in found.fix if "flow-limit" in line).partition("ovs-vsctl ")[2]
    switch.vsctl(*larger.split())
    until(lambda: "(limit 5)" not in switch.appctl("upcall/show"))
    now = switch.read()["counters"]
    switch.peer.python(STRANGERS, "100")
    until(lambda: switch.findings(now) == [])
