# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mesh over real links: hosts of two racks on two bridges, read and joined as the controller does it.

Witness of each fault: the rule, MTU or process that makes it, and ping's own statistics.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import mesh, report, store
from tests.kernel.conftest import Namespace, until
from tests.unit import evidence_samples as samples

pytestmark = pytest.mark.kernel

ROW = """
import json, sys
from ansible_collections.netops.fleet.plugins.module_utils._evidence import mesh
section = mesh.read(json.loads(sys.argv[1]), 2.0)
print(json.dumps({**section.data, "gaps": [one.to_dict() for one in section.gaps]}))
"""
RECEIVE = """
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("0.0.0.0", 7777))
sock.settimeout(1.5)
print("ready", flush=True)
try:
    print(len(sock.recv(65535)), flush=True)
except TimeoutError:
    print("nothing", flush=True)
"""
SEND = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.IPPROTO_IP, 10, 3)
for _again in range(3):
    sock.sendto(bytes(int(sys.argv[2])), (sys.argv[1], 7777))
"""
Make = Callable[[], Namespace]


class Segment:
    """gpu-0 .. gpu-5: three hosts on each of two bridges, which a cable joins."""

    def __init__(self, make_ns: Make, hosts: int = 6) -> None:
        self.names = [f"gpu-{number}" for number in range(hosts)]
        self.groups = {name: ["gpu-nodes", f"rack-{number * 2 // hosts}"] for number, name in enumerate(self.names)}
        self.address = {name: f"10.66.0.{number + 1}" for number, name in enumerate(self.names)}
        self.switches = [make_ns(), make_ns()]
        for switch in self.switches:
            switch.run(["ip", "link", "add", "br0", "type", "bridge", "forward_delay", "0"])
            switch.run(["ip", "link", "set", "br0", "up"])
        first, second = self.switches
        first.run(["ip", "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", second.name])
        for switch in self.switches:
            switch.run(["ip", "link", "set", "cable", "master", "br0", "up"])
        self.hosts = {}
        for number, name in enumerate(self.names):
            host, switch = make_ns(), self.switches[number * 2 // hosts]
            host.run(["ip", "link", "add", "eth0", "type", "veth", "peer", "name", f"port{number}", "netns", switch.name])
            switch.run(["ip", "link", "set", f"port{number}", "master", "br0", "up"])
            host.run(["ip", "addr", "add", f"{self.address[name]}/24", "dev", "eth0"])
            host.run(["ip", "-6", "addr", "add", f"fd66::{number + 1}/64", "dev", "eth0", "nodad"])
            host.run(["ip", "link", "set", "eth0", "up"])
            self.hosts[name] = host
        # A bridge passes nothing on to a port whose carrier it has not heard of yet.
        until(lambda: {port["state"] for one in self.switches for port in one.json(["bridge", "-j", "link"])} == {"forwarding"})

    def report(self, folder: Path, silent: tuple[str, ...] = ()) -> dict[str, Any]:
        """report.json after every host but those silent made its row, all at once as in a play."""
        evidence = {}
        rows = {}
        for name in self.names:
            if name in silent:
                continue
            peers = [{"host": one, "address": self.address[one]} for one in mesh.select(self.names, name, 8, "try")]
            rows[name] = self.hosts[name].start(["python3", "-c", ROW, json.dumps(peers)])
        for number, (name, process) in enumerate(rows.items()):
            assert process.stdout is not None
            section = json.loads(process.stdout.read())
            assert section.pop("gaps") == []
            one = samples.host(number + 1)
            one["sections"]["mesh"] = section
            one["coverage"].append({"section": "mesh", "status": "ok", "seconds": section["seconds"], "gaps": []})
            evidence[name] = samples.sealed(one)
        run = samples.run(folder, evidence, dict.fromkeys(silent, ("unreachable", "no route to host")), self.groups, None)
        run = store.Run(**{**vars(run), "options": {"mesh_peers": 8}})
        store.write_run(run)
        found: dict[str, Any] = json.loads(Path(report.build(run).json).read_text(encoding="utf-8"))
        found["by"] = {one["name"]: one for one in found["hosts"]}
        return found

    def arrives(self, source: str, target: str, size: int) -> bool:
        """Whether a datagram that may not be cut gets through: the witness, which knows nothing of echo requests."""
        receiver = self.hosts[target].start_python(RECEIVE)
        self.hosts[source].python(SEND, self.address[target], str(size))
        assert receiver.stdout is not None
        return receiver.stdout.readline().strip() == str(size)

    def drop(self, host: str, *rules: str) -> None:
        ruleset = "\n".join(f"add rule netdev bad ingress {rule}" for rule in rules)
        self.hosts[host].run(
            ["nft", "-f", "-"],
            input="add table netdev bad\n"
            'add chain netdev bad ingress { type filter hook ingress device "eth0" priority 0; }\n' + ruleset,
        )


def blamed(built: dict[str, Any]) -> list[tuple[str, str, list[str]]]:
    return [(one["trouble"], one["kind"], one["names"]) for one in built["mesh"]["blamed"] if one["trouble"] != "slow"]


@pytest.fixture
def segment(make_ns: Make) -> Segment:
    return Segment(make_ns)


def test_a_healthy_segment_has_no_finding_and_says_how_long_packets_take(segment: Segment, tmp_path: Path) -> None:
    built = segment.report(tmp_path)
    assert blamed(built) == []
    head = built["mesh"]
    assert (head["hosts"], head["rows"], head["pairs"], head["planned"], head["missing"]) == (6, 6, 30, 30, [])
    assert head["lost_percent"] == 0 and 0 < head["rtt_ms"]["p50"] <= head["rtt_ms"]["p99"] <= head["rtt_ms"]["max"]
    # One kernel, one clock: what is told is what ICMP timestamps cannot tell apart.
    assert head["clock_s"]["max"] < 1
    assert {tuple(row["groups"]) for row in head["groups"]} == {("rack-0", "rack-0"), ("rack-0", "rack-1"), ("rack-1", "rack-1")}
    assert all(one["findings"] == [] for one in built["hosts"])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Between the hosts" in page and "30 of 30 probes" in page


def test_a_host_that_loses_packets_is_named(segment: Segment, tmp_path: Path) -> None:
    third = "numgen inc mod 3 == 0 counter drop"
    segment.drop("gpu-4", f"icmp type echo-request {third}", f"icmp type echo-reply {third}")
    built = segment.report(tmp_path)
    assert blamed(built) == [("loss", "host", ["gpu-4"])]
    rules = segment.hosts["gpu-4"].run(["nft", "list", "table", "netdev", "bad"]).stdout
    dropped = sum(int(number) for number in re.findall(r"counter packets (\d+)", rules))
    lost = built["by"]["gpu-4"]["findings"][0]["data"]["hits"]
    assert 0 < lost <= dropped  # a large packet or two may be among those dropped
    told = built["by"]["gpu-4"]["findings"]
    assert [(one["id"], one["severity"]) for one in told] == [("mesh-host-bad", "warning")]
    assert "of 10 replies" in told[0]["evidence"][0]
    assert all(one["findings"] == [] for name, one in built["by"].items() if name != "gpu-4")


def test_a_cut_pair_is_named_on_both_ends(segment: Segment, tmp_path: Path) -> None:
    segment.drop("gpu-1", f"ip saddr {segment.address['gpu-5']} drop")
    built = segment.report(tmp_path)
    assert blamed(built) == [("unreached", "pair", ["gpu-1", "gpu-5"])]
    for name, one in built["by"].items():
        wanted = ["mesh-pair-bad"] if name in ("gpu-1", "gpu-5") else []
        assert [finding["id"] for finding in one["findings"]] == wanted


def test_full_size_packets_that_do_not_arrive_are_named(segment: Segment, tmp_path: Path) -> None:
    for switch, ports in ((0, ("port0", "port1", "port2", "cable")), (1, ("port3", "port4", "port5", "cable"))):
        for port in ports:
            segment.switches[switch].run(["ip", "link", "set", port, "mtu", "9000"])
    for name, host in segment.hosts.items():
        # A card that takes 1500 bytes drops what is longer: the veth of the one host that was forgotten.
        host.run(["ip", "link", "set", "eth0", "mtu", "1500" if name == "gpu-2" else "9000"])
    assert segment.arrives("gpu-0", "gpu-1", 8972) and segment.arrives("gpu-0", "gpu-2", 1400)
    assert not segment.arrives("gpu-0", "gpu-2", 8972)
    built = segment.report(tmp_path)
    assert blamed(built) == [("large", "host", ["gpu-2"])]
    finding = built["by"]["gpu-2"]["findings"][0]
    assert (finding["id"], finding["severity"], finding["grade"]) == ("mesh-host-bad", "critical", "proven")
    assert finding["data"]["way"] == "in"


def test_a_rack_that_is_cut_off_is_named_not_its_hosts(segment: Segment, tmp_path: Path) -> None:
    segment.switches[0].run(["ip", "link", "set", "cable", "down"])
    built = segment.report(tmp_path)
    assert blamed(built) == [("unreached", "between", ["rack-0", "rack-1"])]
    assert {finding["id"] for one in built["hosts"] for finding in one["findings"]} == {"mesh-group-bad"}


def test_a_host_without_evidence_is_seen_by_its_peers(segment: Segment, tmp_path: Path) -> None:
    """The controller cannot log in to two hosts: one answers its peers, the other is gone."""
    segment.hosts["gpu-3"].run(["ip", "link", "set", "eth0", "down"])
    built = segment.report(tmp_path, silent=("gpu-0", "gpu-3"))
    assert blamed(built) == [("unreached", "host", ["gpu-3"])]
    assert "4 of 4 peers reach it" in built["by"]["gpu-0"]["reason"]
    assert "0 of 4 peers reach it" in built["by"]["gpu-3"]["reason"]
    assert built["mesh"]["missing"] == ["gpu-0", "gpu-3"] and built["mesh"]["pairs"] == 20 < built["mesh"]["planned"]
    assert [one["id"] for one in built["by"]["gpu-3"]["findings"]] == ["mesh-host-bad"]


def test_a_host_that_blocks_icmp_only_is_no_bad_host(segment: Segment, tmp_path: Path) -> None:
    segment.drop("gpu-2", "icmp type { echo-request, timestamp-request } drop")
    built = segment.report(tmp_path)
    assert blamed(built) == []
    assert "5 of 5 peers reach it" in built["by"]["gpu-2"]["mesh"]["text"]


STAMPER = """
import socket, struct, sys, time
sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
sock.setsockopt(socket.SOL_SOCKET, 36, 7)  # SO_MARK: these replies may leave
print("ready", flush=True)
while True:
    data, where = sock.recvfrom(2048)
    data = data[(data[0] & 15) * 4:]
    if data[0] != 13:
        continue
    now = int((time.time() + float(sys.argv[1])) * 1000) % 86400000
    reply = b"\\x0e\\0\\0\\0" + data[4:12] + struct.pack("!II", now, now)
    total = sum(struct.unpack("!10H", reply))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    sock.sendto(reply[:2] + struct.pack("!H", ~total & 0xFFFF) + reply[4:], where)
"""


def test_a_clock_that_is_off_is_named(segment: Segment, tmp_path: Path) -> None:
    """Namespaces share a clock: a program answers timestamps in the kernel's place, 90 seconds behind."""
    host = segment.hosts["gpu-1"]
    rule = "icmp type timestamp-reply meta mark != 7 drop"
    host.run(["nft", "-f", "-"], input=f"table ip stamp {{\nchain out {{\ntype filter hook output priority 0; {rule}\n}}\n}}\n")
    host.start_python(STAMPER, "-90")
    built = segment.report(tmp_path)
    assert blamed(built) == [("clock", "host", ["gpu-1"])], built["mesh"]
    assert "clock -90" in " ".join(built["by"]["gpu-1"]["findings"][0]["evidence"])


def test_ipv6_and_what_cannot_be_told(segment: Segment) -> None:
    peers = [
        {"host": "gpu-1", "address": "fd66::2"},
        {"host": "nowhere", "address": "gone"},
        {"host": "off", "address": "fd99::1"},
    ]
    row = segment.hosts["gpu-0"].python_json(ROW, json.dumps(peers))
    first, off = row["cells"]
    assert (first["status"], first["received"], first["large"]["received"]) == ("ok", 10, 3)
    assert off["status"] == "silent" and off["detail"]
    assert {one["what"] for one in row["gaps"]} == {"mesh.clock", "mesh.nowhere"}


def test_without_privilege_the_row_says_so(segment: Segment) -> None:
    host = segment.hosts["gpu-0"]
    host.run(["sysctl", "-qw", "net.ipv4.ping_group_range=1 0"])
    setpriv = shutil.which("setpriv")
    assert setpriv is not None
    words = [setpriv, "--bounding-set=-net_raw", "--inh-caps=-all", "python3", "-c", ROW]
    done = host.run([*words, json.dumps([{"host": "gpu-1", "address": segment.address["gpu-1"]}])], env=host.environment())
    row = json.loads(done.stdout)
    assert row["cells"][0]["status"] == "error"
    assert {one["what"] for one in row["gaps"]} == {"mesh.ipv4"}
