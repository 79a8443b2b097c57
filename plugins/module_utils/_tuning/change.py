# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""What changers of this room share: read → plan → journal → apply → read again, and the way back.

A changer gives its name and ``study``, which reads the host and plans. Differences are objects of _safety/objects.py.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._kernel import command
from ansible_collections.netops.fleet.plugins.module_utils._safety import journal, lock, objects, rollback
from ansible_collections.netops.fleet.plugins.module_utils._safety.objects import Object
from ansible_collections.netops.fleet.plugins.module_utils._tuning.sysctl_plan import Difference, diff

#: Seconds to wait for a change that is about to end; a longer one is refused.
PATIENCE = 3.0
#: Seconds after its deadline from which on a dead-man's timer is dead itself.
_LATE = 150.0


class ChangeError(Exception):
    """Nothing was changed, or what was changed is taken back; the message says which. facts: more for the caller."""

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.facts = facts


@dataclass
class Work:
    """One reading of the host against what is wanted. errors: why nothing may be applied. result: what else is returned."""

    changes: list[Difference] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)


@dataclass
class Changer:
    """owner: the module's name. study: reads and plans, changes nothing.

    prepare: before the journal's lines are written, such as programs of timers. settle: after the last write, before it is
    read again; it is given what was applied.
    """

    owner: str
    study: Callable[[journal.Journal], Work]
    folder: str = journal.FOLDER
    prepare: Callable[[], None] | None = None
    settle: Callable[[list[Difference]], None] | None = None


def run(changer: Changer, state: str, check: bool, force: bool = False) -> dict[str, Any]:
    """What the module returns, for a state of present, absent or planned.

    Raises ChangeError, lock.Busy, journal.JournalError, objects.ObjectError.
    """
    if state == "absent":
        return back(changer, check, force)
    if check or state == "planned":
        work = changer.study(journal.Journal(changer.folder))
        _refuse(work)
        return _result(work)
    make_folder(changer.folder)
    with lock.Lock(changer.folder, changer.owner, wait=PATIENCE):
        notes = overdue(changer.folder)
        found = journal.Journal(changer.folder)
        work = changer.study(found)
        _refuse(work)
        result = _result(work)
        result["notes"] = [*result.get("notes", []), *notes]
        if not work.changes:
            # A run that was killed after its last write: what it wanted is in force.
            for change in found.unfinished():
                if change.owner == changer.owner:
                    found.done(change.id)
            return result
        with unbroken():
            result["change"], after = _apply(changer, found, work.changes)
        # What was read again tells how it is now; the list of differences stays the one that was applied.
        result.update({key: value for key, value in after.result.items() if key != "notes"})
        return result


def _refuse(work: Work) -> None:
    if work.errors:
        raise ChangeError("Nothing was changed. " + "; ".join(work.errors), plan=work.result.get("plan", []))


def _differs(change: Difference) -> bool:
    return not objects.same(change.target, change.before, change.after)


def _result(work: Work) -> dict[str, Any]:
    changes = [change for change in work.changes if _differs(change)]
    return {
        "warnings": [],
        **work.result,
        "changed": bool(changes),
        "changes": [change.to_dict() for change in changes],
        "diff": diff(changes),
        "change": None,
    }


def _apply(changer: Changer, found: journal.Journal, changes: list[Difference]) -> tuple[str, Work]:
    from ansible_collections.netops.fleet.plugins.module_utils._safety import cli, deadman, portable

    portable.install(changer.folder, deadman.APPLICATION, cli)
    if changer.prepare is not None:
        changer.prepare()
    change_id = found.begin(changer.owner, [(change.target, change.before, change.after) for change in changes])
    problems: list[str] = []
    reloaded = False
    for change in changes:
        try:
            if change.target.kind not in ("file", "dir") and not reloaded:
                reloaded = reload(changes)
            if _differs(change):
                objects.put(change.target, change.after)
        except objects.ObjectError as error:
            problems.append(str(error))
            break
    if not reloaded:
        reload(changes)
    after = Work()
    if not problems:
        if changer.settle is not None:
            changer.settle(changes)
        after = changer.study(found)
        problems = after.errors + [
            f"{change.target} is {_said(change.before)}, wanted {_said(change.after)}"
            for change in after.changes
            if _differs(change)
        ]
    if problems:
        steps = rollback.undo(found, change_id, note="it did not take")
        kept = rollback.failed(steps) + rollback.foreign(steps)
        raise ChangeError(
            f"It did not take and is taken back: {'; '.join(problems)}"
            + (f". Not taken back: {'; '.join(kept)}" if kept else ""),
            change=change_id,
        )
    for change in changes:
        if change.release:
            found.restored(change.target)
    found.done(change_id)
    found.close("nothing is wanted any more")
    return change_id, after


def _said(state: dict[str, Any] | None) -> str:
    if state is None:
        return "not there"
    return ", ".join(f"{name} {value}" for name, value in state.items() if name not in ("mode", "uid", "gid"))


def reload(changes: Collection[Difference]) -> bool:
    """systemd reads unit files once. Returns whether it was told to."""
    if not objects.systemd() or not any("/systemd/system/" in change.target.name for change in changes):
        return False
    command.run(["systemctl", "daemon-reload"], timeout=60)
    return True


def back(changer: Changer, check: bool, force: bool) -> dict[str, Any]:
    """state: absent. Everything this changer changed returns to its original."""
    if check:
        steps = rollback.preview(journal.Journal(changer.folder), changer.owner, force)
    elif not rollback.select(journal.Journal(changer.folder), changer.owner):
        steps = []
    else:
        with lock.Lock(changer.folder, changer.owner, wait=PATIENCE), unbroken():
            steps = rollback.run(journal.Journal(changer.folder), changer.owner, force, note="state absent")
    failed = rollback.failed(steps)
    if failed:
        raise ChangeError(f"Not everything is at its original: {'; '.join(failed)}", steps=[step.to_dict() for step in steps])
    changes = [Difference(step.target, step.present, step.original) for step in steps if step.verdict == "restore"]
    return {
        "changed": bool(changes),
        "changes": [change.to_dict() for change in changes],
        "diff": diff(changes),
        "warnings": [f"left alone: {line}; force: true restores it too" for line in rollback.foreign(steps)],
    }


def released(found: journal.Journal, owner: str, keep: Collection[Object], own_names: Collection[str] = ()) -> list[Difference]:
    """What an earlier run changed and this one does not want: back to its original, if nobody else changed it since.

    own_names: names of files of this collection; a folder with others in it stays.
    """
    entries = [entry for entry in found.live.values() if entry.owner == owner and entry.target not in keep]
    present, _why = rollback.look(entries)
    changes = []
    for step in rollback.plan(entries, present):
        if step.target.kind == "dir" and _shared(step.target.name, own_names):
            continue
        if step.verdict in ("restore", "already"):
            # What is not there any more needs no write.
            after = step.original if step.verdict == "restore" else step.present
            changes.append(Difference(step.target, step.present, after, release=True))
    return changes


def _shared(folder: str, own_names: Collection[str]) -> bool:
    """Do others keep files in a folder that this collection made?"""
    try:
        return bool(set(os.listdir(folder)) - set(own_names))
    except OSError:
        return False


def make_folder(folder: str) -> None:
    """Of the journal. Raises ChangeError."""
    from ansible_collections.netops.fleet.plugins.module_utils._safety import files

    try:
        files.private_folder(folder)
    except OSError as error:
        raise ChangeError(f"Nothing was changed. {folder}: {error.strerror or error}") from None


def overdue(folder: str) -> list[str]:
    """A change that nobody confirmed, and whose timer died with the host's or the module's process: taken back now."""
    if not os.path.exists(os.path.join(folder, "deadman.json")):
        return []
    from ansible_collections.netops.fleet.plugins.module_utils._safety import deadman

    waiting = deadman.armed(folder)
    if waiting is None or float(waiting["deadline"]) + _LATE > time.time():
        return []
    found = journal.Journal(folder)
    if found.find(str(waiting["change"])) is not None:
        rollback.undo(found, str(waiting["change"]), note="nobody confirmed the change")
    deadman.disarm(folder)
    return [f"change {waiting['change']} was never confirmed and its timer is gone: it was taken back first"]


@contextmanager
def unbroken() -> Iterator[None]:
    """A lost controller does not stop a change half-way; only SIGKILL does, and the journal is for that."""
    numbers = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
