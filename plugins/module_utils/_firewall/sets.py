# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""The module ipset: options → read → plan → journal → build aside and swap → read again."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Protocol

from ansible_collections.netops.fleet.plugins.module_utils._firewall import set_content, set_plan
from ansible_collections.netops.fleet.plugins.module_utils._firewall.set_content import ContentError
from ansible_collections.netops.fleet.plugins.module_utils._firewall.set_plan import Plan, Present, SetsError, Wanted
from ansible_collections.netops.fleet.plugins.module_utils._safety import change, journal, lock, objects
from ansible_collections.netops.fleet.plugins.module_utils._safety.change import Difference
from ansible_collections.netops.fleet.plugins.module_utils._safety.objects import Object
from ansible_collections.netops.fleet.plugins.module_utils._safety.owners import owner_of

OWNER = "ipset"
#: Seconds to wait for another change that is about to end.
_PATIENCE = 10.0
#: Bytes of a file of entries: some ten million.
MAX_FILE = 512 * 1024 * 1024

#: The argument spec of the module; its documentation stands in plugins/modules/ipset.py.
ARGUMENTS: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "type": {"type": "str", "choices": list(set_content.KINDS), "default": "hash:net"},
    "family": {"type": "str", "choices": ["inet", "inet6"], "default": "inet"},
    "entries": {"type": "list", "elements": "str"},
    "file": {"type": "path"},
    "timeout": {"type": "int"},
    "counters": {"type": "bool", "default": False},
    "maxelem": {"type": "int"},
    "hashsize": {"type": "int"},
    "backend": {"type": "str", "choices": ["ipset", "nft"], "default": "ipset"},
    "table": {"type": "str"},
    "persist": {"type": "bool", "default": True},
    "adopt": {"type": "bool", "default": False},
    "deadman": {"type": "int", "default": 0},
    "first": {"type": "int", "default": 10},
}


@dataclass
class Options:
    """As the module documents them. lines: entries as they were given, from the list or the file, which ``where`` names."""

    name: str
    state: str = "present"
    type: str = "hash:net"
    family: str = "inet"
    lines: list[str] = field(default_factory=list)
    where: str = "entries"
    timeout: int | None = None
    counters: bool = False
    maxelem: int | None = None
    hashsize: int | None = None
    adopt: bool = False
    persist: bool = True
    deadman: int = 0
    first: int = 10
    folder: str = journal.FOLDER

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> Options:
        """Raises SetsError that names the option, what was found and what is allowed."""
        for name, low, high in (
            ("timeout", 0, 2147483),
            ("maxelem", 1, 0xFFFFFFFF),
            ("hashsize", 64, 1 << 26),
            ("first", 0, 1000),
        ):
            value = params.get(name)
            if value is not None and not low <= value <= high:
                raise SetsError(f"{name} is {value}; allowed are {low} to {high}")
        if params["deadman"] and not 10 <= params["deadman"] <= 3600:
            raise SetsError(f"deadman is {params['deadman']}; allowed are 0 and 10 to 3600 seconds")
        lines, where = [], "entries"
        if params["state"] == "present":
            if (params.get("entries") is None) == (params.get("file") is None):
                raise SetsError("either entries or file says what the set holds; an empty set has entries: []")
            lines, where = (params["entries"], where) if params.get("file") is None else of_file(params["file"])
        kept = (
            "name",
            "state",
            "type",
            "family",
            "timeout",
            "counters",
            "maxelem",
            "hashsize",
            "adopt",
            "persist",
            "deadman",
            "first",
        )
        return cls(lines=lines, where=where, **{name: params[name] for name in kept if params.get(name) is not None})


def of_file(path: str) -> tuple[list[str], str]:
    try:
        if os.stat(path).st_size > MAX_FILE:
            raise SetsError(f"{path} has more than {MAX_FILE} bytes")
        with open(path, encoding="utf-8") as file:
            return file.read().splitlines(), f"{path} line"
    except OSError as error:
        raise SetsError(f"file: {path}: {error.strerror}; it is read on the host") from None
    except UnicodeDecodeError:
        raise SetsError(f"file: {path} is no text in UTF-8") from None


class Backend(Protocol):
    """Where sets live. Every method raises OSError."""

    name: str

    def check(self, wanted: Wanted) -> None:
        """Raises SetsError for what this back end cannot hold."""

    def read(self, wanted: Wanted) -> Present | None: ...

    def change(self, wanted: Wanted, present: Present | None, made: Plan) -> list[Difference]:
        """What makes the set as planned; the writer of it is in the difference."""

    def left(self, wanted: Wanted, made: Plan) -> list[str]:
        """What of the plan is not there, read from the host again."""

    def absent(self, wanted: Wanted, present: Present) -> Difference: ...

    def target(self, name: str) -> Object:
        """The set as the journal names it."""

    def boot_text(self, wanted: Wanted) -> str:
        """A file that makes the set; the same text for the same wanted set."""

    def writer(self, name: str) -> str:
        """A rule of this host that writes to the set, or ''."""


def run(options: Options, backend: Backend, check: bool) -> dict[str, Any]:
    """What the module returns. Raises SetsError, change.ChangeError, journal.JournalError, lock.Busy, OSError."""
    wanted = _wanted(options)
    backend.check(wanted)
    if check:
        work = _study(options, wanted, backend, journal.Journal(options.folder))
        return _result(options, wanted, work)
    change.open_folder(options.folder)
    with lock.Lock(options.folder, OWNER, wait=_PATIENCE):
        notes = change.overdue(options.folder)
        found = journal.Journal(options.folder)
        work = _study(options, wanted, backend, found)
        result = _result(options, wanted, work)
        result["notes"] += notes
        if not work.changes:
            change.finished(found, OWNER)
            return result

        def left() -> list[str]:
            if work.plan is None:
                problems = [] if backend.read(wanted) is None else ["it is still there"]
            else:
                problems = backend.left(wanted, work.plan)
            if not problems and work.boot:
                problems, note = _rehearsed(backend, wanted, gone=work.plan is None)
                result["notes"] += note
            return [f"{options.name}: {reason}" for reason in problems]

        with change.unbroken():
            result.update(change.apply(found, OWNER, work.changes, options.deadman, left))
        return result


def _wanted(options: Options) -> Wanted:
    if (
        options.name.startswith("netops~")
        or not 1 <= len(options.name) <= 31
        or not options.name.isprintable()
        or " " in options.name
    ):
        raise SetsError(
            f"name is {options.name[:40]!r}; a set's name has 1 to 31 characters without blanks and does not start with netops~"
        )
    owner = owner_of("", options.name)
    if owner != "user":
        raise SetsError(f"{options.name} is a set of {owner}, which writes it anew by itself; change it through {owner}")
    kind = set_content.KINDS[options.type]
    width = set_content.width_of(options.family)
    try:
        content = set_content.parse(options.lines, kind, width, options.where)
    except ContentError as error:
        raise SetsError(str(error)) from None
    wanted = Wanted(options.name, content, options.timeout, options.counters, options.maxelem, options.hashsize)
    set_plan.check(wanted)
    return wanted


@dataclass
class Work:
    """boot: some of the changes are for the next boot."""

    present: Present | None
    plan: Plan | None
    changes: list[Difference]
    boot: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def reasons(self) -> list[str]:
        return self.plan.reasons if self.plan is not None else []


def _study(options: Options, wanted: Wanted, backend: Backend, found: journal.Journal) -> Work:
    """Read and plan; changes nothing."""
    present = backend.read(wanted)
    if options.state == "absent":
        if present is None:
            return _with_boot(options, wanted, backend, Work(None, None, []))
        gone = backend.absent(wanted, present)
        _allowed(options, backend, present, gone, found)
        entry = found.live.get(gone.target)
        gone.release = entry is not None and entry.original is None
        return _with_boot(options, wanted, backend, Work(present, None, [gone]))
    made = set_plan.plan(present, wanted, options.first)
    if not made.reasons:
        return _with_boot(options, wanted, backend, Work(present, made, []))
    changes = backend.change(wanted, present, made)
    if present is not None:
        _allowed(options, backend, present, changes[0], found)
    return _with_boot(options, wanted, backend, Work(present, made, changes))


def _with_boot(options: Options, wanted: Wanted, backend: Backend, work: Work) -> Work:
    """Add what the next boot needs, after the set itself."""
    if options.persist:
        from ansible_collections.netops.fleet.plugins.module_utils._firewall import persist

        text = None if options.state == "absent" else backend.boot_text(wanted)
        boot = persist.plan(backend.name, backend.target(options.name).name, text)
        work.changes += boot.changes
        work.boot, work.notes = bool(boot.changes), boot.notes
    return work


def _rehearsed(backend: Backend, wanted: Wanted, gone: bool) -> tuple[list[str], list[str]]:
    """(why the next boot would not bring the set as it is now, notes)."""
    from ansible_collections.netops.fleet.plugins.module_utils._firewall import persist

    target = backend.target(wanted.name)
    found = persist.rehearse([target])
    if found.gap:
        return [], [found.gap]
    problems = found.problems(wanted.name)
    now, then = None if gone else objects.capture(target), found.states[str(target)]
    if not problems and not objects.same(target, now, then):
        problems.append("the next boot would not bring the set as it is now: another file makes it or adds to it")
    return problems, found.others(wanted.name)


def _allowed(options: Options, backend: Backend, present: Present, wished: Difference, found: journal.Journal) -> None:
    """Raises SetsError for a set that somebody else writes."""
    writer = present.foreign or (backend.writer(options.name) if present.references else "")
    if writer:
        raise SetsError(
            f"{options.name} is written by {writer}: what is put into it here would be mixed with that. Use a set of its own"
        )
    if wished.target not in found.live and not options.adopt:
        raise SetsError(
            f"{options.name} is there and was not made by this collection; adopt: true takes it over, with the way "
            "back to what it holds now"
        )


def _result(options: Options, wanted: Wanted, work: Work) -> dict[str, Any]:
    made = work.plan
    hashsize, maxelem = set_plan.size(wanted)
    content = made.content if made is not None else None
    return {
        "changed": bool(work.changes),
        "set": None
        if content is None
        else {
            "name": options.name,
            "type": options.type,
            "family": options.family,
            "entries": len(content.members),
            "hashsize": hashsize,
            "maxelem": maxelem,
        },
        "reasons": work.reasons + (["the next boot would not bring it"] if work.boot and not work.reasons else []),
        "counts": made.counts if made is not None else {"added": 0, "removed": 0, "updated": 0},
        "added": made.added if made is not None else [],
        "removed": made.removed if made is not None else [],
        "updated": made.updated if made is not None else [],
        "diff": set_plan.difference(options.name, work.present, made) if work.changes else {"before": "", "after": ""},
        "change": None,
        "confirm_within": None,
        "notes": list(work.notes),
    }
