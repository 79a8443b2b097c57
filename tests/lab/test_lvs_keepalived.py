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

from tests.lab import lvs_drills
from tests.lab.guest import Guest
from tests.lab.lvs_drills import SYNC, both, checked, one_director
from tests.lab.lvs_net import VIP, VIP6, Segment, service

pytestmark = [pytest.mark.lab, pytest.mark.machine, pytest.mark.drill]


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


def alive(found: dict[str, list[str]]) -> dict[str, int]:
    assert {state for states in found.values() for state in states} <= {"alive"}, found
    return {name: len(states) for name, states in found.items()}


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
    for weight in (300, 9):
        assert lvs.lvs([service(weight, 5)], engine="keepalived")["failed"] is False
        assert lvs.weights() == {"101": weight, "102": 5}
    lvs.reload(pid)
    assert alive(streams.alive()) == {"rs1": 3, "rs2": 5}
    lvs.until(lambda: lvs.weights() == {"101": 9, "102": 5})
    assert not lvs.lvs([service(9, 5)], engine="keepalived")["failed"]


def test_drift_is_found_because_keepalived_does_not(lvs: Segment) -> None:
    pid = one_director(lvs, 3, 5)
    lvs.ipvsadm("-e", "-t", f"{VIP}:8080", "-r", "10.66.0.101:8080", "-g", "-w", "9")
    lvs.reload(pid)
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


def test_restart_keeps_services_and_connections(lvs: Segment) -> None:
    pid = one_director(lvs, 3, 5)
    streams = lvs.streams(8)
    lvs.guest.end(pid)
    assert lvs.weights() == {"101": 3, "102": 5}
    lvs.start_keepalived()
    lvs.until(lambda: lvs.holds("dir1"))
    assert alive(streams.alive()) == {"rs1": 3, "rs2": 5}
    assert not lvs.lvs([service(3, 5)], engine="keepalived")["failed"]


def test_without_its_option_a_stop_drops_everybody(lvs: Segment) -> None:
    """The control: why the role gives keepalived -I."""
    pid = one_director(lvs, 3, 5, keep=False)
    streams = lvs.streams(8)
    lvs.guest.end(pid)
    assert lvs.rules() == []
    lvs.guest.sh(f"ip address replace {VIP}/32 dev eth0", netns=lvs.ns("dir1"))
    assert "alive" not in {state for states in streams.alive(5).values() for state in states}


def test_removed_server_is_drained_before_keepalived_forgets_it(lvs: Segment) -> None:
    """It stays in the configuration at weight 0 while somebody is on it; then it goes, with its files."""
    pid = one_director(lvs, 3, 5)
    streams = lvs.streams(8)
    wish: dict[str, Any] = {"engine": "keepalived", "on_timeout": "fail"}
    told = lvs.configure([checked(3)])
    assert [one["servers"][0]["address"] for one in told["leaving"]] == ["10.66.0.102"]
    lvs.reload(pid)
    lvs.until(lambda: lvs.weights() == {"101": 3, "102": 0})
    assert Counter(lvs.requests(6)) == {"rs1": 6}
    refused = lvs.lvs([service(3)], drain_timeout=0, **wish)
    assert refused["failed"] and "still in use" in refused["msg"] and refused["connections_at_risk"] == 5
    assert refused["leaving"] == told["leaving"]
    assert alive(streams.alive()) == {"rs1": 3, "rs2": 5}
    streams.close("rs2")
    done = lvs.lvs([service(3)], drain_timeout=300, **wish)
    assert not done["failed"] and done["leaving"] == [] and done["connections_dropped"] == 0, done["msg"]
    lvs.configure([checked(3)], leaving=done["leaving"])
    lvs.reload(pid)
    lvs.until(lambda: lvs.weights() == {"101": 3})
    after = lvs.lvs([service(3)], **wish)
    assert not after["failed"] and not after["changed"] and after["leaving"] == []
    assert "10.66.0.102" not in lvs.guest.sh(f"ls {lvs.folder()}/weights")
    assert alive(streams.alive()) == {"rs1": 3}


def test_server_forgotten_in_use_leaves_its_clients_hanging(lvs: Segment) -> None:
    """The control: what a reload does to the clients of a server that is taken out at once."""
    pid = one_director(lvs, 3, 5)
    streams = lvs.streams(8)
    lvs.configure([checked(3)], leaving=[])
    lvs.reload(pid)
    lvs.until(lambda: lvs.weights() == {"101": 3})
    found = streams.alive(3)
    assert found["rs1"] == ["alive"] * 3 and set(found["rs2"]) == {"TimeoutError"}


def test_thresholds_that_a_reload_does_not_bring_are_found(lvs: Segment) -> None:
    pid = one_director(lvs, 3, 5)
    limited = {**service(3, 5)["servers"][0], "upper_threshold": 10, "lower_threshold": 5}
    servers = [limited, service(3, 5)["servers"][1]]
    lvs.configure([{**checked(3, 5), "servers": servers}])
    lvs.reload(pid)
    result = lvs.lvs([service(servers=servers)], engine="keepalived", settle=3)
    shown = [line.split() for line in lvs.ipvsadm("-Ln", "--thresholds").splitlines()]
    brought = ["->", "10.66.0.101:8080", "10", "5"] in [words[:4] for words in shown]
    assert result["failed"] is not brought, result["msg"]
    if not brought:  # as of keepalived 2.2
        assert result["drift"][0]["text"] == "upper_threshold 0 instead of 10, lower_threshold 0 instead of 5"


def test_dead_server_leaves_and_returns_slowly(lvs: Segment) -> None:
    one_director(lvs, 20, 20, ramp=lvs_drills.ramp(lvs, 10))
    lvs.stop_backend("rs2")
    lvs.until(lambda: lvs.weights()["102"] == 0)
    assert set(lvs.requests(6)) == {"rs1"}
    told = lvs.lvs([service(20, 20)], engine="keepalived")
    assert not told["failed"] and told["down"] == [f"tcp/{VIP}:8080 10.66.0.102:8080"]
    lvs.start_backend("rs2")
    lvs.until(lambda: lvs.weights()["102"] == 20)
    left, rising = lvs_drills.backend_death(lvs, 20)
    assert rising == sorted(rising) and rising[0] < 20, rising
    print("FIGURE " + json.dumps({"backend_left_s": left, "weights_on_return": sorted(set(rising))}))


def test_server_without_the_wanted_version_gets_nothing(lvs: Segment) -> None:
    lvs.guest.sh("echo v2 > /tmp/lvs/rs1.version; echo v1 > /tmp/lvs/rs2.version")
    entry = service(3, 5, check={**lvs_drills.CHECK, "path": "/ready", "body": "v2"}, interval=1)
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


MH = {"scheduler": "mh", "flags": ["mh-fallback", "mh-port"]}

#: How the directors run → how many of the held connections live on at the second one when the first crashes.
CRASHES: dict[str, tuple[dict[str, Any], int, int]] = {
    "sync": (SYNC, 0, 20),
    "nothing": ({}, 0, 0),
    "sync, advertised 5 times a second": ({**SYNC, "advertise": 0.2}, 0, 20),
    "mh": ({"entry": checked(3, 5, 2, **MH)}, 0, 0),
    "mh, sloppy_tcp": ({"entry": checked(3, 5, 2, **MH)}, 1, 20),
}


@pytest.mark.parametrize("how", CRASHES)
def test_crash_of_the_active_director(lvs: Segment, how: str) -> None:
    """Connections survive when they were told to the other one, or when it finds the same server and takes them in."""
    more, sloppy, survive = CRASHES[how]
    for director in lvs.directors:
        lvs.guest.sh(f"sysctl -qw net.ipv4.vs.sync_threshold='1 50' net.ipv4.vs.sloppy_tcp={sloppy}", netns=lvs.ns(director))
    both(lvs, **more)
    report = lvs_drills.crash(lvs)
    print("FIGURE " + json.dumps({"director_crash": report, "how": how}))
    assert report["distribution"]["before"] and (report["distribution"]["during"] or report["distribution"]["after"])
    assert report["streams"] == {"opened": 20, "alive": survive, "lost": 20 - survive}


def test_planned_switch_loses_no_connection(lvs: Segment) -> None:
    both(lvs, **SYNC)
    report = lvs_drills.planned_switch(lvs)
    print("FIGURE " + json.dumps({"planned_switch": report}))
    assert report["streams"] == {"opened": 20, "alive": 20, "lost": 0}
    assert not lvs.holds("dir1")


def test_drain_of_a_node_and_back(lvs: Segment) -> None:
    """What playbooks/drain.yml asks for: out over later runs, until it is put back; nobody is dropped."""
    one_director(lvs, 3, 5)
    streams = lvs.streams(8)
    wish: dict[str, Any] = {"engine": "keepalived", "await_quiet": True, "on_timeout": "fail"}
    out = lvs.lvs([service(3, 5)], drain=["10.66.0.102"], drain_timeout=1, **wish)
    assert out["failed"] and "still in use" in out["msg"] and lvs.weights()["102"] == 0
    both_out = lvs.lvs([service(3, 5)], drain=["10.66.0.101"], drain_at_once=0.7, **wish)
    assert both_out["failed"] and "100 % of its weight" in both_out["msg"] and lvs.weights() == {"101": 3, "102": 0}
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
    lvs.configure([checked(3, 5)])
    lvs.start_keepalived()
    lvs.until(lambda: lvs.holds("dir1") and lvs.weights().get("102") == 5)
    result = lvs.lvs([service(3, 5)], engine="keepalived", settle=3)
    assert result["failed"] == (lvs.weights()["101"] != 3), result["msg"]
