# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watching live: what the test sends, has refused and has dropped is what is seen, by either source, and nothing stays behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

# The tracer sees connections and drops of the whole machine in a buffer of fixed size, and the list of programs is the machine's.
pytestmark = [pytest.mark.kernel, pytest.mark.alone]

ROOM = (
    "from ansible_collections.netops.fleet.plugins.module_utils._evidence import connections, drop_watch, tracing\nimport json\n"
)
# The window opens before "ready" and closes with a line: what happens between is the test's.
OPEN = ROOM + (
    "r = tracing.begin('x', {work}, 120)\nassert not r.gaps, r.gaps\nprint('child', r.child, flush=True)\n"
    "print('ready', flush=True)\ninput()\nprint(json.dumps(tracing.end(r)))\n"
)
CONNECT = (
    "import socket\n"
    "for address, port, times in (('10.77.0.1', 80, 5), ('fd77::1', 80, 2), ('10.77.0.1', 81, 3), ('10.77.0.1', 82, 1)):\n"
    "    for _ in range(times):\n"
    "        try:\n"
    "            socket.create_connection((address, port), 0.4).close()\n"
    "        except OSError:\n"
    "            pass\n"
)


def opened(ns: Any, work: str) -> tuple[subprocess.Popen[str], int]:
    process = ns.start_python(OPEN.format(work=work), ready=None)
    child = 0
    for line in process.stdout:
        if line.startswith("child"):
            child = int(line.split()[1])
        if line.strip() == "ready":
            return process, child
    raise AssertionError("the window did not open")


def closed(process: subprocess.Popen[str]) -> dict[str, Any]:
    output, _none = process.communicate("go\n", timeout=90)
    answer: dict[str, Any] = json.loads(output.splitlines()[-1])
    return answer


@pytest.mark.parametrize("source", ["tracefs", "bpftrace"])
def test_connections_are_seen_by_process_and_outcome(pair: Any, source: str) -> None:
    left, right = pair
    left.start_python(
        "import socket\na = socket.create_server(('10.77.0.1', 80)); b = socket.create_server(('fd77::1', 80), family=10)\n"
        "print('ready'); input()"
    )
    left.run(["nft", "add table t; add chain t i { type filter hook input priority 0; }; add rule t i tcp dport 82 drop"])
    watcher, _child = opened(right, f"connections._by_{source}")
    right.python("import ctypes\nctypes.CDLL(None).prctl(15, b'model-client', 0, 0, 0)\n" + CONNECT)
    found = closed(watcher)
    ours = {(one["destination"], one["port"]): one for one in found["connections"] if one["process"] == "model-client"}
    assert found["source"] == source and found["lost"] == 0
    assert (ours["10.77.0.1", 80]["connected"], ours["10.77.0.1", 80]["failed"]) == (5, {})
    assert ours["10.77.0.1", 80]["rtt_ms"]["min"] > 0
    assert ours["fd77::1", 80]["connected"] == 2
    assert (ours["10.77.0.1", 81]["connected"], ours["10.77.0.1", 81]["failed"]) == (0, {"ECONNREFUSED": 3})
    assert (ours["10.77.0.1", 82]["attempts"], ours["10.77.0.1", 82]["failed"]) == (1, {"closed": 1})
    if source == "bpftrace":  # the namespace alone: nothing of the machine's other processes
        assert found["scope"] == "netns" and {one["process"] for one in found["connections"]} == {"model-client"}


# Each address, how often, and whether the call waits; prints what the calls said: the witness of what is to be seen.
FAIL = """
import ctypes, errno, json, select, socket, time
ctypes.CDLL(None).prctl(15, b'model-client', 0, 0, 0)
said = {}
def call(address, port, times, waits=True, kind=socket.SOCK_STREAM):
    for _ in range(times):
        with socket.socket(10 if ':' in address else 2, kind) as sock:
            sock.setblocking(waits)
            error = sock.connect_ex((address, port))
            if error == errno.EINPROGRESS:
                ready = select.poll()
                ready.register(sock, select.POLLOUT)
                ready.poll(20000)
                # As some do, to hear what became of the first call. With a pause: an event that interrupts a program at work
                # on this processor is not given to another one, and poll() does not wait for what is no final error.
                while (error := sock.connect_ex((address, port))) == errno.EALREADY:
                    time.sleep(0.05)
            if kind == socket.SOCK_STREAM:
                told = said.setdefault(f'{address} {port}', {})
                told[errno.errorcode[error]] = told.get(errno.errorcode[error], 0) + 1
call('198.51.100.1', 80, 3)
call('198.51.100.1', 80, 2, False)
call('198.51.100.1', 80, 4, True, socket.SOCK_DGRAM)
call('2001:db8::1', 80, 2)
call('::ffff:198.51.100.2', 80, 2)
call('10.9.9.9', 81, 2)
call('10.9.8.9', 81, 2)
call('10.9.7.9', 81, 1)
call('10.77.0.1', 81, 2)
call('10.77.0.1', 81, 2, False)
call('10.77.0.1', 83, 2)
call('10.77.0.1', 83, 2, False)
keep = [socket.create_connection(('10.77.0.1', 80)) for _ in range(2)]
call('10.77.0.1', 80, 2)
call('10.77.0.1', 80, 1, False)
print(json.dumps(said))
"""


def test_calls_that_fail_before_the_first_packet_are_seen_once_each(pair: Any) -> None:
    left, right = pair
    left.start_python("import socket\na = socket.create_server(('10.77.0.1', 80))\nprint('ready'); input()")
    left.run(["nft", "add table t; add chain t i { type filter hook input priority 0; }"])
    left.run(["nft", "add rule t i tcp dport 83 reject with icmp type net-unreachable"])
    for kind, number in (("prohibit", 9), ("unreachable", 8), ("blackhole", 7)):
        right.run(["ip", "route", "add", kind, f"10.9.{number}.0/24"])
    right.run(["sysctl", "-qw", "net.ipv4.ip_local_port_range=50000 50001"])
    watcher, _child = opened(right, "connections._by_bpftrace")
    said = right.python_json(FAIL)
    found = closed(watcher)
    assert found["calls"] and found["lost"] == 0
    assert {one["process"] for one in found["connections"]} == {"model-client"}
    seen = {f"{one['destination']} {one['port']}": one for one in found["connections"]}
    said["198.51.100.2 80"] = said.pop("::ffff:198.51.100.2 80")
    assert {place: one["failed"] for place, one in seen.items()} == said
    assert said == {
        "198.51.100.1 80": {"ENETUNREACH": 5}, "198.51.100.2 80": {"ENETUNREACH": 2}, "2001:db8::1 80": {"ENETUNREACH": 2},
        "10.9.9.9 81": {"EACCES": 2}, "10.9.8.9 81": {"EHOSTUNREACH": 2}, "10.9.7.9 81": {"EINVAL": 1},
        "10.77.0.1 81": {"ECONNREFUSED": 4}, "10.77.0.1 83": {"ENETUNREACH": 4}, "10.77.0.1 80": {"EADDRNOTAVAIL": 3},
    }  # fmt: skip
    for place, one in seen.items():
        connected = 2 if place == "10.77.0.1 80" else 0
        assert (one["connected"], one["pending"]) == (connected, 0), one
        assert one["attempts"] == connected + sum(one["failed"].values()), one


def test_drops_are_seen_with_address_port_and_interface(pair: Any) -> None:
    left, right = pair
    left.run(["nft", "add table inet t; add chain inet t i { type filter hook input priority 0; }"])
    left.run(["nft", "add rule inet t i udp dport 4000 counter drop"])
    watcher, _child = opened(left, "drop_watch._by_bpftrace")
    right.python(
        "import socket\nk = socket.socket(2, 2)\nfor _ in range(31): k.sendto(b'x', ('10.77.0.1', 4000))\n"
        "k = socket.socket(10, 2)\nfor _ in range(17): k.sendto(b'x', ('fd77::1', 4000))\n"
    )
    found = closed(watcher)
    counter = left.json(["nft", "-j", "list", "chain", "inet", "t", "i"])["nftables"][-1]["rule"]["expr"][1]["counter"]
    assert counter["packets"] == 48
    ours = {one["to"]: one for one in found["drops"] if one["port"] == 4000}
    for address, source, family, count in (("10.77.0.1", "10.77.0.2", "ipv4", 31), ("fd77::1", "fd77::2", "ipv6", 17)):
        one = ours[address]
        assert (one["reason"], one["protocol"], one["l4"], one["from"], one["interface"], one["count"]) == (
            "NETFILTER_DROP", family, "udp", source, "va", count,
        )  # fmt: skip
    assert found["scope"] == "netns" and found["lost"] == 0


def programs() -> set[int]:
    done = subprocess.run(["bpftool", "-j", "prog", "list"], check=True, capture_output=True, text=True)
    return {one["id"] for one in json.loads(done.stdout) if one.get("type") in ("tracepoint", "raw_tracepoint", "kprobe")}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("killed", ["parent", "child"])
def test_a_watch_that_is_killed_leaves_no_program(ns: Any, wait_until: Callable[..., Any], number: int, killed: str) -> None:
    before = programs()
    watcher, child = opened(ns, "connections._by_bpftrace")
    made = programs() - before
    assert made
    if killed == "child" and number == signal.SIGTERM:
        os.kill(watcher.pid, number)  # the child ignores it: it ends with its parent
    else:
        os.kill(watcher.pid if killed == "parent" else child, number)
    wait_until(lambda: not programs() & made)
    if killed == "parent":  # a killed child is a zombie until its parent ends
        wait_until(lambda: not os.path.exists(f"/proc/{child}"))


def test_without_bpftrace_the_tracer_watches_and_says_so(ns: Any) -> None:
    code = ROOM + (
        "from ansible_collections.netops.fleet.plugins.module_utils._kernel import command\ncommand.SEARCH_PATH = ('/nowhere',)\n"
        "c, d = connections.watch(0.2), drop_watch.watch(0.2)\n"
        "print(json.dumps([c.data['source'], d.data['source'], [g.what for g in c.gaps + d.gaps]]))\n"
    )
    by_connections, by_drops, gaps = ns.python_json(code)
    assert (by_connections, by_drops) == ("tracefs", "tracefs")
    assert "connections.calls" in gaps and "connections.bpftrace" in gaps and "drops.bpftrace" in gaps
    only = ROOM + (
        "from ansible_collections.netops.fleet.plugins.module_utils._kernel import command\ncommand.SEARCH_PATH = ('/nowhere',)\n"
        "c = connections.watch(0.2, 'bpftrace')\nprint(json.dumps([c.data, [g.why for g in c.gaps]]))\n"
    )
    assert ns.python_json(only) == [None, ["bpftrace: bpftrace is not installed"]]
