# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Capacity → weights: proportions that a scheduler can keep, moved in steps that do not hurt. Pure.

A server is a dictionary; all fields but ``name`` may be missing:

    name      unique
    capacity  any non-negative number, or {gpus, type}; null: no data now, hold what was there
    health    0 to 1, default 1: a throttled card, a long queue
    state     up (default), down: does not answer, drain: an administrator wants it empty
    since     seconds it has been up; null: always. A returning server starts slowly
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import reduce
from math import gcd
from typing import Any

STATES = ("up", "down", "drain")
#: The largest weight that keeps proportions: mh has 6 bits; wrr serves in bursts of the largest weight.
CAPS = {"mh": 63, "wrr": 100}
DEFAULT_CAP = 1000


class Wrong(ValueError):
    """An option or a server's field is not usable; the message says which and what is allowed."""


@dataclass(frozen=True)
class Policy:
    """scheduler: decides the largest weight. cap: a smaller one, 0 for the scheduler's.

    factors: GPU type → capacity of one. hysteresis: change of a share, 0.1 is a tenth, below which the old weight stays.
    floor: least share of its capacity an up server keeps whatever its health. panic: share of all capacity; when less is up
    and healthy, servers that are merely down keep their weight: sending to a sick server beats refusing everyone.
    drain_at_once: share of all capacity that may be at weight 0 by ``drain``; the servers over it stay, in order of name.
    slow_start: seconds to full weight. start_share: what a returning server begins with.
    """

    scheduler: str = "wrr"
    cap: int = 0
    factors: dict[str, float] = field(default_factory=dict)
    hysteresis: float = 0.1
    floor: float = 0.0
    panic: float = 0.0
    drain_at_once: float = 1.0
    slow_start: float = 0.0
    start_share: float = 0.1

    def limit(self) -> int:
        most = CAPS.get(self.scheduler, DEFAULT_CAP)
        return min(self.cap, most) if self.cap else most

    def check(self) -> None:
        """Raises Wrong."""
        for name in ("hysteresis", "floor", "panic", "drain_at_once", "start_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise Wrong(f"{name} is {getattr(self, name)!r}; allowed is 0 to 1")
        if self.slow_start < 0 or self.cap < 0:
            raise Wrong("slow_start and cap must not be negative")


@dataclass(frozen=True)
class Weight:
    """weight: 0 to the policy's limit. why: one line for the operator."""

    name: str
    weight: int
    capacity: float
    why: str

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "weight": self.weight, "capacity": self.capacity, "why": self.why}


def capacity(server: dict[str, Any], factors: dict[str, float]) -> float | None:
    """Full capacity of a server without its health; None: no data. Raises Wrong."""
    given = server.get("capacity")
    name = server.get("name")
    if given is None:
        return None
    if isinstance(given, dict):
        if given.get("gpus") is None:
            return None
        kind = given.get("type")
        if kind is not None and factors and kind not in factors:
            raise Wrong(f"server {name}: no factor for GPU type {kind!r}; known are {', '.join(sorted(factors))}")
        given = float(given["gpus"]) * (factors.get(kind, 1.0) if kind is not None else 1.0)
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not math.isfinite(given) or given < 0:
        raise Wrong(f"server {name}: capacity {given!r}; allowed is a number from 0, or gpus and type")
    return float(given)


def share_of_start(since: float | None, policy: Policy) -> float:
    """The part of its weight a server gets that has been up for ``since`` seconds: a straight line."""
    if since is None or not policy.slow_start or since >= policy.slow_start:
        return 1.0
    return policy.start_share + (1.0 - policy.start_share) * max(0.0, since) / policy.slow_start


def reduced(shares: dict[str, float], limit: int) -> dict[str, int]:
    """Small integers in proportion to ``shares``: exact where they fit, else the largest becomes ``limit``.

    A share above 0 never becomes 0: weight 0 means "no new connections".
    """
    positive = [value for value in shares.values() if value > 0]
    if not positive:
        return dict.fromkeys(shares, 0)
    exact = {name: round(value * 1000) for name, value in shares.items()}
    if all(abs(exact[name] - value * 1000) < 1e-6 and (exact[name] > 0) == (value > 0) for name, value in shares.items()):
        divisor = reduce(gcd, exact.values())
        if divisor and max(exact.values()) // divisor <= limit:
            return {name: value // divisor for name, value in exact.items()}
    top = max(positive)
    scaled = {name: max(1, round(value / top * limit)) if value > 0 else 0 for name, value in shares.items()}
    divisor = reduce(gcd, scaled.values())
    return {name: value // divisor for name, value in scaled.items()}


def weights(servers: list[dict[str, Any]], policy: Policy, previous: dict[str, int] | None = None) -> list[Weight]:
    """One Weight for each server, in the order given. previous: weights in use, by name. Raises Wrong."""
    policy.check()
    before = previous or {}
    names = [str(server.get("name") or "") for server in servers]
    if "" in names or len(set(names)) != len(names):
        raise Wrong("every server needs a name of its own")
    full: dict[str, float] = {}
    held: set[str] = set()
    for name, server in zip(names, servers):
        if server.get("state", "up") not in STATES:
            raise Wrong(f"server {name}: state {server.get('state')!r}; allowed are {', '.join(STATES)}")
        found = capacity(server, policy.factors)
        if found is None:
            held.add(name)
        else:
            full[name] = found
    _hold(full, held, before, names)
    reasons: dict[str, str] = {}
    shares = {name: _share(server, full[name], name in held, policy, reasons) for name, server in zip(names, servers)}
    _panic(servers, names, full, shares, policy, reasons)
    _budget(servers, names, full, shares, policy, reasons)
    made = reduced(shares, policy.limit())
    made = _settled(made, before, shares, policy, reasons)
    return [Weight(name, made[name], round(full[name], 6), reasons.get(name, "by capacity")) for name in names]


def _hold(full: dict[str, float], held: set[str], before: dict[str, int], names: list[str]) -> None:
    """A server without data gets the capacity that its old weight stood for, next to those with data; else the smallest known."""
    both = [name for name in names if name in full and before.get(name)]
    unit = sum(full[name] for name in both) / sum(before[name] for name in both) if both else 0.0
    for name in held:
        if before.get(name):
            full[name] = before[name] * unit if unit else float(before[name])
        else:
            full[name] = min(full.values(), default=1.0) if name not in before else 0.0


def _share(server: dict[str, Any], full: float, held: bool, policy: Policy, reasons: dict[str, str]) -> float:
    name, state = str(server["name"]), server.get("state", "up")
    if state != "up":
        reasons[name] = "drained by an administrator" if state == "drain" else "down"
        return 0.0
    health = server.get("health", 1.0)
    if health is None:
        health = 1.0
    if isinstance(health, bool) or not isinstance(health, (int, float)) or not 0 <= health <= 1:
        raise Wrong(f"server {name}: health {health!r}; allowed is 0 to 1")
    start = share_of_start(server.get("since"), policy)
    if held:
        reasons[name] = "no data: held"
    elif start < 1:
        reasons[name] = f"slow start, {round(start * 100)} %"
    elif health < 1:
        reasons[name] = f"health {health:g}"
    return full * max(health, policy.floor) * start


def _panic(
    servers: list[dict[str, Any]],
    names: list[str],
    full: dict[str, float],
    shares: dict[str, float],
    policy: Policy,
    reasons: dict[str, str],
) -> None:
    """Counted is capacity that is pooled and up, not what is "not down": drained servers help nobody."""
    total = sum(full.values())
    serving = sum(full[name] for name in names if shares[name] > 0)
    if not policy.panic or not total or serving >= policy.panic * total:
        return
    for name, server in zip(names, servers):
        if server.get("state", "up") == "down" and full[name]:
            shares[name] = full[name]
            reasons[name] = f"down, kept: only {round(serving / total * 100)} % of the capacity is up"


def _budget(
    servers: list[dict[str, Any]],
    names: list[str],
    full: dict[str, float],
    shares: dict[str, float],
    policy: Policy,
    reasons: dict[str, str],
) -> None:
    total = sum(full.values())
    allowed = policy.drain_at_once * total + 1e-9
    used = 0.0
    for name, server in sorted(zip(names, servers), key=lambda pair: pair[0]):
        if server.get("state", "up") != "drain":
            continue
        if used + full[name] > allowed:
            shares[name] = full[name]
            reasons[name] = f"drain postponed: {round(policy.drain_at_once * 100)} % of the capacity may be drained at once"
        else:
            used += full[name]


def _settled(
    made: dict[str, int], before: dict[str, int], shares: dict[str, float], policy: Policy, reasons: dict[str, str]
) -> dict[str, int]:
    """The old weights while every share is within the hysteresis of what it was: small moves are noise."""
    if set(made) != set(before) or any((made[name] == 0) != (before[name] == 0) for name in made):
        return made
    old_sum, new_sum = sum(before.values()), sum(shares.values())
    if not old_sum or not new_sum or max(before.values()) > policy.limit():
        return made
    for name in made:
        old, new = before[name] / old_sum, shares[name] / new_sum
        if old and abs(new - old) / old > policy.hysteresis:
            return made
    for name in made:
        if before[name] != made[name]:
            reasons[name] = "within the hysteresis: kept"
    return dict(before)
