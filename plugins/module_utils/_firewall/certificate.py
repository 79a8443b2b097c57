# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Do two lists of rules give every packet the same verdict? An exact answer, or "could not tell". Pure.

Nothing here is shared with fold: neither the reading of conditions nor the algebra. A condition on a number (address, port,
protocol, mark, interface, connection state) is a set of numbers of one dimension; any other condition is a variable that is
true or false on its own. Both lists are split along one dimension after the other into the intervals between all their
borders, and compared where every condition is decided. More packets are looked at than there are (variables may contradict
each other), so "equal" holds for all real ones.
Design: docs/dev/firewall-sets.md.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._firewall.cells import (
    STATES,
    V4,
    V6,
    WORDS,
    Compare,
    Entry,
    Spans,
    TooMuch,
    Witness,
)
from ansible_collections.netops.fleet.plugins.module_utils._firewall.model import (
    NFT,
    Action,
    Match,
    Rule,
    Set,
    Unknown,
    VerdictMap,
)

EQUAL, DIFFERENT, UNKNOWN = "equal", "different", "unknown"
#: Cells and list members looked at before the answer is "could not tell".
BUDGET = 60_000_000

_FINAL = {"accept", "drop", "reject", "return"}
_NOISELESS = {"log", "counter"}
_TRANSPORT = {"tcp": 6, "udp": 17, "dccp": 33, "sctp": 132, "udplite": 136}
_COUNTS = re.compile(r"\b(packets \d+ bytes|used) \d+")


@dataclass
class Certificate:
    """verdict: equal, different (witness: a packet that shows it) or unknown (why). cells: places compared."""

    verdict: str
    why: str = ""
    witness: Witness | None = None
    cells: int = 0
    dimensions: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if value not in (None, "")}


def certify(
    before: list[Rule], after: list[Rule], sets: Iterable[Set] = (), quiet: frozenset[str] = frozenset(), budget: int = BUDGET
) -> Certificate:
    """Compare two lists for one chain. sets: those that the rules after name and that are looked into (a set not given is
    a variable). quiet: chains of which it is known that they only filter, log and count (see :func:`quiet_chains`)."""
    known = {one.name: one for one in sets}
    family = next((rule.family for rule in (*before, *after)), "inet")
    try:
        parts = [_segments(rules, known, quiet) for rules in (before, after)]
    except ValueError as error:
        return Certificate(UNKNOWN, str(error))
    (first, cuts), (second, others) = parts
    if cuts != others:
        at = next((n for n, (one, other) in enumerate(zip(cuts, others)) if one != other), min(len(cuts), len(others)))
        said = [one[at][:200] if at < len(one) else "(none)" for one in (cuts, others)]
        return Certificate(DIFFERENT, f"rules with an effect are not the same: before {said[0]}, after {said[1]}")
    result = Certificate(EQUAL)
    names: dict[str, None] = {}
    for one, other in zip(first, second):
        compare = Compare(one, other, family, budget)
        try:
            witness = compare.run()
        except TooMuch:
            return Certificate(UNKNOWN, f"more than {budget} places to compare", cells=result.cells + compare.cells)
        except RecursionError:
            return Certificate(UNKNOWN, "conditions too deep to compare")
        budget -= compare.spent
        result.cells += compare.cells
        names.update(dict.fromkeys(compare.order))
        if witness is not None:
            result.verdict, result.witness = DIFFERENT, witness
            result.why = f"before: {witness.pop('before')}, after: {witness.pop('after')}"
            break
    result.dimensions = list(names)
    return result


def quiet_chains(rules: Iterable[Rule]) -> frozenset[str]:
    """Chains (of one table) whose rules, and those of the chains they jump to, only look at packets, log and count."""
    loud: set[str] = set()
    jumps: dict[str, set[str]] = {}
    names: set[str] = set()
    for rule in rules:
        names.add(rule.chain)
        verdict = rule.verdict
        if verdict is not None and verdict.kind in ("jump", "goto"):
            jumps.setdefault(rule.chain, set()).add(verdict.target or "")
        elif verdict is not None and verdict.kind not in (*_FINAL, "continue"):
            loud.add(rule.chain)
        for part in rule.parts:
            if isinstance(part, VerdictMap) or (isinstance(part, Action) and (part.terminal or part.name not in _NOISELESS)):
                loud.add(rule.chain)
        if rule.owner != "user":
            loud.add(rule.chain)
    while True:
        more = {chain for chain, targets in jumps.items() if chain not in loud and targets & loud}
        if not more:
            return frozenset(names - loud)
        loud |= more


# --- rules as entries


def _segments(rules: list[Rule], known: dict[str, Set], quiet: frozenset[str]) -> tuple[list[list[Entry]], list[str]]:
    """Entries between the rules that may do more than decide, and those rules as text."""
    segments: list[list[Entry]] = [[]]
    cuts: list[str] = []
    for rule in rules:
        if _simple(rule, quiet):
            segments[-1] += _entries(rule, known)
        else:
            cuts.append(_identity(rule))
            segments.append([])
    return segments, cuts


def _identity(rule: Rule) -> str:
    verdict = None if rule.verdict is None else rule.verdict.to_dict()
    text = _COUNTS.sub("", rule.text)
    return json.dumps([text, [part.to_dict() for part in rule.parts], verdict], sort_keys=True)


def _simple(rule: Rule, quiet: frozenset[str]) -> bool:
    """Conditions first, then at most something that leaves packet and chain as they are, then a known end."""
    acted = False
    for part in rule.parts:
        if isinstance(part, Action):
            acted = True
            if part.terminal or part.name not in _NOISELESS:
                return False
        elif isinstance(part, (Unknown, VerdictMap)) or acted:
            return False
    if rule.verdict is None or rule.verdict.kind in _FINAL or rule.verdict.kind == "continue":
        return True
    return rule.verdict.kind in ("jump", "goto") and rule.verdict.target in quiet


def _entries(rule: Rule, known: dict[str, Set]) -> list[Entry]:
    actions = [part.to_dict() for part in rule.parts if isinstance(part, Action)]
    verdict = rule.verdict
    final = verdict is not None and verdict.kind in (*_FINAL, "goto")
    if not actions and (verdict is None or verdict.kind == "continue"):
        return []  # it only counts
    words = [] if verdict is None else [verdict.kind, verdict.target or "", verdict.detail or ""]
    label = json.dumps([words, actions]) if actions else " ".join(word for word in words if word)
    boxes: list[tuple[dict[str, Spans], frozenset[str]]] = [({}, frozenset())]
    for part in rule.parts:
        if not isinstance(part, Match):
            continue
        choices = _choices(part, rule, known)
        boxes = [
            (numbers, variables | more)
            for given, variables in boxes
            for limits, more in choices
            for numbers in [_both(given, limits)]
            if numbers is not None
        ]
    if not final and len(boxes) > 1:
        raise ValueError(f"{rule.where()}: an effect behind a set of pairs")
    return [Entry(numbers, variables, label, final) for numbers, variables in boxes]


def _both(given: dict[str, Spans], limits: dict[str, Spans]) -> dict[str, Spans] | None:
    """Packets in both; None when there are none."""
    found = dict(given)
    for name, spans in limits.items():
        if name in found:
            spans = _cut(found[name], spans)
            if not spans:
                return None
        found[name] = spans
    return found if all(found.values()) else None


def _cut(one: Spans, other: Spans) -> Spans:
    found, a, b = [], 0, 0
    while a < len(one) and b < len(other):
        low, high = max(one[a][0], other[b][0]), min(one[a][1], other[b][1])
        if low <= high:
            found.append((low, high))
        if one[a][1] < other[b][1]:
            a += 1
        else:
            b += 1
    return tuple(found)


def _choices(part: Match, rule: Rule, known: dict[str, Set]) -> list[tuple[dict[str, Spans], frozenset[str]]]:
    """A condition as one box, or (a set of concatenations) as several of which one must hold."""
    names = part.left.split(" . ")
    values = part.values
    more: dict[str, Spans] = {}
    if part.set is not None:
        content = known.get(part.set)
        if content is None or content.elements is None or part.mask is not None or part.op != "in":
            return [_variable(part)]
        if content.backend != NFT:
            wanted = {"ip": "inet", "ip6": "inet6"}[rule.family]
            if content.family not in ("", wanted):
                return []
            if content.type == "hash:net,iface":
                return [_variable(part)]  # not the union of its members: the most specific network decides for every interface
            if content.type == "bitmap:port":
                more["protocol"] = ((6, 6), (17, 17))
        values = content.elements
    if values is None:
        return [_variable(part)]
    if len(names) == 1:
        numbers = _numbers(names[0], part, values)
        if numbers is None:
            return [_variable(part)]
        joined = _both(numbers, more)
        return [] if joined is None else [(joined, frozenset())]
    if part.op != "in" or part.mask is not None:
        return [_variable(part)]
    found: list[tuple[dict[str, Spans], frozenset[str]]] = []
    for value in values:
        if not (isinstance(value, list) and value[:1] == ["concat"] and len(value) == len(names) + 1):
            return [_variable(part)]
        box: dict[str, Spans] | None = {}
        for name, one in zip(names, value[1:]):
            numbers = _numbers(name, Match(name, "in", [one]), [one])
            if numbers is None:
                return [_variable(part)]
            box = None if box is None else _both(box, numbers)
        if box is not None:
            found.append((box, frozenset()))
    return found


def _variable(part: Match) -> tuple[dict[str, Spans], frozenset[str]]:
    return {}, frozenset((json.dumps(part.to_dict(), sort_keys=True),))


def _numbers(left: str, part: Match, values: list[Any]) -> dict[str, Spans] | None:
    """The condition in numbers, with what it says about family and protocol; None when it is not about numbers."""
    if part.mask is not None:
        return None
    if left == "ct state":
        if not all(isinstance(one, str) and one in STATES for one in values):
            return None
        if part.op not in ("in", "bits", "not in", "not bits"):
            return None
    elif part.op not in ("in", "not in", "<", ">", "<=", ">="):
        return None
    name, top, limits = _dimension(left)
    spans: list[tuple[int, int]] = []
    for one in values:
        found = _interval(left, one)
        if found is None:
            return None
        spans.append(found)
    if part.op in ("<", ">", "<=", ">="):
        value = spans[0][0]
        chosen = {"<": (0, value - 1), "<=": (0, value), ">": (value + 1, top), ">=": (value, top)}[part.op]
        limits[name] = (chosen,) if chosen[0] <= chosen[1] else ()
    else:
        joined = _union(spans)
        limits[name] = _complement(joined, top) if part.op.startswith("not") else joined
    return limits


def _dimension(left: str) -> tuple[str, int, dict[str, Spans]]:
    """Name of the dimension, its largest number, what the selector implies. A packet without the field has -1 there."""
    head, _space, tail = left.partition(" ")
    if head == "ip" and tail in ("saddr", "daddr"):
        return left, V4, {"family": ((0, 0),)}
    if head == "ip6" and tail in ("saddr", "daddr"):
        return left, V6, {"family": ((1, 1),)}
    if head in _TRANSPORT and tail in ("sport", "dport"):
        return f"th {tail}", 65535, {"protocol": ((_TRANSPORT[head], _TRANSPORT[head]),)}
    if left in ("th sport", "th dport"):
        return left, 65535, {}
    if left == "meta l4proto":
        return "protocol", 255, {}
    if left == "ct state":
        return left, len(STATES) - 1, {}
    return left, 1 << 64, {}


def _interval(left: str, value: Any) -> tuple[int, int] | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return None if left.endswith("addr") else (value, value)
    if isinstance(value, str):
        if left == "ct state":
            return (STATES[value], STATES[value])
        if left in ("meta iifname", "meta oifname"):
            if value.endswith("*"):
                return None
            number = WORDS.setdefault(value, len(WORDS))
            return (number, number)
        number = _address(left, value)
        return None if number < 0 else (number, number)
    if isinstance(value, list) and len(value) == 3 and value[0] == "range":
        low, high = _interval(left, value[1]), _interval(left, value[2])
        return None if low is None or high is None or high[1] < low[0] else (low[0], high[1])
    if isinstance(value, list) and len(value) == 3 and value[0] == "prefix" and isinstance(value[1], str):
        number = _address(left, value[1])
        free = (32 if left.startswith("ip ") else 128) - int(value[2])
        if number < 0 or free < 0:
            return None
        return (number >> free) << free, number | ((1 << free) - 1)
    return None


def _address(left: str, text: str) -> int:
    """-1 when it is no address of the selector's family."""
    if left not in ("ip saddr", "ip daddr", "ip6 saddr", "ip6 daddr"):
        return -1
    try:
        return int.from_bytes(socket.inet_pton(socket.AF_INET if left[2] == " " else socket.AF_INET6, text), "big")
    except OSError:
        return -1


def _union(spans: list[tuple[int, int]]) -> Spans:
    spans.sort()
    found: list[tuple[int, int]] = []
    for low, high in spans:
        if found and low <= found[-1][1] + 1:
            if high > found[-1][1]:
                found[-1] = (found[-1][0], high)
        else:
            found.append((low, high))
    return tuple(found)


def _complement(spans: Spans, top: int) -> Spans:
    found, at = [], 0
    for low, high in spans:
        if at < low:
            found.append((at, low - 1))
        at = high + 1
    if at <= top:
        found.append((at, top))
    return tuple(found)
