# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This plugin util is PRIVATE to the collection. It can change at any time.
"""What sets a host apart from its peers, said as n of m.

Two passes over the evidence files: ``Comparison.count`` per host, then ``Comparison.deviations`` per host. Between them only
counts are kept: one entry for each different (group, object, value), found again by Python's own keyed 64-bit hash. Identical
hosts share their entries, so memory follows the number of *different* objects, not hosts times evidence. Bounds: MAX_OBJECTS
objects of a host, MAX_ENTRIES entries in all; what lies beyond is not compared, and the report says so.

A state (a value, or absence) deviates when at most a third of the group share it and more than half agree on another one.
A fault that all share is no deviation: that is left to the checks of each host.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.plugin_utils._fleet.schema import MAX_OBJECTS

MIN_PEERS = 3
MAX_ENTRIES = 400_000
MAX_DEVIATIONS = 400
_MAX_SHOWN = 400

#: First word of an object's key -> the section it was read by. A section that was not read says nothing about absence.
SECTION_OF = {
    "bpf": "hooks",
    "filter": "hooks",
    "rule": "firewall",
    "rules": "firewall",
    "chain": "firewall",
    "sysctl": "sysctls",
    "resolver": "names",
    "name": "names",
    "default": "routes",
    "route": "routes",
    "policy": "policy_rules",
    "mtu": "links",
    "qdisc": "links",
    "link": "links",
    "listener": "sockets",
    "rdma": "installed",
}


def kind_of(key: str) -> str:
    """First word of a canonical key."""
    return key.split(" ", 1)[0]


@dataclass
class Deviation:
    """One object of one host that is unlike its group.

    have: the host's value, None when it lacks the object. usual: what most have, None when most lack it.
    same: hosts of the group in the same state as this one, itself included. usual_count: hosts that agree on ``usual``.
    total: hosts compared.
    """

    key: str
    have: str | None
    usual: str | None
    same: int
    usual_count: int
    total: int
    group: str

    @property
    def kind(self) -> str:
        return kind_of(self.key)

    def where(self) -> str:
        """ "on 1 of 6 hosts of gpu-nodes"."""
        return f"on {self.same} of {self.total} hosts of {self.group}"


@dataclass
class _Group:
    """members: hosts counted. read: section -> hosts that could read it. counts: key hash -> value hash -> hosts."""

    members: int = 0
    unread: dict[str, int] = field(default_factory=dict)
    counts: dict[int, dict[int, int]] = field(default_factory=dict)


def coverage_of(evidence: dict[str, Any]) -> dict[str, str]:
    """Section -> status."""
    return {entry["section"]: entry["status"] for entry in evidence["coverage"]}


class Comparison:
    """The two passes. hosts: every host of the run with its groups. answered: those whose evidence may be compared."""

    def __init__(self, hosts: dict[str, list[str]], answered: set[str], min_peers: int = MIN_PEERS) -> None:
        self.min_peers = max(2, min_peers)
        self.full = False
        self.capped: set[str] = set()
        self._entries = 0
        self._texts: dict[int, str] = {}
        self._uneven: dict[str, list[str]] = {}
        self.sizes: dict[str, int] = {}
        self._answered: dict[str, int] = {}
        for host, groups in hosts.items():
            for group in self._named(groups):
                self.sizes[group] = self.sizes.get(group, 0) + 1
                if host in answered:
                    self._answered[group] = self._answered.get(group, 0) + 1
        self._chosen: dict[str, str | None] = {host: self._choose(groups) for host, groups in hosts.items()}
        used = {group for group in self._chosen.values() if group is not None}
        self._groups: dict[str, _Group] = {group: _Group() for group in sorted(used)}
        # A host counts in every group that some host is compared in, not only in its own.
        self._counted = {host: [group for group in self._named(groups) if group in used] for host, groups in hosts.items()}

    @staticmethod
    def _named(groups: list[str]) -> list[str]:
        """The groups a host may be compared in: "all" and "ungrouped" only when the inventory names nothing better."""
        own = [group for group in groups if group not in ("all", "ungrouped")]
        return own or ["ungrouped"]

    def _choose(self, groups: list[str]) -> str | None:
        """The smallest group that is large enough: the more alike its members, the more a difference says."""
        named = self._named(groups)
        fitting = [(self._answered.get(group, 0), group) for group in named if self._answered.get(group, 0) >= self.min_peers]
        return min(fitting)[1] if fitting else None

    def group(self, host: str) -> str | None:
        """The group the host is compared in; None when no group of it has enough hosts that answered."""
        chosen = self._chosen.get(host)
        if chosen is not None and self._groups[chosen].members < self.min_peers and self._groups[chosen].members > 0:
            return None
        return chosen

    def members(self, host: str) -> int:
        """Hosts compared in the host's group."""
        chosen = self._chosen.get(host)
        return 0 if chosen is None else self._groups[chosen].members

    def compared(self, group: str) -> int:
        """Hosts counted in a group; 0 for one that no host is compared in."""
        return self._groups[group].members if group in self._groups else 0

    def note(self, host: str) -> str:
        """The host's peer evidence in one line, or why there is none."""
        group = self.group(host)
        if group is None:
            return f"no peer evidence: no group of this host has {self.min_peers} hosts that answered"
        text = f"compared with {self.members(host)} hosts of {group} that answered, of {self.sizes.get(group, 0)} asked"
        if host in self.capped:
            text += f"; only the first {MAX_OBJECTS} objects of this host were compared"
        if self.full:
            text += f"; only the first {MAX_ENTRIES} different objects of the fleet were compared"
        return text

    def count(self, host: str, evidence: dict[str, Any]) -> None:
        """First pass."""
        groups = [self._groups[name] for name in self._counted.get(host, ())]
        if not groups:
            return
        unread = {section for section, status in coverage_of(evidence).items() if status in ("failed", "skipped")}
        for group in groups:
            group.members += 1
            for section in unread:
                group.unread[section] = group.unread.get(section, 0) + 1
        for key, value in self._objects(host, evidence):
            key_hash, value_hash = hash(key), hash(value)
            for group in groups:
                values = group.counts.get(key_hash)
                if values is None:
                    if self._entries >= MAX_ENTRIES:
                        self.full = True
                        continue
                    values = group.counts[key_hash] = {}
                    self._texts.setdefault(key_hash, key)
                if value_hash not in values:
                    if self._entries >= MAX_ENTRIES:
                        self.full = True
                        continue
                    self._entries += 1
                    self._texts.setdefault(value_hash, value[:_MAX_SHOWN])
                    values[value_hash] = 0
                values[value_hash] += 1

    def _objects(self, host: str, evidence: dict[str, Any]) -> list[tuple[str, str]]:
        objects = evidence["objects"]
        if len(objects) <= MAX_OBJECTS:
            return list(objects.items())
        self.capped.add(host)
        return sorted(objects.items())[:MAX_OBJECTS]

    def tally(self, host: str, key: str) -> tuple[int, int] | None:
        """(hosts of the host's group that have the object, hosts compared); None without peer evidence."""
        name = self.group(host)
        if name is None:
            return None
        group = self._groups[name]
        return sum(group.counts.get(hash(key), {}).values()), self._total(group, key)

    def _total(self, group: _Group, key: str) -> int:
        return group.members - group.unread.get(SECTION_OF.get(kind_of(key), ""), 0)

    def _telling(self, name: str) -> list[str]:
        """Objects of the group that not all members share alike, found once per group: identical hosts cost nothing."""
        known = self._uneven.get(name)
        if known is None:
            group = self._groups[name]
            known = []
            for key_hash, values in group.counts.items():
                key = self._texts[key_hash]
                if len(values) > 1 or next(iter(values.values()), 0) != self._total(group, key):
                    known.append(key)
            self._uneven[name] = known
        return known

    def deviations(self, host: str, evidence: dict[str, Any]) -> list[Deviation]:
        """Second pass: where the host is unlike its group, rarest first."""
        name = self.group(host)
        if name is None:
            return []
        group = self._groups[name]
        coverage = coverage_of(evidence)
        objects = evidence["objects"] if host not in self.capped else dict(self._objects(host, evidence))
        found: list[Deviation] = []
        for key in self._telling(name):
            values = group.counts[hash(key)]
            status = coverage.get(SECTION_OF.get(kind_of(key), ""), "ok")
            have = objects.get(key)
            if status in ("failed", "skipped") or (have is None and status != "ok"):
                continue  # what was not read, or in part, does not show that something is missing
            total = self._total(group, key)
            present = sum(values.values())
            best_hash, best = max(values.items(), key=lambda item: (item[1], self._texts.get(item[0], "")))
            if have is None:
                self._judge(found, key, None, self._texts.get(best_hash), total - present, best, total, name, agree=present)
            elif hash(have) not in values or (best_hash == hash(have) and total - present <= best):
                continue  # beyond the bound, or as most are
            elif total - present > best:
                self._judge(found, key, have, None, values[hash(have)], total - present, total, name)
            else:
                self._judge(found, key, have, self._texts.get(best_hash), values[hash(have)], best, total, name)
        found.sort(key=lambda one: (one.same / one.total, one.key))
        return found[:MAX_DEVIATIONS]

    def _judge(
        self,
        found: list[Deviation],
        key: str,
        have: str | None,
        usual: str | None,
        same: int,
        best: int,
        total: int,
        name: str,
        agree: int | None = None,
    ) -> None:
        if total < self.min_peers or same < 1:
            return
        if same * 3 <= total and (best if agree is None else agree) * 2 > total:
            found.append(Deviation(key, have, usual, same, best, total, name))
