# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random filters of tc against the kernel: which packets they take is seen by a socket that gets them, or does not."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from tests.kernel.conftest import Namespace
from tests.kernel.test_hooks import PASS, hold

pytestmark = pytest.mark.kernel

_SENDERS, _PORTS = ("10.9.0.7", "10.9.0.77", "10.9.1.7", "172.16.0.1"), (53, 1678, 1679, 40000)
_LINKS = """
ip link add out type veth peer name in
ip link add away type veth peer name nowhere
ip addr add 10.9.0.1/24 dev in; ip -6 addr add fd09::1/64 dev in nodad
for link in out in away nowhere; do ip link set $link up; done
sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.in.rp_filter=0
tc qdisc add dev in clsact
"""
_RUN = """
import json, os, socket, struct, subprocess, sys
from ansible_collections.netops.fleet.plugins.module_utils._evidence import tc_filters
from ansible_collections.netops.fleet.plugins.module_utils._firewall import filters
from ansible_collections.netops.fleet.plugins.module_utils._firewall.packet import Packet

def mac(name):
    return bytes.fromhex(open(f"/sys/class/net/{name}/address").read().strip().replace(":", ""))

wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind(("out", 0))
heard = {family: socket.socket(kind, socket.SOCK_RAW, socket.IPPROTO_UDP)
         for family, kind in ((4, socket.AF_INET), (6, socket.AF_INET6))}
for one in heard.values():
    one.settimeout(10)
ETHERNET = mac("in") + mac("out")

def checked(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF

def send(family, saddr, sport, dport, tos, ttl, token):
    load = struct.pack("!HHHH", sport, dport, 12, 0) + struct.pack("!I", token)
    if family == 4:
        parts = [0x45, tos, 20 + len(load), 0, 0x4000, ttl, 17, 0, socket.inet_aton(saddr), socket.inet_aton("10.9.0.1")]
        head = struct.pack("!BBHHHBBH4s4s", *parts)
        parts[7] = checked(head)
        wire.send(ETHERNET + b"\\x08\\x00" + struct.pack("!BBHHHBBH4s4s", *parts) + load)
    else:
        far, here = (socket.inet_pton(socket.AF_INET6, one) for one in (saddr, "fd09::1"))
        # UDP over IPv6 needs its checksum.
        total = checked(far + here + struct.pack("!II", len(load), 17) + load)
        load = load[:6] + struct.pack("!H", total) + load[8:]
        wire.send(ETHERNET + b"\\x86\\xdd" + struct.pack("!IHBB", 6 << 28 | tos << 20, len(load), 17, ttl) + far + here + load)

token, told = 0, []
for words, family, packets in json.loads(sys.argv[1]):
    base = ["tc", "filter", "add", "dev", "in", "ingress", "protocol", {4: "ip", 6: "ipv6"}[family], "prio", "9", *words]
    subprocess.run([*base, "action", "mirred", "egress", "redirect", "dev", "away"], check=True)
    (found,) = [one for one in tc_filters.read()[0] if one["kind"] != "bpf"]
    said, sent = [], []
    for saddr, sport, dport, tos, ttl in packets:
        token += 1
        send(family, saddr, sport, dport, tos, ttl, token)
        sent.append(token)
        target, length = ("10.9.0.1", 32) if family == 4 else ("fd09::1", 52)
        packet = Packet(family, 17, saddr, target, sport, dport, tos=tos, ttl=ttl, length=length, tcp_flags=None)
        entry = {"hook": "tc", "kind": found["kind"], "tc": found}
        said.append([filters.matches(found["conditions"], packet), filters.decides(entry, [entry], packet)])
    subprocess.run(["tc", "filter", "del", "dev", "in", "ingress"], check=True)
    token += 1
    send(family, packets[0][0], 9, 9, 0, 64, token)
    came = set()
    while token not in came:
        came.add(struct.unpack("!I", heard[family].recv(2048)[-4:])[0])
    told.append([[one not in came, *each] for one, each in zip(sent, said)])
print(json.dumps(told))
"""


def _keys(draw: random.Random, family: int) -> list[str]:
    """One or two keys of u32, as tc takes them."""
    words: list[str] = []
    port, tos, byte = str(draw.choice(_PORTS)), draw.choice(["0x10", "0xb8"]), draw.choice(["6", "17"])
    if family == 4:
        kinds = [
            ["ip", "src", draw.choice(["10.9.0.7", "10.9.0.0/24", "10.0.0.0/8", "172.16.0.0/12"])],
            ["ip", "dst", draw.choice(["10.9.0.1", "10.9.0.2", "0.0.0.0/0"])],
            ["ip", "sport", port, draw.choice(["0xffff", "0xff00", "0x0fff"])],
            ["ip", "dport", port, draw.choice(["0xffff", "0xfff0"])],
            ["ip", "protocol", byte, "0xff"],
            ["ip", "dsfield", tos, draw.choice(["0xff", "0xfc"])],
            ["u16", port, "0xffff", "at", "22"],
            ["u16", port, "0xffff", "at", "nexthdr+2"],
            ["u8", "64", "0xff", "at", "8"],
            ["u32", "0x00000020", "0x0000ffff", "at", "0"],
            ["u32", "0", "0x00001fff", "at", "4"],
        ]
    else:
        kinds = [
            ["ip6", "src", draw.choice(["fd09::7", "fd09::/64", "fd00::/8", "2001:db8::/32"])],
            ["ip6", "dport", port, draw.choice(["0xffff", "0xfff0"])],
            ["ip6", "sport", port, "0xffff"],
            ["ip6", "protocol", byte, "0xff"],
            ["ip6", "priority", tos, "0xff"],
            ["u8", "64", "0xff", "at", "7"],
            ["u16", "12", "0xffff", "at", "4"],
        ]
    for kind in draw.sample(kinds, draw.choice([1, 1, 2])):
        words += ["match", *kind]
    return words


def test_u32_takes_what_is_said_and_nothing_else(make_ns: Any) -> None:
    draw = random.Random(20261129)
    cases: list[tuple[list[str], int, list[list[Any]]]] = []
    for number in range(80):
        family = 6 if number % 3 == 2 else 4
        senders = _SENDERS if family == 4 else ("fd09::7", "fd09::77", "fd0a::7", "2001:db8::7")
        packets = [
            [draw.choice(senders), draw.choice(_PORTS), draw.choice(_PORTS), draw.choice([0, 0x10, 0xB8]), draw.choice([64, 3])]
            for _ in range(8)
        ]
        cases.append((["u32", *_keys(draw, family)], family, packets))
    ns: Namespace = make_ns()
    ns.run(["sh", "-euc", _LINKS])
    told = ns.python_json(_RUN, json.dumps(cases))
    wrong = [
        (case[0], packet, seen) for case, each in zip(cases, told) for packet, seen in zip(case[2], each) if seen[0] != seen[1]
    ]
    assert wrong == [], "taken by the kernel, matched by the reading"
    every = [seen for each in told for seen in each]
    assert {taken for taken, _matched, _does in every} == {True, False}, "both must occur"
    assert {(taken, does) for taken, _matched, does in every} == {(True, "away"), (False, "next")}


_JUDGED = """
import json
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import collect
params = {name: spec.get("default") for name, spec in collect.ARGUMENTS.items()}
evidence = collect.collect(collect.Options.from_params({**params, "target": "tcp/1678", "window": 0}))
found = [one["grade"] for one in evidence["findings"] if one["id"] == "tc-filter-drops-target"]
print(json.dumps([found, evidence["answer"]["verdict"]]))
"""
_CONNECT = "import socket; socket.create_connection(('10.9.0.1', 1678), 2); print('null')"


def test_a_program_of_tcx_that_passes_packets_on_keeps_them_from_the_filter(make_ns: Any) -> None:
    """The connection works through a filter that would take it: no finding. Without the program it fails, and is told."""
    here, there = make_ns(), make_ns()
    here.run(["ip", "link", "add", "in", "type", "veth", "peer", "name", "out", "netns", there.name])
    here.run(["ip", "link", "add", "away", "type", "veth", "peer", "name", "nowhere"])
    for ns, link, number in ((here, "in", 1), (there, "out", 2)):
        ns.run(["ip", "addr", "add", f"10.9.0.{number}/24", "dev", link])
        ns.run(["ip", "link", "set", link, "up"])
    here.run(["ip", "link", "set", "away", "up"])
    here.start_python("import socket; s = socket.create_server(('10.9.0.1', 1678)); print('ready', flush=True); input()")
    here.run(["tc", "qdisc", "add", "dev", "in", "clsact"])
    words = "tc filter add dev in ingress protocol ip u32 match ip dport 1678 0xffff action mirred egress redirect dev away"
    program = {"how": "tcx", "type": "sched_cls", "direction": "ingress", "code": PASS, "name": "first", "dev": "in"}
    process, _told = hold(here, program)
    here.run(words.split())
    assert there.python(_CONNECT).returncode == 0
    assert here.python_json(_JUDGED) == [[], "unknown"]
    process.kill()
    process.wait()
    assert there.python(_CONNECT, check=False).returncode != 0
    assert here.python_json(_JUDGED) == [["likely"], "blocked"]
