# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""The way back to the journalled originals: a plan (pure) and its run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._safety import objects
from ansible_collections.netops.fleet.plugins.module_utils._safety.journal import Entry, Journal, JournalError
from ansible_collections.netops.fleet.plugins.module_utils._safety.objects import Object


@dataclass
class Step:
    """verdict: restore; already (it is at its original); foreign (somebody else changed it since, left alone); failed."""

    target: Object
    verdict: str
    present: dict[str, Any] | None
    original: dict[str, Any] | None
    why: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.target.kind,
            "name": self.target.name,
            "verdict": self.verdict,
            "before": self.present,
            "after": self.original if self.verdict == "restore" else self.present,
            "why": self.why,
        }


def plan(entries: Iterable[Entry], present: dict[Object, dict[str, Any] | None], force: bool = False) -> list[Step]:
    """What each object needs, last recorded first. An object that is not in ``present`` could not be read: failed."""
    steps = []
    for entry in _way_back(entries):
        target, original = entry.target, entry.original
        if target not in present:
            steps.append(Step(target, "failed", None, original, "it could not be read"))
            continue
        now = present[target]
        if objects.same(target, now, original):
            steps.append(Step(target, "already", now, original))
        elif objects.kind(target).visitor and now is None:
            steps.append(Step(target, "already", now, original, "this host does not have it any more"))
        elif objects.kind(target).visitor and original is None:
            steps.append(Step(target, "already", now, original, "it was not there before, and cannot be taken away"))
        elif entry.ours(now) or force or objects.kind(target).shared:
            steps.append(Step(target, "restore", now, original))
        else:
            steps.append(Step(target, "foreign", now, original, "somebody else changed it after this collection did"))
    return steps


def _way_back(entries: Iterable[Entry]) -> list[Entry]:
    """Last recorded first; what follows from others comes after them. A kind this version does not know fails in its turn."""

    def late(entry: Entry) -> bool:
        known = objects.known(entry.target.kind)
        return known is not None and known.late

    back = list(entries)[::-1]
    return sorted(back, key=late)


def select(journal: Journal, owner: str | None = None) -> list[Entry]:
    """Live objects, of one changer or of all."""
    return [entry for entry in journal.live.values() if owner is None or entry.owner == owner]


def look(entries: Iterable[Entry]) -> tuple[dict[Object, dict[str, Any] | None], dict[Object, str]]:
    """(present states, why others could not be read)."""
    present: dict[Object, dict[str, Any] | None] = {}
    why: dict[Object, str] = {}
    for entry in entries:
        try:
            present[entry.target] = objects.capture(entry.target)
        except objects.ObjectError as error:
            why[entry.target] = str(error)
    return present, why


def preview(journal: Journal, owner: str | None = None, force: bool = False) -> list[Step]:
    """What run() would do now; changes nothing."""
    entries = select(journal, owner)
    present, why = look(entries)
    steps = plan(entries, present, force)
    for step in steps:
        if step.target in why:
            step.why = why[step.target]
    return steps


def run(journal: Journal, owner: str | None = None, force: bool = False, note: str = "rolled back") -> list[Step]:
    """Restore under the lock. Each object is read back before it counts; a failing one does not stop the others.

    Steps that are still needed afterwards have the verdict ``failed``; the journal keeps them and the next run tries again.
    """
    steps = []
    unwritten: list[str] = []
    for entry in _way_back(select(journal, owner)):
        step = _step(entry, force)
        steps.append(step)
        if step.verdict in ("restore", "already"):
            _write(partial(journal.restored, step.target), unwritten)
    objects.reload_units(step.target for step in steps if step.verdict == "restore")
    overruled = [] if failed(steps) else journal.revocable(owner)
    if overruled:
        # Who wants the originals wants nothing back that was given back.
        _write(partial(journal.undone, overruled), unwritten)
    journal.close(note)
    return steps + _unwritten(journal, unwritten)


def _write(write: Callable[[], None], unwritten: list[str]) -> None:
    """A journal that takes no lines, such as on a full disk, does not stop the way back: the originals are read already."""
    try:
        write()
    except JournalError as error:
        unwritten.append(str(error))


def _unwritten(journal: Journal, why: list[str]) -> list[Step]:
    """The host is as it should be, and its journal does not say so: the next rollback finds it so, and writes again."""
    if not why:
        return []
    reason = why[0].removeprefix(f"{journal.path}: ")
    return [Step(Object("file", journal.path), "failed", None, None, f"what was taken back is not noted in it: {reason}")]


def _entries_of(journal: Journal, changes: Sequence[str]) -> list[Entry]:
    """What some changes wrote, as one: each object with its state before the first of them, and all that they gave it."""
    entries: dict[Object, Entry] = {}
    for change in changes:
        found = journal.find(change)
        if found is None:
            raise JournalError(f"{journal.path} has no change {change}: it was rolled back before, or belongs to another host")
        if found.folded:
            raise JournalError(f"{journal.path}: change {change} is too old to be taken back alone; roll back to the originals")
        for target, before, state in found.writes:
            entry = entries.setdefault(target, Entry(target, before, found.id, found.owner, found.time, []))
            entry.wrote.append(state)
    return list(entries.values())


def preview_undo(journal: Journal, changes: Sequence[str], force: bool = False) -> list[Step]:
    """What undo() would do now; changes nothing. Raises JournalError when the journal has no such change."""
    entries = _entries_of(journal, changes)
    present, why = look(entries)
    steps = plan(entries, present, force)
    for step in steps:
        step.why = why.get(step.target, step.why)
    return steps


def undo(journal: Journal, changes: Sequence[str], force: bool = False, note: str = "undone") -> list[Step]:
    """Take changes back: their objects return to what they were before the first of them, not to their originals. Under the lock.

    changes: ids, oldest first, such as Journal.after() gives. Raises JournalError when it has no such change.
    """
    entries = _entries_of(journal, changes)
    present, _why = look(entries)
    writes: dict[str, list[tuple[Object, dict[str, Any] | None, dict[str, Any] | None]]] = {}
    for each in entries:
        if each.target in present and each.ours(present[each.target]):
            # By owner: an object that was given back is its owner's again.
            writes.setdefault(each.owner, []).append((each.target, present[each.target], each.original))
    # The way back is a change like any other: killed in the middle of it, the journal still names every value.
    own: list[str] = []
    unwritten: list[str] = []
    for owner, some in writes.items():
        try:
            own.append(journal.begin(owner, some))
        except JournalError as error:
            unwritten.append(str(error))
    # One by one, each looked at in its turn: restoring one may change those that follow from it.
    steps = [_step(entry, force) for entry in _way_back(entries)]
    for number in own:
        _write(partial(journal.done, number), unwritten)
    for step in steps:
        entry = journal.live.get(step.target)
        if (
            step.verdict in ("restore", "already")
            and entry is not None
            and objects.same(step.target, step.original, entry.original)
        ):
            _write(partial(journal.restored, step.target), unwritten)
    if not failed(steps):
        _write(partial(journal.undone, changes), unwritten)
    objects.reload_units(step.target for step in steps if step.verdict == "restore")
    journal.close(note)
    return steps + _unwritten(journal, unwritten)


def _step(entry: Entry, force: bool) -> Step:
    """Look at one object, and put it back where that is right."""
    if entry.target.kind == "file":
        objects.tidy(entry.target.name)
    present, why = look([entry])
    step = plan([entry], present, force)[0]
    step.why = why.get(entry.target, step.why)
    if step.verdict == "restore":
        try:
            objects.put(step.target, step.original)
            now = objects.capture(step.target)
            if not objects.kind(step.target).shared and not objects.same(step.target, now, step.original):
                step.verdict, step.why = "failed", f"after writing it is {now}, wanted {step.original}"
        except objects.ObjectError as error:
            step.verdict, step.why = "failed", str(error)
    return step


def failed(steps: Iterable[Step]) -> list[str]:
    return [f"{step.target}: {step.why}" for step in steps if step.verdict == "failed"]


def foreign(steps: Iterable[Step]) -> list[str]:
    return [f"{step.target}: {step.why}" for step in steps if step.verdict == "foreign"]


def diff(steps: Iterable[dict[str, Any]]) -> list[dict[str, str]]:
    """Steps (Step.to_dict) as Ansible prints a difference."""
    texts: dict[str, list[str]] = {"before": [], "after": []}
    for step in steps:
        if step["verdict"] == "restore":
            for side, lines in texts.items():
                state = step[side]
                shown = "(not there)" if state is None else state.get("value", state.get("text", state.get("link", state)))
                lines.append(f"{step['kind']} {step['name']} = {shown}\n")
    return [{side: "".join(lines) for side, lines in texts.items()}]
