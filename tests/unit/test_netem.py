# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What netem does, from the kernel's bytes, and what is said of it. Against a kernel: the fault latency of the corpus."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.judge import judge
from ansible_collections.netops.fleet.plugins.module_utils._evidence import netem
from ansible_collections.netops.fleet.plugins.module_utils._kernel import netlink
from tests.unit.hosts import healthy, link

QUIET = {
    "handle": "8001:", "place": "root", "delay_ms": 0.0, "jitter_ms": 0.0, "loss_percent": 0.0, "loss_model": False,
    "duplicate_percent": 0.0, "reorder_percent": 0.0, "corrupt_percent": 0.0, "rate_bytes": 0,
}  # fmt: skip


def options(latency: int = 0, loss: float = 0, duplicate: float = 0, jitter: int = 0, *more: tuple[int, bytes]) -> bytes:
    full = 0xFFFFFFFF
    return struct.pack("=IIIIII", latency, 1000, int(full * loss), 0, int(full * duplicate), jitter) + netlink.pack(list(more))


def test_as_a_kernel_tells_it() -> None:
    delays = (10, struct.pack("=q", 300_000_000)), (11, struct.pack("=q", 20_000_000))
    reorder, corrupt = (3, struct.pack("=II", 0x40000000, 0)), (4, struct.pack("=II", 0x0147AE14, 0))
    told = netem.parse(options(1, 0.05, 0.01, 1, *delays, reorder, corrupt, (6, struct.pack("=IiIi", 125000, 0, 0, 0))))
    assert told == {
        "delay_ms": 300.0, "jitter_ms": 20.0, "loss_percent": 5.0, "loss_model": False, "duplicate_percent": 1.0,
        "reorder_percent": 25.0, "corrupt_percent": 0.5, "rate_bytes": 125000,
    }  # fmt: skip


def test_as_an_old_kernel_tells_it_and_damaged() -> None:
    assert netem.parse(options(1_562_500))["delay_ms"] == 100.0, "ticks of 64 ns"
    assert netem.parse(options(0, 0, 0, 0, (5, b"")))["loss_model"] is True
    assert (
        netem.parse(options(0, 0, 0, 0, (6, bytes(16)), (8, struct.pack("=Q", 12_500_000_000))))["rate_bytes"] == 12_500_000_000
    )
    assert netem.parse(bytes(3)) == netem.parse(b"") == {key: QUIET[key] for key in QUIET if key not in ("handle", "place")}


def told(*impairments: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    findings, _answer = judge(healthy(links=[link(netem=[{**QUIET, **one} for one in impairments])], **more))
    return findings


@pytest.mark.parametrize(
    ("does", "severity", "words"),
    [
        ({"delay_ms": 300.0}, "critical", "holds each packet back for 300 ms"),
        ({"delay_ms": 5.0, "jitter_ms": 2.0}, "warning", "holds each packet back for 5 ms ± 2 ms"),
        ({"loss_percent": 1.0}, "critical", "loses 1 %"),
        ({"loss_percent": 0.1, "duplicate_percent": 3.0}, "warning", "loses 0.1 %, doubles 3 %"),
        ({"loss_model": True}, "critical", "loses packets in bursts"),
        ({"rate_bytes": 125000}, "warning", "sends no more than 1 Mbit/s"),
    ],
)
def test_harm_is_told(does: dict[str, Any], severity: str, words: str) -> None:
    (found,) = told(does)
    assert (found["id"], found["severity"], found["subject"]) == ("link-impaired", severity, "netem eth0 root")
    assert words in found["summary"] and found["fix"][-1] == "tc qdisc del dev eth0 root"


def test_one_that_does_nothing_is_no_harm() -> None:
    assert told({}) == [] and told() == []


def test_what_is_slow_by_it_goes_with_it() -> None:
    ping = {
        "kind": "ping", "target": "192.0.2.1", "address": "192.0.2.1", "status": "ok", "sent": 3, "received": 3,
        "loss_percent": 0, "rtt_ms": {"min": 300.1, "avg": 300.4, "max": 301.0},
    }  # fmt: skip
    routes = [{"family": 4, "table": 254, "type": "unicast", "dst": "192.0.2.0/24", "via": None, "dev": "eth0", "flags": []}]
    (found,) = told({"delay_ms": 300.0}, probes=[ping], routes=routes)
    assert [one["id"] for one in found["data"]["consequences"]] == ["round-trip-slow"]
    slow = told(probes=[ping], routes=routes)
    assert [one["id"] for one in slow] == ["round-trip-slow"], "without netem it stands alone"
