# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""The text of a rule, taken apart so far that one or two of its clauses can be replaced by a set. Pure.

A folded rule is one of its members' own text with the clause exchanged: whatever else the rule says stays as the tool printed it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._firewall.elements import bounds_of
from ansible_collections.netops.fleet.plugins.module_utils._firewall.model import NFT, Match, Rule
from ansible_collections.netops.fleet.plugins.module_utils._firewall.nft import CUT

_TOKEN = re.compile(r'(?:"(?:\\.|[^"\\])*"|[^\s"])+')
_SIDES = {
    "ip saddr": "saddr",
    "ip6 saddr": "saddr",
    "ip daddr": "daddr",
    "ip6 daddr": "daddr",
    "tcp sport": "sport",
    "udp sport": "sport",
    "tcp dport": "dport",
    "udp dport": "dport",
}
#: What one set may replace: one clause, or an address and a port together.
SINGLES = (("saddr",), ("daddr",), ("dport",), ("sport",))
PAIRS = (("saddr", "dport"), ("daddr", "dport"), ("saddr", "sport"), ("daddr", "sport"))
_OPTIONS = {"-s": "saddr", "-d": "daddr", "--dport": "dport", "--sport": "sport"}
_FLAGS = {"saddr": "src", "daddr": "dst", "sport": "src", "dport": "dst"}
#: nft's word for what a set holds.
_NFT_TYPES = {"ip saddr": "ipv4_addr", "ip daddr": "ipv4_addr", "ip6 saddr": "ipv6_addr", "ip6 daddr": "ipv6_addr"}


@dataclass
class Clause:
    """One replaceable clause: tokens ``at`` to ``end``. elements: as a set holds them; spans: the numbers they cover."""

    left: str
    at: int
    end: int
    elements: list[Any]
    spans: list[tuple[int, int]]

    @property
    def single(self) -> bool:
        return all(low == high for low, high in self.spans)


@dataclass
class Shape:
    """tokens: without comment, counters empty. clauses: by side."""

    rule: Rule
    tokens: list[str]
    clauses: dict[str, Clause] = field(default_factory=dict)


def shape(rule: Rule) -> Shape | None:
    """None when the text cannot be rewritten (cut short by its reader, or words at places that are not expected)."""
    if rule.text.endswith(CUT) or not rule.text.isprintable():
        return None
    found = _nft(rule) if rule.backend == NFT else _iptables(rule)
    if found is None:
        return None
    for part in rule.parts:
        if isinstance(part, Match) and part.left in _SIDES and not _plain(part):
            found.clauses.pop(_SIDES[part.left], None)
    return found


def _plain(part: Match) -> bool:
    return part.op == "in" and part.mask is None and part.set is None and bool(part.values)


def _matches(rule: Rule) -> dict[str, Match]:
    """Conditions that a set could take over, by selector; one that is there twice is none."""
    found: dict[str, Match] = {}
    twice: set[str] = set()
    for part in rule.parts:
        if isinstance(part, Match) and part.left in _SIDES:
            if part.left in found:
                twice.add(part.left)
            found[part.left] = part
    sides = [_SIDES[left] for left in found]
    return {left: part for left, part in found.items() if _plain(part) and left not in twice and sides.count(_SIDES[left]) == 1}


def _clause(part: Match, at: int, end: int) -> Clause | None:
    spans = []
    for value in part.values or []:
        bounds = bounds_of(part.left, value)
        if bounds is None:
            return None
        spans.append(bounds)
    return Clause(part.left, at, end, list(part.values or []), spans)


def _nft(rule: Rule) -> Shape | None:
    tokens = rule.text.split(" ") if '"' not in rule.text else _TOKEN.findall(rule.text)
    if len(tokens) > 1 and tokens[-2] == "comment":
        del tokens[-2:]
    wanted = _matches(rule)
    at = 0
    while at < len(tokens):
        if tokens[at] == "counter" and tokens[at + 1 : at + 2] == ["packets"]:
            del tokens[at + 1 : at + 5]
        at += 1
    found = Shape(rule, tokens)
    for left, part in wanted.items():
        place = _place(tokens, left.split(" "))
        if place < 0 or place + 2 >= len(tokens):
            continue
        end = place + 3
        if tokens[place + 2] == "{":
            try:
                end = tokens.index("}", place) + 1
            except ValueError:
                return None
        elif tokens[place + 2] in ("==", "!=", "&", "<", ">", "<=", ">=", "vmap", ".", "map", "set", "and"):
            continue
        if tokens[place - 1 : place] == ["."]:
            continue  # a concatenation
        made = _clause(part, place, end)
        if made is not None:
            found.clauses[_SIDES[left]] = made
    return found


def _place(tokens: list[str], words: list[str]) -> int:
    """Where two words stand one behind the other; -1 when nowhere or twice."""
    places = [at for at in range(len(tokens) - 1) if tokens[at] == words[0] and tokens[at + 1] == words[1]]
    return places[0] if len(places) == 1 else -1


def _iptables(rule: Rule) -> Shape | None:
    words = rule.text.split(" ") if '"' not in rule.text else _TOKEN.findall(rule.text)
    at = _place(words, ["-m", "comment"])
    if at >= 0 and words[at + 2 : at + 3] == ["--comment"]:
        del words[at : at + 4]
    if words[:1] != ["-A"] or "-f" in words:
        return None
    wanted = {_SIDES[left]: part for left, part in _matches(rule).items()}
    found = Shape(rule, words)
    for option, side in _OPTIONS.items():
        if side not in wanted or words.count(option) != 1:
            continue
        place = words.index(option)
        if words[place - 1] == "!":
            continue
        made = _clause(wanted[side], place, place + 2)
        if made is not None and all(_storable(made.left, span) for span in made.spans):
            found.clauses[side] = made
    return found


def _storable(left: str, span: tuple[int, int]) -> bool:
    """hash:ip and hash:net hold neither the address of zeros alone nor everything (ipset(8))."""
    if left[:2] != "ip":
        return True
    top = (1 << (128 if left[:3] == "ip6" else 32)) - 1
    return span not in ((0, 0), (0, top))


def key(found: Shape, sides: tuple[str, ...]) -> tuple[str, ...] | None:
    """Equal for rules that differ in the clauses of ``sides`` only. None when the rule lacks one of them."""
    clauses = [found.clauses.get(side) for side in sides]
    if any(one is None for one in clauses):
        return None
    if len(sides) > 1 and not all(one is not None and one.single for one in clauses):
        return None  # overlapping members of a concatenation have no defined meaning
    words = list(found.tokens)
    for one in sorted((one for one in clauses if one is not None), key=lambda one: -one.at):
        words[one.at : one.end] = [f"\0{one.left}"]
    return tuple(words)


def members(found: Shape, sides: tuple[str, ...]) -> list[tuple[Any, tuple[tuple[int, int], ...]]]:
    """(element, its numbers in each dimension) this rule puts into the set."""
    if len(sides) == 1:
        one = found.clauses[sides[0]]
        return [(element, (span,)) for element, span in zip(one.elements, one.spans)]
    first, second = (found.clauses[side] for side in sides)
    pairs: list[tuple[Any, tuple[tuple[int, int], ...]]] = []
    for element, span in zip(first.elements, first.spans):
        for other, port in zip(second.elements, second.spans):
            pairs.append((["concat", element, other], (span, port)))
    return pairs


def nft_type(found: Shape, sides: tuple[str, ...]) -> str:
    return " . ".join(_NFT_TYPES.get(found.clauses[side].left, "inet_service") for side in sides)


def written(found: Shape, sides: tuple[str, ...], name: str, packets: int | None, octets: int | None) -> str:
    """The rule with set ``name`` in place of its clauses."""
    words = list(found.tokens)
    clauses = [found.clauses[side] for side in sides]
    if found.rule.backend == NFT:
        for one in sorted(clauses[1:], key=lambda one: -one.at):
            del words[one.at : one.end]
        first = clauses[0]
        shift = sum(one.end - one.at for one in clauses[1:] if one.at < first.at)
        left = " . ".join(one.left for one in clauses).split(" ")
        words[first.at - shift : first.end - shift] = [*left, f"@{name}"]
        if packets is not None and "counter" in words:
            at = words.index("counter")
            words[at + 1 : at + 1] = ["packets", str(packets), "bytes", str(octets or 0)]
        return " ".join(words)
    for one in sorted(clauses, key=lambda one: -one.at):
        del words[one.at : one.end]
    match = ["-m", "set", "--match-set", name, ",".join(_FLAGS[side] for side in sides)]
    if sides[0] in ("sport", "dport"):
        # Behind -m tcp, which looks at the header first as it did before.
        at = next(place for place, word in enumerate(words) if word == "-m" and words[place + 1] in ("tcp", "udp")) + 2
    else:
        # Ahead of every other match, which then sees the packets it saw before.
        at = 2
    at = next(place for place in range(at, len(words)) if words[place] in ("-m", "-j", "-g"))
    words[at:at] = match
    return " ".join(words)


def shown(element: Any) -> str:
    """An element as both tools write it."""
    if isinstance(element, list):
        if element[0] == "prefix":
            return f"{element[1]}/{element[2]}"
        if element[0] == "range":
            return f"{element[1]}-{element[2]}"
        return " . ".join(shown(one) for one in element[1:])
    return str(element)
