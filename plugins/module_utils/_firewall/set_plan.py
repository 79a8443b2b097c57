# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""A set as it is against the set as it is wanted: what differs, and what the wanted one is once nothing of use is lost. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._firewall import set_content
from ansible_collections.netops.fleet.plugins.module_utils._firewall.set_content import Content, Extra, Kind

#: What ipset gives a set that says nothing; smaller sets get it too.
LEAST_MAXELEM = 65536
_LEAST_HASHSIZE = 1024
_NOTHING = Extra()


class SetsError(Exception):
    """Nothing was changed; the message says where, what was found and what is allowed. facts: more for the caller."""

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.facts = facts


@dataclass
class Wanted:
    """timeout: seconds that an entry stays when it does not say so itself, 0 for as long as the set; None: entries do not end.

    maxelem, hashsize: None for sizes that fit the content.
    """

    name: str
    content: Content
    timeout: int | None = None
    counters: bool = False
    maxelem: int | None = None
    hashsize: int | None = None

    @property
    def kind(self) -> Kind:
        return self.content.kind

    @property
    def comments(self) -> bool:
        return any(extra.comment for extra in self.content.extras.values())


@dataclass
class Present:
    """type, width: of the set. content: None when its entries have a form that is not read (another type than the wanted).

    maxelem: None where the back end has no such limit. foreign: why another program's hand is seen in it.
    """

    type: str
    width: int
    content: Content | None
    timeout: int | None = None
    counters: bool = False
    comments: bool = False
    maxelem: int | None = None
    references: int | None = None
    foreign: str = ""
    #: what the back end needs to put it back
    state: dict[str, Any] = field(default_factory=dict)


@dataclass
class Plan:
    """reasons: why the set is written anew; empty when nothing is to do. added, removed, updated: entries, as text, first few.

    content: what is to be written, with counters and remaining times of what stays.
    """

    reasons: list[str]
    content: Content
    counts: dict[str, int]
    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)


def size(wanted: Wanted) -> tuple[int, int]:
    """(hashsize, maxelem): for the content and a quarter more; with so many buckets none needs to be split while it is filled."""
    count = len(wanted.content.members)
    room = count + count // 4
    maxelem = wanted.maxelem or max(LEAST_MAXELEM, room)
    buckets = wanted.hashsize or max(_LEAST_HASHSIZE, room * 2 // 3)
    return 1 << (buckets - 1).bit_length(), maxelem


def check(wanted: Wanted) -> None:
    """Raises SetsError for what no set can be."""
    count = len(wanted.content.members)
    if wanted.maxelem is not None and count > wanted.maxelem:
        raise SetsError(f"{wanted.name}: {count} entries, and maxelem is {wanted.maxelem}: raise it, or leave it out")
    if wanted.timeout is None and any(extra.timeout is not None for extra in wanted.content.extras.values()):
        raise SetsError(f"{wanted.name}: entries have a timeout; set the option timeout too, 0 for entries that say none")


def plan(present: Present | None, wanted: Wanted, first: int) -> Plan:
    """first: how many entries are named in each list. Raises SetsError where no swap can lead from one to the other."""
    content = _effective(wanted)
    count = len(content.members)
    if present is None:
        lines = set_content.lines_of(content.members[:first], content)
        return Plan(["there is no such set"], content, {"added": count, "removed": 0, "updated": 0}, added=lines)
    if present.type != wanted.kind.name or present.width != content.width or present.content is None:
        family = "inet6" if present.width == 128 else "inet"
        raise SetsError(
            f"{wanted.name} is a set of type {present.type}, family {family}; another type cannot take its place. "
            "Remove it with state: absent, or use another name"
        )
    reasons = of_header(present, wanted, count)
    old = present.content
    if not set_content.same(old, content):
        reasons.append("it covers other addresses" if content.kind.addresses else "it covers other ports")
        there, then = set(old.members), set(content.members)
        gone, fresh = there - then, then - there
        turned = (old.nomatch() ^ content.nomatch()) & there & then
    else:
        gone, fresh, turned = set(), set(), set()
    changed = turned | _other_words(old, content, present, wanted)
    if changed:
        reasons.append("comments, timeouts or nomatch of entries differ")
    return Plan(
        reasons,
        _carried(old, content, present, wanted),
        {"added": len(fresh), "removed": len(gone), "updated": len(changed)},
        set_content.lines_of(_least(fresh, first), content),
        set_content.lines_of(_least(gone, first), old),
        set_content.lines_of(_least(changed, first), content),
    )


def _least(members: set[int], first: int) -> Iterable[int]:
    return sorted(members)[:first]


def _effective(wanted: Wanted) -> Content:
    """In a set with timeouts every entry has one."""
    content = wanted.content
    if wanted.timeout is None:
        return content
    extras = {}
    for member in content.members:
        extra = content.extras.get(member, _NOTHING)
        extras[member] = extra if extra.timeout is not None else replace(extra, timeout=wanted.timeout)
    return Content(content.kind, content.width, content.members, extras)


def of_header(present: Present, wanted: Wanted, count: int) -> list[str]:
    """Why its entries could not just be exchanged."""
    reasons = []
    if present.timeout != wanted.timeout:
        reasons.append(f"its timeout is {_shown(present.timeout)}, wanted {_shown(wanted.timeout)}")
    if present.counters != wanted.counters:
        reasons.append("it has counters" if present.counters else "it has no counters")
    if wanted.comments and not present.comments:
        reasons.append("its entries cannot have comments")
    if present.maxelem is not None:
        if wanted.maxelem is not None and present.maxelem != wanted.maxelem:
            reasons.append(f"its maxelem is {present.maxelem}, wanted {wanted.maxelem}")
        elif present.maxelem < count:
            reasons.append(f"its maxelem is {present.maxelem}, and {count} entries are wanted")
    return reasons


def _shown(timeout: int | None) -> str:
    return "none" if timeout is None else f"{timeout} s"


def _other_words(old: Content, new: Content, present: Present, wanted: Wanted) -> set[int]:
    """Members of both whose comment differs, or of which one ends by itself and the other does not."""
    timed = wanted.timeout is not None and present.timeout is not None
    if not old.extras and not new.extras:
        return set()
    both = set(old.members).intersection(new.members)
    found = set()
    for member in (old.extras.keys() | new.extras.keys()) & both:
        one, other = old.extras.get(member, _NOTHING), new.extras.get(member, _NOTHING)
        if one.comment != other.comment or (timed and bool(one.timeout) != bool(other.timeout)):
            found.add(member)
    return found


def _carried(old: Content, new: Content, present: Present, wanted: Wanted) -> Content:
    """The new content with what the old one counted, and with the time that its entries have left."""
    if not old.extras or not (
        (wanted.counters and present.counters) or (wanted.timeout is not None and present.timeout is not None)
    ):
        return new
    extras = dict(new.extras)
    for member in old.extras.keys() & set(new.members):
        one = old.extras[member]
        extra = extras.get(member, _NOTHING)
        if wanted.counters:
            extra = replace(extra, packets=one.packets, bytes=one.bytes)
        if extra.timeout and one.timeout:
            extra = replace(extra, timeout=min(extra.timeout, one.timeout))
        extras[member] = extra
    return Content(new.kind, new.width, new.members, extras)


def difference(name: str, present: Present | None, made: Plan | None) -> dict[str, str]:
    """As Ansible prints it: counts and the first entries. made: None for a set that goes."""
    before = [] if present is None else [_title(name, present.type, present.width, _count(present.content))]
    after = [] if made is None else [_title(name, made.content.kind.name, made.content.width, len(made.content.members))]
    if made is not None:
        before += _listed(made.removed, made.counts["removed"])
        after += _listed(made.added, made.counts["added"]) + _listed(made.updated, made.counts["updated"])
    return {"before": "".join(f"{line}\n" for line in before), "after": "".join(f"{line}\n" for line in after)}


def _count(content: Content | None) -> int | None:
    return None if content is None else len(content.members)


def _title(name: str, kind: str, width: int, count: int | None) -> str:
    family = "" if kind == "bitmap:port" else f" {'inet6' if width == 128 else 'inet'}"
    return f"set {name}: {kind}{family}" + ("" if count is None else f", {count} entries")


def _listed(lines: list[str], count: int) -> list[str]:
    more = count - len(lines)
    return lines + ([f"... and {more} more"] if more > 0 else [])
