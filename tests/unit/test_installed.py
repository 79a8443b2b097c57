# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""RDMA, haproxy, keepalived, Ceph and Open vSwitch: files and answers as their documentation prints them."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import flows, installed, losses, tunnels
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.objects import objects
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.target import Target
from ansible_collections.netops.fleet.plugins.module_utils._evidence import installed as reader
from ansible_collections.netops.fleet.plugins.module_utils._evidence import ovs, rdma
from ansible_collections.netops.fleet.plugins.module_utils._evidence.drops import Drops
from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Section
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet.virtual import VirtualAddresses
from tests.unit.hosts import healthy, link


def told(drops: dict[str, Any] | None = None, **found: Any) -> list[tuple[str, str, str]]:
    counted = {"drops": {"seconds": 2.0, "reset": False, "layers": {"rdma": drops or {}}}}
    return [(one.id, one.severity, one.subject) for one in installed.find(Facts(healthy(installed=found, **counted)))]


def put(root: Path, **content: str) -> None:
    for name, text in content.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[list[bytes]]:
    """A server on a Unix socket that gives every request the same answer, in two pieces."""
    path.parent.mkdir(parents=True, exist_ok=True)
    asked: list[bytes] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        server.listen(8)

        def work() -> None:
            while True:
                try:
                    one, _address = server.accept()
                except OSError:
                    return
                with one:
                    asked.append(one.recv(1 << 16))
                    if not asked[-1]:
                        return
                    one.sendall(answer[: len(answer) // 2])
                    one.sendall(answer[len(answer) // 2 :])

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield asked
        finally:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as last:
                last.connect(str(path))
            thread.join()


def test_nothing_installed_is_silent(tmp_path: Path) -> None:
    found = reader.read(str(tmp_path))
    assert found.data == dict.fromkeys(("rdma", "haproxy", "keepalived", "ceph", "ovs", "gpu")) and not found.gaps
    assert told(**found.data) == []


# --- RDMA


def test_rdma_ports_and_counters(tmp_path: Path) -> None:
    port = "sys/class/infiniband/mlx5_0/ports/1"
    put(
        tmp_path,
        **{
            f"{port}/state": "4: ACTIVE\n",
            f"{port}/phys_state": "5: LinkUp\n",
            f"{port}/rate": "400 Gb/sec (4X NDR)\n",
            f"{port}/link_layer": "InfiniBand\n",
            f"{port}/counters/symbol_error": "7\n",
            f"{port}/counters/port_xmit_data": "123456\n",
            f"{port}/hw_counters/out_of_sequence": "9\n",
        },
    )
    folder = str(tmp_path / "sys/class/infiniband")
    ports = rdma.ports(folder)
    assert ports == [
        {
            "device": "mlx5_0",
            "port": "1",
            "state": "ACTIVE",
            "physical": "LinkUp",
            "rate": "400 Gb/sec (4X NDR)",
            "layer": "InfiniBand",
        }
    ]
    assert rdma.counters(folder) == {"mlx5_0/1 symbol_error": 7, "mlx5_0/1 out_of_sequence": 9}
    assert objects(healthy(installed={"rdma": ports}))["rdma mlx5_0/1"] == "ACTIVE, 400 Gb/sec (4X NDR), InfiniBand"


@pytest.mark.parametrize(
    ("counters", "wrong"),
    [
        ({"symbol_error": 1}, True),
        ({"out_of_sequence": 9}, False),  # a few under load
        ({"out_of_sequence": 9, "packet_seq_err": 5}, True),
        ({"symbol_error": 0}, False),
        ({"symbol_error": None}, False),  # reset
    ],
)
def test_rdma_errors(counters: dict[str, int | None], wrong: bool) -> None:
    drops = {f"mlx5_0/1 {name}": {"delta": delta, "total": 99} for name, delta in counters.items()}
    assert told(drops) == ([("rdma-errors", "warning", "mlx5_0/1")] if wrong else [])


# --- haproxy

CSV = """# pxname,svname,qcur,status,lastchg,check_status,check_code,last_chk,
web,FRONTEND,,OPEN,,,,,
web,gpu-01,0,UP,100,L7OK,200,HTTP status check returned code <200>,
web,gpu-02,0,{0},35,L4CON,,Connection refused at step 1 (token=hunter2),
web,gpu-03,0,MAINT,35,,,,
web,BACKEND,0,{1},100,,,,
api,one,0,no check,100,,,,
api,BACKEND,0,UP,100,,,,

"""


@pytest.mark.parametrize(
    ("server", "backend", "wanted"),
    [
        ("UP", "UP", []),
        ("UP 1/3", "UP", []),
        ("DRAIN", "UP", []),
        ("DOWN", "UP", [("haproxy-server-down", "warning", "web/gpu-02")]),
        ("DOWN 1/2", "UP", [("haproxy-server-down", "warning", "web/gpu-02")]),
        ("DOWN", "DOWN", [("haproxy-server-down", "critical", "web")]),
    ],
)
def test_haproxy(tmp_path: Path, server: str, backend: str, wanted: list[tuple[str, str, str]]) -> None:
    path = tmp_path / "h.sock"
    put(
        tmp_path,
        **{"etc/haproxy/haproxy.cfg": f"global\n  # stats socket /nowhere\n  stats socket {path} mode 660 level admin\n"},
    )
    with answering(path, CSV.format(server, backend).encode()) as asked:
        found = reader.read(str(tmp_path))
    assert asked[0] == b"show stat\n" and not found.gaps
    assert "hunter2" not in json.dumps(found.data)
    assert told(**found.data) == wanted


def test_haproxy_that_does_not_answer_is_a_gap(tmp_path: Path) -> None:
    path = tmp_path / "h.sock"
    put(tmp_path, **{"etc/haproxy/haproxy.cfg": f"global\n  stats socket {path}\n"})
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
    found = reader.read(str(tmp_path))
    assert [gap.what for gap in found.gaps] == ["installed.haproxy"] and told(**found.data) == []


# --- keepalived

CONFIG = """
! a comment with { braces
global_defs { router_id gpu }
vrrp_instance VI_1 {
    state MASTER
    interface eth0
    virtual_router_id 51   # number
    priority 150
    authentication { auth_type PASS
        auth_pass hunter2 }
    track_interface { eth0 }
    virtual_ipaddress {
        192.0.2.100/24 dev eth0 label eth0:vip
        2001:db8::100
    }
}
vrrp_instance "VI 2" { interface eth1
  virtual_router_id 52
  virtual_ipaddress { 192.0.2.101 } }
virtual_server 192.0.2.100 80 { real_server 192.0.2.5 80 { weight 1 } }
"""


def test_virtual_instances() -> None:
    found = reader.instances(CONFIG)
    assert found == [
        {"name": "VI_1", "interface": "eth0", "router": 51, "addresses": ["192.0.2.100", "2001:db8::100"]},
        {"name": "VI 2", "interface": "eth1", "router": 52, "addresses": ["192.0.2.101"]},
    ]
    assert "hunter2" not in json.dumps(found)


def seat(number: int, *more: str, running: bool = True, up: bool = True) -> dict[str, Any]:
    addresses = [
        {"link": "eth0", "family": 4, "address": one, "prefix": 24, "scope": "global", "flags": []}
        for one in (f"192.0.2.{number}", *more)
    ]
    one = {"name": "VI_1", "interface": "eth0", "router": 51, "addresses": ["192.0.2.100"]}
    keepalived = {"running": running, "instances": [one]}
    return healthy(links=[link(up=up)], addresses=addresses, installed={"keepalived": keepalived})


def lost(*hosts: dict[str, Any]) -> list[list[str]]:
    table = VirtualAddresses()
    for number, evidence in enumerate(hosts):
        table.count(f"lb-{number}", evidence)
    return [one.evidence for one in table.findings("lb-0", hosts[0])]


def test_virtual_addresses_that_nobody_has() -> None:
    assert lost(seat(1, "192.0.2.100"), seat(2)) == lost(seat(1), seat(2, "192.0.2.100")) == []
    assert lost(seat(1)) == [], "the other one is not in the run"
    assert lost(seat(1, running=False), seat(2, up=False)) == [
        [
            "lb-0: keepalived does not run, without the address",
            "lb-1: its interface eth0 is down, or not there, without the address",
            "virtual router 51",
        ]
    ]


# --- Ceph


def ceph(status: str, **checks: Any) -> dict[str, Any] | None:
    given = {
        name: {"severity": severity, "summary": {"message": f"{name} it is", "count": 1}, "muted": muted}
        for name, (severity, muted) in checks.items()
    }
    return reader.health(json.dumps({"status": status, "checks": given, "mutes": []}))


@pytest.mark.parametrize(
    ("health", "severity"),
    [
        (ceph("HEALTH_OK"), None),
        (ceph("HEALTH_WARN", OSD_DOWN=("HEALTH_WARN", False)), "warning"),
        (ceph("HEALTH_WARN", SLOW_OPS=("HEALTH_WARN", False)), "warning"),
        (ceph("HEALTH_WARN", OSD_DOWN=("HEALTH_WARN", True)), None),
        (ceph("HEALTH_WARN", POOL_NO_REDUNDANCY=("HEALTH_WARN", False)), None),
        (ceph("HEALTH_ERR", POOL_FULL=("HEALTH_ERR", False)), "critical"),
        (reader.health("not JSON"), None),
    ],
)
def test_ceph(health: dict[str, Any] | None, severity: str | None) -> None:
    assert told(ceph=health) == ([("ceph-unhealthy", severity, "Ceph")] if severity else [])


# --- Open vSwitch (RFC 7047, 5.1: sets of one are the value itself, maps are lists of pairs)

UUID = "36bef046-7da7-43a5-905a-c17899216fcb"


def interface(
    name: str = "vx0", kind: str = "vxlan", error: Any = None, bfd: str | None = None, **options: str
) -> dict[str, Any]:
    return {
        "name": name,
        "type": kind,
        "error": error or ["set", []],
        "link_state": "up",
        "options": ["map", [[key, value] for key, value in options.items()]],
        "bfd_status": ["map", [["state", bfd], ["diagnostic", "No Diagnostic"]] if bfd else []],
        "cfm_fault": ["set", []],
    }


def database(*interfaces: dict[str, Any], done: int = 7, connected: bool = True, mode: Any = None) -> bytes:
    rows: list[list[dict[str, Any]]] = [
        [{"cur_cfg": done, "next_cfg": 7, "ovs_version": "3.1.0"}],
        [{"name": "br-int", "fail_mode": mode or ["set", []], "controller": ["uuid", UUID]},
         {"name": "br-ex", "fail_mode": ["set", []], "controller": ["set", []]}],
        [{"_uuid": ["uuid", UUID], "target": "tcp:192.0.2.9:6653", "is_connected": connected}],
        [interface("br-int", "internal"), *interfaces],
    ]  # fmt: skip
    return json.dumps({"id": 1, "error": None, "result": [{"rows": one} for one in rows]}).encode()


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (database(interface(bfd="up", remote_ip="192.0.2.7")), []),
        (database(interface(remote_ip="flow", key="flow")), []),
        (database(interface(bfd="down", remote_ip="192.0.2.7")), [("ovs-tunnel-down", "critical", "vx0")]),
        (
            database(interface("eth9", "", "could not open network device eth9 (No such device)")),
            [("ovs-port-broken", "warning", "eth9")],
        ),
        (database(connected=False), [("ovs-controller-lost", "warning", "br-int")]),
        (database(connected=False, mode="secure"), [("ovs-controller-lost", "critical", "br-int")]),
        (database(done=5), [("ovs-not-applied", "critical", "ovs-vswitchd")]),
    ],
)
def test_ovs(tmp_path: Path, answer: bytes, wanted: list[tuple[str, str, str]]) -> None:
    section = Section(None)
    with answering(tmp_path / "run/openvswitch/db.sock", answer) as asked:
        found = ovs.read(section, str(tmp_path))
    assert [gap.what for gap in section.gaps] == ["installed.ovs.flows"], "nothing says where ovs-vswitchd listens"
    assert told(ovs=found) == wanted
    assert {one["op"] for one in json.loads(asked[0])["params"][1:]} == {"select"}, "it is only read"


@pytest.mark.parametrize(
    "answer", [b"", b"{}", b'{"id":1,"error":{"error":"x"},"result":null}', b'{"id":1,"error":null,"result":[]}']
)
def test_ovs_that_answers_otherwise_is_a_gap(tmp_path: Path, answer: bytes) -> None:
    section = Section(None)
    with answering(tmp_path / "run/openvswitch/db.sock", answer):
        assert ovs.read(section, str(tmp_path)) is None
    assert [gap.what for gap in section.gaps] == ["installed.ovs"]


#: What Open vSwitch 3.1.0 answered (bridge/dump-flows; userspace datapath) after three connections to 10.0.0.2:1678 were tried.
OWN = """table_id=254, duration=5s, n_packets=0, n_bytes=0, priority=2,recirc_id=0,actions=drop
table_id=254, duration=5s, n_packets=0, n_bytes=0, priority=0,reg0=0x1,actions=controller(reason=)
table_id=254, duration=5s, n_packets=6, n_bytes=516, priority=0,reg0=0x2,actions=drop
table_id=254, duration=5s, n_packets=0, n_bytes=0, priority=0,reg0=0x3,actions=drop
"""
NORMAL = "duration=5s, n_packets=0, n_bytes=0, priority=0,actions=NORMAL\n" + OWN
DROPS = """duration=6s, n_packets=3, n_bytes=222, priority=100,tcp,tp_dst=1678,actions=drop
duration=5s, n_packets=7, n_bytes=586, priority=0,actions=goto_table:3
table_id=3, duration=5s, n_packets=0, n_bytes=0, priority=90,tcp,nw_dst=192.0.2.0/24,tp_dst=0x10/0xfff0,actions=drop
""" + OWN  # fmt: skip


@pytest.mark.parametrize(
    ("text", "target", "wanted"),
    [
        (OWN, None, ["ovs-bridge-empty"]),
        (NORMAL, None, []),
        (DROPS, None, []),
        (DROPS, Target("tcp", 1678), ["ovs-flow-drops"]),
        (DROPS, Target("tcp", 1678, "10.0.0.2"), ["ovs-flow-drops"]),
        (DROPS, Target("udp", 1678), []),
        (DROPS, Target("tcp", 17, "192.0.2.7"), []),
    ],
)
def test_flows_of_ovs(tmp_path: Path, text: str, target: Target | None, wanted: list[str]) -> None:
    section = Section(None)
    rows = json.loads(database(mode="secure"))
    rows["result"][1]["rows"].pop()  # one bridge, as the other end answers once
    folder = tmp_path / "run/openvswitch"
    with answering(folder / "db.sock", json.dumps(rows).encode()):
        (folder / "ovs-vswitchd.pid").write_text("7\n", encoding="ascii")
        with answering(folder / "ovs-vswitchd.7.ctl", json.dumps({"id": 1, "result": text, "error": None}).encode()) as asked:
            found = ovs.read(section, str(tmp_path))
    assert not section.gaps and json.loads(asked[0])["method"] == "bridge/dump-flows"
    evidence = {**healthy(installed={"ovs": found}), "target": target.to_dict() if target else None}
    got = flows.find(Facts(evidence))
    assert [one.id for one in got] == wanted
    if wanted == ["ovs-flow-drops"]:
        assert got[0].fix[0].endswith("--strict del-flows br-int table=0,priority=100,tcp,tp_dst=1678")


def test_flows_of_ovs_that_are_refused_are_a_gap(tmp_path: Path) -> None:
    section = Section(None)
    folder = tmp_path / "run/openvswitch"
    with answering(folder / "db.sock", database()):
        (folder / "ovs-vswitchd.pid").write_text("7\n", encoding="ascii")
        found = ovs.read(section, str(tmp_path))
    assert [gap.what for gap in section.gaps] == ["installed.ovs.flows"]
    assert found and all(one["flows"] is None for one in found["bridges"])


@pytest.mark.parametrize(
    ("match", "target", "wanted"),
    [
        ("tcp,nw_dst=192.0.2.0/24,tp_dst=0x10/0xfff0", Target("tcp", 17, "192.0.2.7"), True),
        ("tcp,nw_dst=192.0.2.0/24,tp_dst=0x10/0xfff0", Target("tcp", 32, "192.0.2.7"), False),
        ("tcp,nw_dst=192.0.2.0/24,tp_dst=0x10/0xfff0", Target("tcp", 17, "192.0.3.7"), False),
        ("tcp6,ipv6_dst=2001:db8::/64,tp_dst=443", Target("tcp", 443, "2001:db8::7"), True),
        ("ip,nw_dst=192.0.2.11", Target("tcp", 443), True),
        ("ip,nw_dst=192.0.2.12", Target("tcp", 443), False),
        ("tcp,tp_src=443,tp_dst=443", Target("tcp", 443), False),
        ("in_port=2", Target("tcp", 443), False),
        ("", Target("tcp", 443), False),
    ],
)
def test_which_flow_names_the_target(match: str, target: Target, wanted: bool) -> None:
    assert flows.meets(match, target, ["192.0.2.11"]) is wanted


def test_a_flow_of_the_usual_priority() -> None:
    text = "duration=5s, n_packets=3, n_bytes=222, tcp,tp_dst=80,actions=drop\nnonsense\n"
    assert ovs.flows(text) == {
        "count": 1,
        "drops": [{"table": 0, "priority": 32768, "match": "tcp,tp_dst=80", "packets": 3}],
    }


#: What Open vSwitch 3.1.0 answered: a datapath in user space, and the kernel's as ovs-dpctl(8) and upcall/show print it.
SHOWN = """netdev@ovs-netdev:
  lookups: hit:6 missed:313 lost:{0}
  flows: 0
  port 0: ovs-netdev (tap)
  port 1: lost:9 (tap)
system@ovs-system:
  lookups: hit:1024 missed:77 lost:{1}
  flows: 12
  masks: hit:1300 total:3 hit/pkt:1.18
  port 0: ovs-system (internal)
"""
UPCALLS = """netdev@ovs-netdev:
  flows         : (current 4) (avg 3) (max 11) (limit 10000)
  dump duration : 1ms
  ufid enabled : true

  4: (keys 4)
system@ovs-system:
  flows         : (current {0}) (avg 200000) (max 231004) (limit 200000) (offloaded 12)
  dump duration : 911ms
  ufid enabled : true

"""


def test_what_the_datapaths_of_ovs_lose_and_hold() -> None:
    assert ovs.lost(SHOWN.format(0, 17)) == {"netdev@ovs-netdev": 0, "system@ovs-system": 17}
    assert ovs.held(UPCALLS.format(199_999)) == [
        {"name": "netdev@ovs-netdev", "flows": 4, "limit": 10000},
        {"name": "system@ovs-system", "flows": 199_999, "limit": 200_000},
    ]
    assert ovs.lost("  lookups: hit:1 missed:1 lost:1\n") == {} and ovs.held("") == []


@pytest.mark.parametrize(
    ("counted", "flows_now", "wanted"),
    [
        ({}, 12, []),
        ({"system@ovs-system lost": {"delta": 0, "total": 900}}, 199_999, []),  # lost before the window
        ({"system@ovs-system lost": {"delta": None, "total": 3}}, 12, []),  # begun anew
        ({"system@ovs-system lost": {"delta": 3, "total": 900}}, 12, [("system@ovs-system", {"lost": 3, "full": False})]),
        ({"system@ovs-system lost": {"delta": 3, "total": 9}}, 200_000, [("system@ovs-system", {"lost": 3, "full": True})]),
        ({}, 200_000, [("system@ovs-system", {"lost": 0, "full": True})]),
        # Of which of the two, the counter does not say.
        ({"upcall_flow_limit_hit": {"delta": 5, "total": 5}}, 12, []),
    ],
)
def test_datapaths_of_ovs(counted: dict[str, Any], flows_now: int, wanted: list[tuple[str, dict[str, Any]]]) -> None:
    switch = {"datapaths": ovs.held(UPCALLS.format(flows_now)), "bridges": [], "interfaces": [], "behind": 0}
    drops = {"seconds": 2.0, "reset": False, "layers": {"ovs": counted}}
    got = losses.find(Facts(healthy(installed={"ovs": switch}, drops=drops)))
    assert [(one.subject, one.data) for one in got] == wanted
    assert {(one.id, one.severity) for one in got} <= {("ovs-datapath-overloaded", "warning")}


def test_a_limit_that_the_only_datapath_met_within_the_window() -> None:
    switch = {"datapaths": [{"name": "system@ovs-system", "flows": 7, "limit": 200_000}]}
    drops = {"seconds": 2.0, "reset": False, "layers": {"ovs": {"upcall_flow_limit_hit": {"delta": 5, "total": 8}}}}
    (found,) = losses.find(Facts(healthy(installed={"ovs": switch}, drops=drops)))
    assert found.data == {"lost": 0, "full": True} and "upcall_flow_limit_hit grew by 5 in 2.0 s" in found.evidence


def unixctl(answer: Any, error: Any = None) -> bytes:
    return json.dumps({"id": 1, "result": answer, "error": error}).encode()


def test_counters_of_ovs(tmp_path: Path) -> None:
    assert ovs.counters(str(tmp_path)) == {}, "it does not run"
    folder = tmp_path / "run/openvswitch"
    with answering(folder / "ovs-vswitchd.7.ctl", unixctl(SHOWN.format(2, 17))) as asked:
        (folder / "ovs-vswitchd.pid").write_text("7\n", encoding="ascii")
        assert ovs.counters(str(tmp_path)) == {"netdev@ovs-netdev lost": 2, "system@ovs-system lost": 17}
    assert [json.loads(one)["method"] for one in asked if one] == ["dpctl/show", "coverage/read-counter"], "it is only read"


@pytest.mark.parametrize("answer", [b"", unixctl(None, "no such command\n")])
def test_counters_of_ovs_that_are_refused_raise(tmp_path: Path, answer: bytes) -> None:
    folder = tmp_path / "run/openvswitch"
    with answering(folder / "ovs-vswitchd.7.ctl", answer):
        (folder / "ovs-vswitchd.pid").write_text("7\n", encoding="ascii")
        with pytest.raises(ValueError, match=r"no whole answer|no such command"):
            ovs.counters(str(tmp_path))
    (folder / "ovs-vswitchd.pid").write_text("8\n", encoding="ascii")
    with pytest.raises(OSError, match="No such file"):
        ovs.counters(str(tmp_path))


def test_counters_that_nobody_tells_are_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> dict[str, int]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(ovs, "counters", refuse)
    drops = Drops()
    section = drops.end(drops.begin())
    assert "drops.ovs" in {gap.what for gap in section.gaps} and "ovs" not in section.data["layers"]


def test_an_ovs_tunnel_whose_other_end_is_gone() -> None:
    one = {"name": "vx0", "type": "vxlan", "options": {"remote_ip": "192.0.2.7"}}
    gone = [{"family": 4, "dev": "eth0", "address": "192.0.2.7", "mac": None, "state": "failed"}]
    route = {"family": 4, "table": 254, "type": "unicast", "dst": "192.0.2.0/24", "dev": "eth0"}
    evidence = healthy(installed={"ovs": {"interfaces": [one]}}, neighbours=gone, routes=[route])
    assert [(found.id, found.subject) for found in tunnels.find(Facts(evidence))] == [("overlay-peer-dead", "vx0 to 192.0.2.7")]
    evidence["sections"]["neighbours"] = []
    assert tunnels.find(Facts(evidence)) == []


@given(st.text(max_size=400))
def test_whatever_they_say_nothing_breaks(text: str) -> None:
    reader.instances(text)
    reader.statistics(text)
    reader.health(text)
    ovs.lost(text)
    ovs.held(text)
