# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A way that is slow at one link: latency as a symptom must name it, and a way that is quick must give no finding.

The slow link is a pair of TUN devices with a program between them that holds each packet back for a time, because not every
kernel has the queueing discipline netem.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import symptoms
from tests.kernel.conftest import Namespace

# Delays of some milliseconds are told apart: those of a busy machine would be among them.
pytestmark = [pytest.mark.kernel, pytest.mark.alone]

_LINK = """
import collections, ctypes, fcntl, os, select, struct, sys, time
near, far, other, delay = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
def tun(name):
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x1001))  # TUNSETIFF: IFF_TUN | IFF_NO_PI
    return device
ends = [tun(near)]
if ctypes.CDLL(None, use_errno=True).setns(os.open("/run/netns/" + other, os.O_RDONLY), 0):
    raise OSError(ctypes.get_errno(), "setns")
ends.append(tun(far))
print("ready", flush=True)
held = collections.deque()
while True:
    wait = None if not held else max(0.0, held[0][0] - time.monotonic())
    for device in select.select(ends, [], [], wait)[0]:
        held.append((time.monotonic() + delay, ends[1 - ends.index(device)], os.read(device, 65536)))
    while held and held[0][0] <= time.monotonic():
        try:
            os.write(held[0][1], held[0][2])
        except OSError:
            pass  # the other end is not up yet
        held.popleft()
"""
_COLLECT = """
import json, sys
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import collect
params = {name: spec.get("default") for name, spec in collect.ARGUMENTS.items()}
params.update(window=0, **json.loads(sys.argv[1]))
evidence = collect.collect(collect.Options.from_params(params))
keep = {name: evidence[name] for name in ("findings", "coverage")}
print(json.dumps({**keep, "probes": evidence["sections"].get("probes") or []}))
"""
_OURS = ("round-trip-slow", "path-latency-jump", "path-loss")


def slow_link(left: Namespace, right: Namespace, name: str, network: str, seconds: float) -> None:
    """``name``0 with .1 here and ``name``1 with .2 there; each packet takes ``seconds``."""
    left.start_python(_LINK, f"{name}0", f"{name}1", right.name, str(seconds))
    for number, namespace in enumerate((left, right)):
        namespace.run(["ip", "addr", "add", f"{network}.{number + 1}/24", "dev", f"{name}{number}"])
        namespace.run(["ip", "link", "set", f"{name}{number}", "up"])


@pytest.fixture
def far(make_ns: Callable[[], Namespace]) -> Callable[[float], tuple[Namespace, ...]]:
    """client 10.1.0.1 - 10.1.0.2 first 10.2.0.1 = 10.2.0.2 second 10.3.0.1 - 10.3.0.2 server; the middle link takes its time."""

    def build(seconds: float) -> tuple[Namespace, ...]:
        client, first, second, server = hosts = (make_ns(), make_ns(), make_ns(), make_ns())
        for left, right, number in ((client, first, 1), (second, server, 3)):
            left.run(["ip", "link", "add", "va", "type", "veth", "peer", "name", "vb", "netns", right.name])
            for namespace, link, host in ((left, "va", 1), (right, "vb", 2)):
                namespace.run(["ip", "addr", "add", f"10.{number}.0.{host}/24", "dev", link])
                namespace.run(["ip", "link", "set", link, "up"])
        slow_link(first, second, "t", "10.2.0", seconds)
        for namespace, via in ((client, "10.1.0.2"), (first, "10.2.0.2"), (second, "10.2.0.1"), (server, "10.3.0.1")):
            namespace.run(["ip", "route", "add", "default", "via", via])
        for router in (first, second):
            router.run(["sysctl", "-qw", "net.ipv4.ip_forward=1"])
        return hosts

    return build


def told(client: Namespace, **options: Any) -> tuple[dict[str, dict[str, Any]], dict[str, Any], list[dict[str, Any]]]:
    """(findings about the way by id, the answer to latency, probes)"""
    evidence = client.python_json(_COLLECT, json.dumps(options))
    # How busy the machine below the namespaces is, which the tests do not choose, would rightly go before a note.
    findings = [one for one in evidence["findings"] if one["id"] != "cpu-starved"]
    answer = symptoms.answer("latency", findings, evidence["coverage"])
    assert answer is not None
    found = {one["id"]: one for one in findings if one["id"] in _OURS}
    return found, answer, evidence["probes"]


@pytest.mark.parametrize("seconds", [0.04, 0.15])
def test_the_hop_behind_the_slow_link_is_named(far: Any, seconds: float) -> None:
    client = far(seconds)[0]
    found, answer, _probes = told(client, ping=["10.3.0.2"], symptom="latency")
    jump = found["path-latency-jump"]
    assert jump["data"]["hop"] == 2, jump
    # On a busy machine the program of the link holds packets back for longer still.
    assert jump["severity"] == ("warning" if jump["data"]["by_ms"] >= 100 else "info")
    assert "from hop 2 (10.2.0.2) on; hop 1 (10.1.0.2) answers within" in jump["summary"]
    assert answer["verdict"] == "blocked" and answer["text"] == f"latency: {jump['summary']}"
    assert "round-trip-slow" not in found and "path-loss" not in found


def test_a_target_elsewhere_is_traced_by_its_own_protocol(far: Any) -> None:
    client, _first, _second, server = far(0.06)
    server.start_python("import socket; s = socket.create_server(('10.3.0.2', 1678)); print('ready', flush=True); s.accept()")
    found, answer, probes = told(client, target="tcp/10.3.0.2:1678", symptom="latency")
    assert found["path-latency-jump"]["data"]["hop"] == 2 and "hop 2 (10.2.0.2)" in answer["text"]
    assert [one["kind"] for one in probes].count("path") == 1


def test_a_quick_way_is_no_finding_and_no_way_is_traced_unasked(far: Any) -> None:
    client = far(0.0)[0]
    found, answer, probes = told(client, ping=["10.3.0.2"], symptom="latency")
    assert found == {}
    assert next(step for step in answer["steps"] if step["step"] == "reachability")["result"] == "ok"
    (path,) = [one for one in probes if one["kind"] == "path"]
    assert [hop["addresses"] for hop in path["hops"]] == [["10.1.0.2"], ["10.2.0.2"], ["10.3.0.2"]]
    _found, _answer, probes = told(client, ping=["10.3.0.2"], symptom="loss")
    assert {one["kind"] for one in probes} == {"ping"}


def test_where_loss_begins_and_where_a_way_ends(far: Any) -> None:
    client, _first, second, _server = far(0.0)
    second.run(["nft", "add table t; add chain t f { type filter hook forward priority 0; }"])
    second.run(["nft", "add rule t f ip daddr 10.3.0.2 icmp type echo-request numgen inc mod 2 0 drop"])
    second.run(["nft", "add rule t f ip daddr 10.3.0.9 drop"])
    found, _answer, _probes = told(client, ping=["10.3.0.2"], symptom="latency", probe_timeout=0.5)
    assert found["path-loss"]["data"]["hop"] == 3 and "from hop 3 on" in found["path-loss"]["summary"]
    found, answer, _probes = told(client, ping=["10.3.0.9"], symptom="latency", probe_timeout=0.5)
    assert found["path-loss"]["summary"] == "The way to 10.3.0.9 ends: silence behind hop 2 (10.2.0.2)."
    assert answer["text"] == "latency: 10.3.0.9 does not answer ping."


def test_a_slow_host_of_the_same_subnet_is_told_without_a_symptom(make_ns: Callable[[], Namespace]) -> None:
    here, there = make_ns(), make_ns()
    slow_link(here, there, "t", "10.9.0", 0.07)
    found, answer, _probes = told(here, ping=["10.9.0.2"])
    slow = found["round-trip-slow"]
    assert slow["severity"] == "warning" and slow["grade"] == "likely" and slow["data"]["address"] == "10.9.0.2"
    assert slow["evidence"][1] == "3 sent, 3 answered, 0 % lost"
    assert answer["verdict"] == "blocked" and answer["text"] == f"latency: {slow['summary']}"
