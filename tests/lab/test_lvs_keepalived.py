# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two directors run by a real keepalived: weights without reload, failed servers, slow start, failover, and what it hides."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.netops.fleet.plugins.module_utils._lvs import traffic
from tests.lab.guest import ROOT, Guest
from tests.lab.lvs_net import VIP, VIP6, Segment, service

pytestmark = [pytest.mark.lab, pytest.mark.drill]

CHECK = {"type": "http", "path": "/", "timeout": 1, "retries": 0}


@pytest.fixture(scope="module")
def segment(guest: Guest) -> Iterator[Segment]:
    with Segment(guest, directors=2, servers=3, vip=False) as made:
        yield made


@pytest.fixture
def lvs(segment: Segment) -> Iterator[Segment]:
    yield segment
    for director in segment.directors:
        segment.guest.sh(f"kill -9 $(cat {segment.folder(director)}/[pcr].pid) || true")
    segment.renew()
    for server in set(segment.servers) - set(segment._backends):
        segment.start_backend(server)


def wanted(*weights: int, **more: Any) -> dict[str, Any]:
    return service(*weights, check=CHECK, interval=1, **more)


def alive(found: dict[str, list[str]]) -> dict[str, int]:
    assert {state for states in found.values() for state in states} <= {"alive"}, found
    return {name: len(states) for name, states in found.items()}


def one_director(lvs: Segment, *weights: int, **more: Any) -> int:
    lvs.configure([wanted(*weights)], **more)
    pid = lvs.start_keepalived()
    lvs.until(lambda: lvs.holds("dir1") and lvs.weights() == {str(100 + n): one for n, one in enumerate(weights, 1)})
    return pid


def test_weights_change_without_reload(lvs: Segment) -> None:
    """Also to 0 and back, and reload changes nothing; no connection is lost."""
    pid = one_director(lvs, 3, 5)
    streams = lvs.streams(8)
    assert Counter(streams.owners) == {"rs1": 3, "rs2": 5}
    result = lvs.lvs([service(0, 7)], engine="keepalived")
    assert not result["failed"] and result["changed"], result["msg"]
    assert lvs.weights() == {"101": 0, "102": 7}
    assert Counter(lvs.requests(6)) == {"rs2": 6}
    again = lvs.lvs([service(0, 7)], engine="keepalived")
    assert not again["changed"] and again["writes"] == 0
    assert lvs.lvs([service(9, 5)], engine="keepalived")["failed"] is False
    assert lvs.weights() == {"101": 9, "102": 5}
    lvs.guest.run(["kill", "-HUP", str(pid)])
    lvs.until(lambda: "Reloading" in lvs.guest.run(["cat", f"{lvs.folder()}/keepalived.log"]).out)
    assert alive(streams.alive()) == {"rs1": 3, "rs2": 5}
    lvs.until(lambda: lvs.weights() == {"101": 9, "102": 5})
    assert not lvs.lvs([service(9, 5)], engine="keepalived")["failed"]


def test_drift_is_found_because_keepalived_does_not(lvs: Segment) -> None:
    pid = one_director(lvs, 3, 5)
    lvs.ipvsadm("-e", "-t", f"{VIP}:8080", "-r", "10.66.0.101:8080", "-g", "-w", "9")
    lvs.guest.run(["kill", "-HUP", str(pid)])
    lvs.until(lambda: "Reloading" in lvs.guest.run(["cat", f"{lvs.folder()}/keepalived.log"]).out)
    result = lvs.lvs([service(3, 5)], engine="keepalived", settle=3)
    assert result["failed"] and lvs.weights()["101"] == 9, "keepalived left it as it was"
    assert result["drift"] == [{"subject": f"tcp/{VIP}:8080 10.66.0.101:8080", "text": "weight 9 instead of 3"}]


def test_a_second_writer_is_refused(lvs: Segment) -> None:
    one_director(lvs, 3, 5)
    refused = lvs.lvs([service(3)])
    assert refused["failed"] and "says that keepalived writes" in refused["msg"]
    running = lvs.lvs([service(3)], take_over=True)
    assert running["failed"] and "keepalived writes virtual services in this network namespace" in running["msg"]
    assert lvs.weights() == {"101": 3, "102": 5}


def test_stop_keeps_services_and_connections(lvs: Segment) -> None:
    pid = one_director(lvs, 3, 5)
    streams = lvs.streams(8)
    lvs.guest.end(pid)
    assert lvs.weights() == {"101": 3, "102": 5}
    lvs.guest.sh(f"ip address replace {VIP}/32 dev eth0", netns=lvs.ns("dir1"))
    assert alive(streams.alive()) == {"rs1": 3, "rs2": 5}


def test_dead_server_leaves_and_returns_slowly(lvs: Segment) -> None:
    ramp = f"/usr/bin/python3 {ROOT}/roles/lvs_director/files/lvs-ramp {lvs.folder()}/weights 10"
    one_director(lvs, 20, 20, ramp=ramp)
    began = lvs.clock()
    lvs.stop_backend("rs2")
    lvs.until(lambda: lvs.weights()["102"] == 0)
    left = lvs.clock() - began
    assert set(lvs.requests(6)) == {"rs1"}
    told = lvs.lvs([service(20, 20)], engine="keepalived")
    assert not told["failed"] and told["down"] == [f"tcp/{VIP}:8080 10.66.0.102:8080"]
    lvs.start_backend("rs2")
    seen = []

    def full() -> bool:
        seen.append(lvs.weights()["102"])
        return seen[-1] == 20

    lvs.until(full)
    rising = [one for one in seen if one]
    assert rising == sorted(rising) and rising[0] < 20, seen
    print("FIGURE " + json.dumps({"backend_left_s": round(left, 2), "weights_on_return": sorted(set(rising))}))


def test_server_without_the_wanted_version_gets_nothing(lvs: Segment) -> None:
    lvs.guest.sh("echo v2 > /tmp/lvs/rs1.version; echo v1 > /tmp/lvs/rs2.version")
    entry = service(3, 5, check={**CHECK, "path": "/ready", "body": "v2"}, interval=1)
    lvs.configure([entry])
    lvs.start_keepalived()
    lvs.until(lambda: lvs.holds("dir1") and lvs.weights().get("101") == 3)
    assert set(lvs.requests(6)) == {"rs1"}
    lvs.guest.sh("echo v2 > /tmp/lvs/rs2.version")
    lvs.until(lambda: lvs.weights().get("102") == 5)
    assert Counter(lvs.requests(16)) == {"rs1": 6, "rs2": 10}


def test_one_host_answers_for_the_addresses(lvs: Segment) -> None:
    """Asked from a real server and from the client. The control: a real server that speaks up is found."""
    one_director(lvs, 3, 5)
    code = """
from ansible_collections.netops.fleet.plugins.module_utils._lvs import segment
result = [segment.ask("eth0", address, 2.0) for address in args]
"""
    shown = lvs.guest.run(["ip", "-j", "link", "show", "eth0"], lvs.ns("dir1")).out
    director = json.loads(shown)[0]["address"]
    for host in ("cl", "rs1", "rs2"):
        assert lvs.guest.call(code, VIP, VIP6, netns=lvs.ns(host)) == [[director], [director]], host
    lvs.guest.sh("sysctl -qw net.ipv4.conf.all.arp_ignore=0", netns=lvs.ns("rs3"))
    try:
        assert len(lvs.guest.call(code, VIP, netns=lvs.ns("cl"))[0]) == 2
    finally:
        lvs.guest.sh("sysctl -qw net.ipv4.conf.all.arp_ignore=1", netns=lvs.ns("rs3"))


def both(lvs: Segment, **more: Any) -> None:
    for director in lvs.directors:
        lvs.configure([wanted(3, 5, 2)], director, **more)
        lvs.start_keepalived(director)
    full = {"101": 3, "102": 5, "103": 2}
    lvs.until(lambda: lvs.holds("dir1") and all(lvs.weights(one) == full for one in lvs.directors))


def established(lvs: Segment, count: int) -> None:
    """Wait until the active director has the held connections, and with a sync the other one too."""

    def active(director: str) -> int:
        lines = [line.split() for line in lvs.ipvsadm("-Ln", director=director).splitlines()]
        return sum(int(words[4]) for words in lines if words[:1] == ["->"] and words[4:5] and words[4].isdigit())

    lvs.until(lambda: active("dir1") >= count)
    if "backup" in lvs.ipvsadm("-Ln", "--daemon", director="dir2"):
        lvs.until(lambda: active("dir2") >= count)


SYNC = {"sync": {"interface": "eth0", "instance": "VI_1", "id": 1}}


@pytest.mark.parametrize("synced", [True, False])
def test_crash_of_the_active_director(lvs: Segment, synced: bool) -> None:
    """With sync all established connections survive; without, none does: the sync is what keeps them."""
    lvs.guest.sh("sysctl -qw net.ipv4.vs.sync_threshold='1 50'", netns=lvs.ns("dir1"), check=False)
    both(lvs, **(SYNC if synced else {}))
    seen = lvs.traffic(40)
    established(lvs, 20)
    began = lvs.clock()
    lvs.guest.sh(f"kill -9 $(cat {lvs.folder()}/[pcr].pid); ip link set eth0 down", netns=lvs.ns("dir1"))
    lvs.until(lambda: lvs.holds("dir2"))
    ended = lvs.clock()
    report = traffic.judge(seen(), began, ended, {"gap_s": 30})
    print("FIGURE " + json.dumps({"director_crash": report, "sync": synced}))
    assert report["distribution"]["before"] and (report["distribution"]["during"] or report["distribution"]["after"])
    assert report["streams"]["opened"] == 20
    assert report["streams"]["alive"] == (20 if synced else 0)


def test_planned_switch_loses_no_connection(lvs: Segment) -> None:
    both(lvs, **SYNC)
    seen = lvs.traffic(40)
    established(lvs, 20)
    began = lvs.clock()
    lvs.guest.sh(f"kill -TERM $(cat {lvs.folder()}/p.pid)")
    lvs.until(lambda: lvs.holds("dir2"))
    ended = lvs.clock()
    report = traffic.judge(seen(), began, ended, {"streams_lost": 0})
    print("FIGURE " + json.dumps({"planned_switch": report}))
    assert report["streams"] == {"opened": 20, "alive": 20, "lost": 0}
    assert report["within_budget"]
    assert not lvs.holds("dir1")


def test_drain_of_a_node_and_back(lvs: Segment) -> None:
    """What playbooks/drain.yml asks for: out over later runs, until it is put back; nobody is dropped."""
    one_director(lvs, 3, 5)
    streams = lvs.streams(8)
    wish: dict[str, Any] = {"engine": "keepalived", "await_quiet": True, "on_timeout": "fail"}
    out = lvs.lvs([service(3, 5)], drain=["10.66.0.102"], drain_timeout=1, **wish)
    assert out["failed"] and "still in use" in out["msg"] and lvs.weights()["102"] == 0
    assert alive(streams.alive()) == {"rs1": 3, "rs2": 5}
    later = lvs.lvs([service(3, 5)], engine="keepalived")
    assert later["drained"] == ["10.66.0.102"] and not later["changed"] and lvs.weights()["102"] == 0
    streams.close("rs2")
    empty = lvs.lvs([service(3, 5)], drain_timeout=300, drain_until="active", **wish)
    assert not empty["failed"], empty["msg"]
    assert alive(streams.alive()) == {"rs1": 3}
    back = lvs.lvs([service(3, 5)], engine="keepalived", undrain=["10.66.0.102"])
    assert not back["failed"] and lvs.weights() == {"101": 3, "102": 5}


def test_keepalived_hides_old_rows(lvs: Segment) -> None:
    """Rows that are there when it starts keep their weights until a file moves: the comparison says so, or they are right."""
    lvs.ipvsadm("-A", "-t", f"{VIP}:8080", "-s", "wrr")
    lvs.ipvsadm("-a", "-t", f"{VIP}:8080", "-r", "10.66.0.101:8080", "-g", "-w", "7")
    lvs.configure([wanted(3, 5)])
    lvs.start_keepalived()
    lvs.until(lambda: lvs.holds("dir1") and lvs.weights().get("102") == 5)
    result = lvs.lvs([service(3, 5)], engine="keepalived", settle=3)
    assert result["failed"] == (lvs.weights()["101"] != 3), result["msg"]
