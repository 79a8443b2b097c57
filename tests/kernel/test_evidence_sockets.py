# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sockets and drop counters against ``ss``, real connections, and packets that the test sends and counts."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = pytest.mark.kernel

ROOM = "from ansible_collections.netops.fleet.plugins.module_utils._evidence import {0}\n"
SHOW = "import json\nprint(json.dumps({'data': s.data, 'gaps': [g.to_dict() for g in s.gaps]}))\n"
NO_DIAG = (
    "from ansible_collections.netops.fleet.plugins.module_utils._kernel import sockdiag\n"
    "sockdiag.usable = lambda protocol: False\n"
)

LISTENERS = """
import socket
kept = []
def listen(family, kind, where, backlog=None, only=None):
    k = socket.socket(family, kind); kept.append(k)
    if only is not None: k.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
    k.bind(where)
    if backlog is not None: k.listen(backlog)
    return k
T, U, F4, F6 = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.AF_INET, socket.AF_INET6
listen(F4, T, ('0.0.0.0', 1678), 5)
listen(F6, T, ('::', 1679), 7, 0)
listen(F6, T, ('fd77::1', 1680), 9, 1)
listen(F4, U, ('10.77.0.1', 53))
listen(F6, U, ('::', 5353), None, 1)
"""


def read(ns: Any, code: str, **more: Any) -> Any:
    return ns.python_json(code + SHOW, **more)


@pytest.mark.parametrize("way", ["sock_diag", "proc"])
def test_listeners_are_named_with_their_process(pair: Any, way: str) -> None:
    left, _right = pair
    server = left.start_python(LISTENERS + "print('ready'); input()")
    section = read(left, ROOM.format("sockets") + (NO_DIAG if way == "proc" else "") + "s = sockets.read()\n")
    found = {(one["proto"], one["address"], one["port"]): one for one in section["data"]["listeners"]}
    assert found.keys() == {
        ("tcp", "0.0.0.0", 1678), ("tcp", "::", 1679), ("tcp", "fd77::1", 1680), ("udp", "10.77.0.1", 53), ("udp", "::", 5353),
    }  # fmt: skip
    pid = int(left.run(["ss", "-Hltnp", "sport = :1678"]).stdout.partition("pid=")[2].partition(",")[0])
    assert pid == server.pid
    assert {one["pid"] for one in found.values()} == {pid}
    comm = left.run(["cat", f"/proc/{pid}/comm"]).stdout.strip()
    assert {one["process"] for one in found.values()} == {comm}
    if way == "sock_diag":
        assert section["gaps"] == []
        assert [found["tcp", "0.0.0.0", 1678]["backlog"], found["tcp", "::", 1679]["backlog"]] == [5, 7]
        assert [found[key]["v6only"] for key in sorted(found) if found[key]["family"] == 6] == [False, True, True]
    else:
        assert {gap["what"] for gap in section["gaps"]} == {"sockets.tcp.backlog", "sockets.udp.v6only"}
        assert found["tcp", "0.0.0.0", 1678]["backlog"] is None


@pytest.mark.parametrize("way", ["sock_diag", "proc"])
def test_states_per_port_and_stuck_connections(pair: Any, wait_until: Any, way: str) -> None:
    """A queue nobody accepts from, half-closed connections, and a peer that drops SYN, each counted as ss counts it."""
    left, right = pair
    right.run(["nft", "add table t; add chain t i { type filter hook input priority 0; }; add rule t i tcp dport 9 drop"])
    left.start_python(LISTENERS + "print('ready'); input()")
    right.start_python(
        "import socket\n"
        "kept = [socket.create_connection(('10.77.0.1', 1678)) for _ in range(4)]\n"
        "kept += [socket.create_connection(('fd77::1', 1679)) for _ in range(3)]\n"
        "[one.shutdown(socket.SHUT_WR) for one in kept[:2]]\n"
        "print('ready'); input()"
    )
    left.start_python(
        "import socket\nkept = []\n"
        "for _ in range(6):\n"
        "    k = socket.socket(); k.setblocking(False); k.connect_ex(('10.77.0.2', 9)); kept.append(k)\n"
        "print('ready'); input()"
    )
    wait_until(lambda: len(left.run(["ss", "-Htn", "state", "close-wait"]).stdout.splitlines()) == 2)
    section = read(left, ROOM.format("sockets") + (NO_DIAG if way == "proc" else "") + "s = sockets.read(('tcp', 4444))\n")
    data = section["data"]
    assert data["ports"]["tcp/1678"] == {"ESTABLISHED": 2, "CLOSE_WAIT": 2}
    assert data["ports"]["tcp/1679"] == {"ESTABLISHED": 3}
    assert data["ports"]["tcp/9"] == {"SYN_SENT": 6}
    assert data["ports"]["tcp/4444"] == {}
    assert data["syn_sent"] == [{"address": "10.77.0.2", "port": 9, "count": 6}]
    assert data["states"]["tcp"] == {"CLOSE_WAIT": 2, "ESTABLISHED": 5, "LISTEN": 3, "SYN_SENT": 6}
    queue = next(one["queue"] for one in data["listeners"] if one["port"] == 1678)
    assert queue == int(left.run(["ss", "-Hltn", "sport = :1678"]).stdout.split()[1]) == 4


def window(ns: Any) -> Any:
    """A reader of drops that has taken its first reading; ``finish`` gives the section."""
    reader = ns.start_python(
        ROOM.format("drops") + "d = drops.Drops(); first = d.begin(); print('ready'); input()\ns = d.end(first)\n" + SHOW
    )

    def finish() -> Any:
        output, _none = reader.communicate("go\n", timeout=30)
        return json.loads(output.splitlines()[-1])

    return finish


def deltas(section: Any, layer: str) -> dict[str, int]:
    return {name: one["delta"] for name, one in section["data"]["layers"][layer].items() if one["delta"]}


def test_udp_losses_are_counted_at_the_socket_and_the_layer(pair: Any) -> None:
    """A full receive buffer, and datagrams to a port nobody has; sent before the window, they are no difference."""
    left, right = pair
    left.start_python(
        "import socket\nk = socket.socket(2, 2); k.setsockopt(1, 8, 0); k.bind(('0.0.0.0', 7000)); print('ready'); input()"
    )
    send = (
        "import socket, sys\nk = socket.socket(2, 2)\n"
        "for _ in range(int(sys.argv[1])): k.sendto(b'x' * 1000, ('10.77.0.1', int(sys.argv[2])))"
    )
    right.python(send, "50", "7000")  # the buffer is full from here on: every further datagram is lost
    finish = window(left)
    right.python(send, "33", "7000")
    nobody = "import socket\nfor _ in range(5): socket.socket(2, 2).sendto(b'x', ('10.77.0.1', 7999))"
    right.python(nobody)
    section = finish()
    assert deltas(section, "udp") == {"RcvbufErrors": 33, "InErrors": 33, "NoPorts": 5}
    assert deltas(section, "socket") == {"udp 0.0.0.0:7000 drops": 33}
    total = section["data"]["layers"]["socket"]["udp 0.0.0.0:7000 drops"]["total"]
    assert f"d{total})" in left.run(["ss", "-Hulnm", "sport = :7000"]).stdout
    assert (section["data"]["reset"], section["data"]["layers"]["nic"]) == (False, {})
    assert section["data"]["seconds"] > 0


def test_a_full_accept_queue_is_named_by_its_listener(pair: Any, wait_until: Any) -> None:
    left, right = pair
    left.start_python("import socket\nk = socket.socket(); k.bind(('0.0.0.0', 1678)); k.listen(1); print('ready'); input()")
    finish = window(left)
    right.start_python(
        "import socket\nkept = []\n"
        "for _ in range(8):\n"
        "    k = socket.socket(); k.setblocking(False); k.connect_ex(('10.77.0.1', 1678)); kept.append(k)\n"
        "print('ready'); input()"
    )
    wait_until(lambda: int(left.run(["nstat", "-asz", "TcpExtListenOverflows"]).stdout.split()[-2]) > 0)
    section = finish()
    tcp = deltas(section, "tcp")
    assert tcp["ListenOverflows"] > 0 and tcp["ListenDrops"] >= tcp["ListenOverflows"]
    assert deltas(section, "socket") == {"tcp 0.0.0.0:1678 drops": tcp["ListenDrops"]}
    words = left.run(["nstat", "-asz", "TcpExtListenDrops"]).stdout.split()
    assert int(words[words.index("TcpExtListenDrops") + 1]) >= tcp["ListenDrops"]


def test_a_qdiscs_drops_are_its_own(pair: Any) -> None:
    """A bucket that lets nothing more through: tc's own count is the witness."""
    left, _right = pair
    rate = ["tbf", "rate", "8kbit", "burst", "1600", "limit", "3000"]
    left.run(["tc", "qdisc", "add", "dev", "va", "root", "handle", "5:", *rate])
    finish = window(left)
    left.python("import socket\nk = socket.socket(2, 2)\nfor _ in range(20): k.sendto(b'x' * 1000, ('10.77.0.2', 4000))")
    section = finish()
    found = section["data"]["layers"]["qdisc"]
    said = left.json(["tc", "-s", "-j", "qdisc", "show", "dev", "va"])[0]
    assert found["va tbf 5: drops"]["delta"] == said["drops"] > 0
    assert found["va tbf 5: backlog_bytes"]["total"] > 0


def test_routing_losses_belong_to_ip(pair: Any) -> None:
    left, right = pair
    left.run(["sysctl", "-w", "net.ipv4.conf.all.rp_filter=1", "net.ipv4.conf.va.rp_filter=1", "net.ipv4.ip_forward=1"])
    right.run(["ip", "addr", "add", "192.0.2.77/32", "dev", "lo"])
    right.run(["ip", "route", "add", "198.51.100.0/24", "via", "10.77.0.1"])
    # The neighbour is given: an ARP request from that address would be refused before any datagram.
    mac = left.json(["ip", "-j", "link", "show", "va"])[0]["address"]
    right.run(["ip", "neigh", "replace", "10.77.0.1", "lladdr", mac, "dev", "vb"])
    finish = window(left)
    # From an address that is routed elsewhere (nowhere): dropped by the reverse-path filter.
    right.python(
        "import socket\nk = socket.socket(2, 2); k.bind(('192.0.2.77', 0))\n"
        "for _ in range(9): k.sendto(b'x', ('10.77.0.1', 4000))"
    )
    # To be forwarded, and there is no route.
    right.python("import socket\nk = socket.socket(2, 2)\nfor _ in range(4): k.sendto(b'x', ('198.51.100.5', 4000))")
    found = deltas(finish(), "ip")
    assert found["IPReversePathFilter"] == 9
    assert found["InNoRoutes"] == 4


def test_a_counter_that_went_back_is_a_reset(pair: Any) -> None:
    left, right = pair
    left.run(["ip", "link", "add", "x1", "up", "type", "veth", "peer", "name", "x2"])
    server = left.start_python(
        "import socket\nk = socket.socket(2, 2); k.setsockopt(1, 8, 0); k.bind(('0.0.0.0', 7000)); print('ready'); input()"
    )
    right.python("import socket\nk = socket.socket(2, 2)\nfor _ in range(50): k.sendto(b'x' * 1000, ('10.77.0.1', 7000))")
    finish = window(left)
    server.communicate("end\n", timeout=10)
    section = finish()
    assert section["data"]["reset"] is True
    assert section["data"]["layers"]["socket"]["udp 0.0.0.0:7000 drops"] == {"delta": None, "total": 0}


def test_without_privilege_what_can_be_read_is_read(pair: Any) -> None:
    left, _right = pair
    left.start_python(LISTENERS + "print('ready'); input()")
    section = left.python_json(
        "import json, os\n"
        "from ansible_collections.netops.fleet.plugins.module_utils._evidence import (\n"
        "    conntrack, drop_reasons, drops, fdcensus, links, routes, sockets, sysctls)\n"
        "def everything():\n"
        "    d, r = drops.Drops(), drop_reasons.DropReasons()\n"
        "    return dict(a=sockets.read(), b=d.end(d.begin()), c=r.end(r.begin()), e=links.read(), f=routes.read(),\n"
        "                g=sysctls.read(['va']), h=conntrack.read())\n"
        "everything()  # imports what it needs: the interpreter's own files may be closed to others\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "print(json.dumps({name: [s.data, [gap.to_dict() for gap in s.gaps]] for name, s in everything().items()}))\n"
    )
    data, gaps = section["a"]
    assert len(data["listeners"]) == 5
    assert {one["process"] for one in data["listeners"]} == {None}
    assert any(gap["what"].startswith("sockets.process") or "proc" in gap["what"] for gap in gaps)
    assert section["c"] == [None, [{"what": "drop_reasons", "why": "needs root"}]]
    assert "ip" in section["b"][0]["layers"]
    assert {link["name"] for link in section["e"][0]} >= {"lo", "va"}
    assert section["f"][0] and section["f"][1] == []
    assert section["g"][0]["net.ipv4.ip_forward"] in ("0", "1")
    # Who may read this table differs between kernels: a value, or a gap that says why there is none.
    assert (section["h"][0]["stat"] is None) == any(gap["what"] == "conntrack.stat" for gap in section["h"][1])
