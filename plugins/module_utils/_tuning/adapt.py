# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Adaptive socket buffers: from one sample of traffic and the last state, whether the maximum moves. Pure. (T04)

    load = 30 % packet size + 50 % arrival rate + 20 % free memory          each 0 to 1

    packet size   mean bytes of a packet / 1448
    arrival rate  bytes per second / the link's bytes per second

memory above 70 % free and load at least 0.6: twice the buffer. Memory below 30 % free, or TCP above its pressure mark: the buffer
times the free share. In between nothing moves. A move needs two samples in a row that want it, and two samples' rest after it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

WEIGHTS = {"packet_size": 0.30, "arrival_rate": 0.50, "memory": 0.20}
FREE = 0.70
SCARCE = 0.30
GROW = 0.60
#: Samples that must agree before a move, and that pass after one.
AGREE = 2
REST = 2
_MSS = 1448.0
#: One step down takes at most three quarters.
_LEAST_FACTOR = 0.25


class Sample(NamedTuple):
    """packets, octets: within ``seconds``. memory_free: 0 to 1. tcp_pressure: TCP uses more memory than tcp_mem's second mark."""

    seconds: float
    packets: int
    octets: int
    memory_free: float
    tcp_pressure: bool = False


class State(NamedTuple):
    """What is remembered between samples. wish: grow, shrink or hold; agreed: samples in a row with it; rest: samples to pass."""

    wish: str = "hold"
    agreed: int = 0
    rest: int = 0

    def to_dict(self) -> dict[str, Any]:
        return {"wish": self.wish, "agreed": self.agreed, "rest": self.rest}

    @classmethod
    def from_dict(cls, found: Any) -> State:
        if not isinstance(found, dict) or found.get("wish") not in ("grow", "shrink", "hold"):
            return cls()
        return cls(str(found["wish"]), int(found.get("agreed") or 0), int(found.get("rest") or 0))


class Decision(NamedTuple):
    """value: the maximum from now on, bytes. moved: it differs from the present one. why: numbers."""

    value: int
    moved: bool
    why: str
    load: float


def load(sample: Sample, link_mbit: float) -> float:
    """0 (idle) to 1."""
    if sample.packets <= 0 or sample.seconds <= 0:
        size = rate = 0.0
    else:
        size = min(1.0, sample.octets / sample.packets / _MSS)
        rate = min(1.0, sample.octets / sample.seconds / (link_mbit * 1e6 / 8))
    memory = min(1.0, max(0.0, sample.memory_free))
    return WEIGHTS["packet_size"] * size + WEIGHTS["arrival_rate"] * rate + WEIGHTS["memory"] * memory


def wish(sample: Sample, score: float) -> str:
    if sample.tcp_pressure or sample.memory_free < SCARCE:
        return "shrink"
    if sample.memory_free > FREE and score >= GROW:
        return "grow"
    return "hold"


def remember(state: State, sample: Sample, score: float) -> tuple[State, str]:
    """(state after this sample, what may be done now: grow, shrink or hold)."""
    wanted = wish(sample, score)
    agreed = state.agreed + 1 if wanted == state.wish else 1
    if state.rest > 0:
        return State(wanted, agreed, state.rest - 1), "hold"
    if wanted != "hold" and agreed >= AGREE:
        return State(wanted, 0, REST), wanted
    return State(wanted, agreed, 0), "hold"


def decide(action: str, sample: Sample, score: float, present: int, low: int, high: int) -> Decision:
    """The next maximum of one direction. low, high: bounds in bytes; a move ends within them."""
    seen = (
        f"load {score:.2f}, memory {sample.memory_free:.0%} free"
        f"{', TCP above its pressure mark' if sample.tcp_pressure else ''}, "
        f"{sample.packets} packets and {sample.octets} bytes in {sample.seconds:.1f} s"
    )
    value = present
    if action == "grow":
        value = max(present * 2, int(present * 2 * score))
    elif action == "shrink":
        value = int(present * max(_LEAST_FACTOR, min(1.0, sample.memory_free)))
    if action != "hold":
        value = min(max(value, low), max(low, high))
    if value == present:
        held = {"hold": "kept", "grow": "kept at its upper bound", "shrink": "kept at its lower bound"}[action]
        return Decision(present, False, f"{held}: {seen}", score)
    word = "doubled" if value == 2 * present else "grown" if value > present else "shrunk"
    return Decision(value, True, f"{word} from {present} to {value}: {seen}", score)
