# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings about TCP beneath the programs: at their limits, and just below them."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import transport
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from tests.unit.hosts import healthy, listener


def drops(out_segments: int = 0, **grown: int) -> dict[str, Any]:
    counters = {name: {"delta": value, "total": value} for name, value in grown.items()}
    return {"seconds": 2.0, "reset": False, "layers": {"tcp": counters}, "out_segments": out_segments}


def told(**sections: Any) -> list[tuple[str, str]]:
    return [(one.id, one.severity) for one in transport.find(Facts(healthy(**sections)))]


@pytest.mark.parametrize(
    ("out_segments", "again", "wanted"),
    [(1000, 20, True), (1000, 19, False), (1001, 20, False), (10_000_000, 5000, False), (0, 20, True)],
)
def test_retransmissions_are_held_against_what_was_sent(out_segments: int, again: int, wanted: bool) -> None:
    assert bool(told(drops=drops(out_segments, RetransSegs=again))) == wanted


def test_memory_and_handshakes() -> None:
    assert told(drops=drops(TCPMemoryPressures=1)) == [("tcp-memory-pressure", "warning")]
    assert told(drops=drops(TCPMemoryPressures=1, TCPAbortOnMemory=2)) == [("tcp-memory-pressure", "critical")]
    assert told(drops=drops(TCPReqQFullDoCookies=3)) == [("syn-queue-overflow", "warning")]
    assert told(drops=drops(TCPReqQFullDrop=1)) == [("syn-queue-overflow", "critical")]


@pytest.mark.parametrize(("count", "wanted"), [(25408, []), (25409, ["warning"]), (28232, ["critical"])])
def test_ephemeral_ports(count: int, wanted: list[str]) -> None:
    sockets = {"listeners": [listener()], "states": {"tcp": {}}, "ports": {"tcp/443": {"TIME_WAIT": count}}, "udp_drops": {}}
    assert [severity for _id, severity in told(sockets=sockets)] == wanted


def test_connections_of_clients_to_a_port_that_is_served_here_take_no_port_of_this_host() -> None:
    sockets = {"listeners": [listener()], "states": {"tcp": {}}, "ports": {"tcp/1678": {"ESTABLISHED": 60000}}, "udp_drops": {}}
    assert told(sockets=sockets) == []
