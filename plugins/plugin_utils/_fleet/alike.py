# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This plugin util is PRIVATE to the collection. It can change at any time.
"""Hosts sorted by the fingerprint of their rules: which one makes a plan, who differs from its group, in which rules. Pure.

Shapes: docs/dev/firewall-sets.md. Answers come from hosts, which are not trusted: what is not of the shape counts as no answer.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.plugin_utils._fleet.text import clean

#: A group of fewer hosts that answered has no majority.
MIN_PEERS = 3
#: Kinds of rules whose texts are fetched and compared, and lines shown of one chain.
MAX_KINDS, MAX_LINES = 32, 20
_MARK = re.compile(r"\A[0-9a-f]{32}\Z")
_APPLIED = ("stands", "changed", "nothing")


@dataclass
class Host:
    """One host's answer. fingerprint: None when there is none, then ``why`` says so. See module firewall_consolidate."""

    name: str
    groups: list[str]
    fingerprint: str | None = None
    why: str = ""
    marks: dict[str, str] = field(default_factory=dict)
    whole: dict[str, str] = field(default_factory=dict)
    applied: str = "nothing"
    left: list[str] = field(default_factory=list)
    planned: str | None = None

    @property
    def moved(self) -> bool:
        """Have its rules changed since the newest plan was made there, otherwise than by carrying it out?"""
        return self.planned is not None and self.planned != self.fingerprint and self.applied == "nothing"


def host(name: str, groups: list[str], answer: dict[str, Any] | None) -> Host:
    """answer: what ``firewall_consolidate`` with ``state: read`` returned; None when the task did not run there."""
    found = Host(name, groups)
    if answer is None or answer.get("unreachable"):
        found.why = "it did not answer"
    elif answer.get("failed"):
        found.why = clean(answer.get("msg") or "the module failed", 300)
    elif not _is_mark(answer.get("fingerprint")):
        found.why = "its answer holds no fingerprint"
    else:
        found.fingerprint = answer["fingerprint"]
        found.marks, found.whole = _marks(answer.get("marks")), _marks(answer.get("whole"))
        left, planned = answer.get("left"), answer.get("planned")
        if isinstance(left, list):
            found.left = [clean(one, 200) for one in left[:MAX_LINES]]
        if answer.get("applied") in _APPLIED:
            found.applied = answer["applied"]
        found.planned = planned if _is_mark(planned) else None
    return found


def _marks(given: Any) -> dict[str, str]:
    return {clean(key, 200): clean(mark, 32) for key, mark in given.items()} if isinstance(given, dict) else {}


def _is_mark(value: Any) -> bool:
    return isinstance(value, str) and _MARK.match(value) is not None


def makers(hosts: list[Host]) -> dict[str, str]:
    """Fingerprint → the first host that has it: the one that makes the plan, and is compared for all of them."""
    found: dict[str, str] = {}
    for one in hosts:
        if one.fingerprint is not None:
            found.setdefault(one.fingerprint, one.name)
    return found


def served(hosts: list[Host], maker: str, answer: dict[str, Any]) -> list[str]:
    """Hosts that a plan is for: those with the maker's fingerprint, and in the chains it changes nothing else either.

    answer: what the maker's ``state: planned`` returned.
    """
    given = answer.get("folded")
    changes = [clean(one, 200) for one in given] if isinstance(given, list) else []
    by_name = {one.name: one for one in hosts}
    first = by_name[maker]
    wanted = [first.whole.get(one) for one in changes]
    return [
        one.name for one in hosts if one.fingerprint == first.fingerprint and [one.whole.get(key) for key in changes] == wanted
    ]


@dataclass
class Group:
    """majority: the fingerprint that more than half of the hosts that answered have; None without one. same: how many have it."""

    name: str
    hosts: list[Host]
    majority: str | None
    same: int

    @property
    def different(self) -> list[Host]:
        return [one for one in self.hosts if self.majority is not None and one.fingerprint != self.majority]


def grouped(hosts: list[Host]) -> list[Group]:
    """Inventory groups with enough hosts that answered; all hosts are one group where the inventory names none."""
    members: dict[str, list[Host]] = {}
    for one in hosts:
        for name in one.groups or ["all"]:
            if one.fingerprint is not None:
                members.setdefault(name, []).append(one)
    found = []
    for name, own in sorted(members.items()):
        if len(own) < MIN_PEERS:
            continue
        mark, same = Counter(one.fingerprint for one in own).most_common(1)[0]
        found.append(Group(name, own, mark if same * 2 > len(own) else None, same))
    return found


def compared(groups: list[Group]) -> list[str]:
    """Fingerprints whose rules are needed to say in which rules hosts differ."""
    found: dict[str, None] = {}
    for group in groups:
        for one in group.different:
            found.update(dict.fromkeys((str(group.majority), str(one.fingerprint))))
    return list(found)[:MAX_KINDS]


def listing(answer: dict[str, Any] | None) -> dict[str, list[str]] | None:
    """Chain → rules, of an answer with ``rules: true``."""
    given = (answer or {}).get("listing")
    if not isinstance(given, dict) or not all(isinstance(lines, list) for lines in given.values()):
        return None
    return {clean(key, 200): [clean(line, 500) for line in lines] for key, lines in given.items()}


def chains(usual: dict[str, str], other: dict[str, str]) -> list[str]:
    """Chains (and ``sets``, and back ends not read) that differ."""
    return [key for key in sorted(set(usual) | set(other)) if usual.get(key) != other.get(key)]


def rules(usual: dict[str, list[str]], other: dict[str, list[str]]) -> dict[str, dict[str, Any]]:
    """Chain → what it lacks, what it has besides, or that only the order differs; the first lines and how many more."""
    found: dict[str, dict[str, Any]] = {}
    for key in sorted(set(usual) | set(other)):
        one, two = usual.get(key), other.get(key)
        if one == two:
            continue
        lacks, besides = (list((Counter(a or ()) - Counter(b or ())).elements()) for a, b in ((one, two), (two, one)))
        found[key] = {
            "lacks": lacks[:MAX_LINES],
            "besides": besides[:MAX_LINES],
            "more": max(0, len(lacks) - MAX_LINES) + max(0, len(besides) - MAX_LINES),
            "order": not lacks and not besides and one is not None and two is not None,
            "chain": "missing" if two is None else "extra" if one is None else "both",
        }
    return found


def report(hosts: list[Host], listings: dict[str, dict[str, list[str]]]) -> dict[str, Any]:
    """listings: fingerprint → rules, where they were fetched. The shape is in docs/dev/firewall-sets.md."""
    first = makers(hosts)
    marks = {one.fingerprint: one.marks for one in reversed(hosts) if one.fingerprint is not None}
    kinds = [
        {"fingerprint": mark, "maker": name, "hosts": [one.name for one in hosts if one.fingerprint == mark]}
        for mark, name in first.items()
    ]
    groups = []
    for group in grouped(hosts):
        different = []
        for one in group.different:
            usual, own = listings.get(str(group.majority)), listings.get(str(one.fingerprint))
            different.append(
                {
                    "host": one.name,
                    "fingerprint": one.fingerprint,
                    "chains": chains(marks[str(group.majority)], one.marks),
                    "rules": None if usual is None or own is None else rules(usual, own),
                }
            )
        groups.append(
            {
                "group": group.name, "answered": len(group.hosts), "majority": group.majority, "same": group.same,
                "different": different,
            }
        )  # fmt: skip
    return {
        "schema": 1,
        "kinds": kinds,
        "groups": groups,
        "no_answer": {one.name: one.why for one in hosts if one.fingerprint is None},
        "moved": [one.name for one in hosts if one.moved],
        "applied": {
            "stands": [one.name for one in hosts if one.applied == "stands"],
            "changed": {one.name: one.left for one in hosts if one.applied == "changed"},
        },
    }


def lines(found: dict[str, Any]) -> list[str]:
    """The report for the terminal."""
    count = sum(len(kind["hosts"]) for kind in found["kinds"])
    out = [f"{count} hosts with {len(found['kinds'])} different rulesets"]
    for kind in found["kinds"]:
        names = kind["hosts"]
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        out.append(f"{kind['fingerprint'][:12]}: {shown}")
    for group in found["groups"]:
        if group["majority"] is None:
            out.append(f"group {group['group']}: no ruleset that most of its {group['answered']} hosts have")
        for one in group["different"]:
            where = ", ".join(one["chains"])
            out.append(f"{one['host']} differs from {group['same']} of {group['answered']} hosts of {group['group']}: {where}")
            for chain, how in (one["rules"] or {}).items():
                out += [f"  {chain}: lacks {text}" for text in how["lacks"]]
                out += [f"  {chain}: has besides {text}" for text in how["besides"]]
                out += [f"  {chain}: the same rules in another order"] if how["order"] else []
                out += [f"  {chain}: and {how['more']} rules more"] if how["more"] else []
    out += [f"{name}: rules changed since the newest plan was made there" for name in found["moved"]]
    for name, left in found["applied"]["changed"].items():
        out.append(f"{name}: what was applied was changed since: {', '.join(left)}")
    if found["applied"]["stands"]:
        out.append(f"what was applied stands on {len(found['applied']['stands'])} hosts")
    out += [f"{name}: could not tell, because {why}" for name, why in found["no_answer"].items()]
    return out
