# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""How every changer carries its list of differences out: journal, dead-man's timer, writes, a second look, and the way back.

open_folder(folder)
with lock.Lock(folder, OWNER, wait=PATIENCE):
    notes = overdue(folder)
    found = journal.Journal(folder)
    changes = ...                       read and plan: list of Difference
    if changes:
        with unbroken():
            result.update(apply(found, OWNER, changes, seconds, left))
    else:
        finished(found, OWNER)
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

from ansible_collections.netops.fleet.plugins.module_utils._safety import journal, objects
from ansible_collections.netops.fleet.plugins.module_utils._safety.objects import Object

if TYPE_CHECKING:
    # Ansible sends what it sees imported. The journal's command is packed from its text (portable.py) and never imported here.
    from ansible_collections.netops.fleet.plugins.module_utils._safety import cli  # noqa: F401

#: The journal's command in its folder, and the module it is made of.
_COMMAND = ("journal.pyz", "ansible_collections.netops.fleet.plugins.module_utils._safety.cli")
#: Seconds to wait for a change that is about to end, such as a step of adaptive buffers; a longer one is refused.
PATIENCE = 3.0
#: Seconds after its deadline from which on a dead-man's timer is dead itself.
_LATE = 150.0

#: Why a journal moved to the history.
_OVER = "nothing is wanted any more"

#: (object, present state, state to be written), as Journal.begin takes it.
Write = tuple[Object, Optional[dict[str, Any]], Optional[dict[str, Any]]]


class ChangeError(Exception):
    """Nothing was changed, or what was changed is taken back; the message says which. facts: more for the caller."""

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.facts = facts


@dataclass
class Difference:
    """One object that is not as it is wanted. before, after: states (see objects.py).

    cuts: it can cut the host off. release: no longer wanted; it goes back to its original and is the collection's no more.
    write: writes it, where ``after`` says only what it is compared by.
    """

    target: Object
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    cuts: bool = False
    release: bool = False
    write: Callable[[], None] | None = None

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.target.kind, "name": self.target.name, "before": self.before, "after": self.after}


def differs(change: Difference) -> bool:
    return change.write is not None or not objects.same(change.target, change.before, change.after)


def folders_for(path: str, made: Collection[str] = ()) -> list[Difference]:
    """Folders that a file needs and that are not there, outermost first, without those in ``made``."""
    found: list[Difference] = []
    folder = os.path.dirname(path)
    while folder not in made and not os.path.isdir(folder):
        found.insert(0, Difference(Object("dir", folder), None, {"mode": 0o755}))
        folder = os.path.dirname(folder)
    return found


def read_only(path: str) -> bool:
    """Does a file system that takes no writes hold the file's folder, or the nearest one that is there?"""
    folder = os.path.dirname(path)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)


def open_folder(folder: str) -> None:
    """The folder of journal and lock. Raises ChangeError."""
    from ansible_collections.netops.fleet.plugins.module_utils._safety import files

    try:
        files.private_folder(folder)
    except OSError as error:
        raise ChangeError(f"Nothing was changed. {folder}: {error.strerror or error}") from None


def overdue(folder: str) -> list[str]:
    """Changes that nobody confirmed, and whose timer died: taken back now. Under the lock. Returns what to tell."""
    if not os.path.exists(os.path.join(folder, "deadman.json")):
        return []
    from ansible_collections.netops.fleet.plugins.module_utils._safety import deadman

    waiting = deadman.armed(folder)
    if waiting is None or float(waiting["deadline"]) + _LATE > time.time():
        return []
    deadman.expire(folder, waiting, journal.Journal(folder))
    return [f"change {', '.join(waiting['changes'])} was never confirmed and its timer is gone: it was taken back first"]


def finished(found: journal.Journal, owner: str) -> None:
    """Nothing differs: an earlier run that was killed after its last write got what it wanted. Under the lock."""
    for change in found.unfinished():
        if change.owner == owner:
            found.done(change.id)
    found.close(_OVER)


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


def apply(
    found: journal.Journal,
    owner: str,
    changes: list[Difference],
    seconds: int,
    left: Callable[[], list[str]],
    along: Callable[[Difference], Iterable[Write]] = lambda _change: (),
) -> dict[str, Any]:
    """Write the differences in their order: ``{change, confirm_within}``. Under the lock, with differences only.

    seconds: of the dead-man's timer, set when one of them cuts; 0 sets none. left: reads again, what still differs, a sentence
    each. along: what changes by itself when a difference is written. Raises ChangeError; then what was written is taken back.
    Raises journal.JournalError before anything is written.
    """
    from ansible_collections.netops.fleet.plugins.module_utils._safety import portable

    try:
        application = portable.install(found.folder, *_COMMAND)
    except OSError as error:
        raise ChangeError(f"Nothing was changed. {found.folder}/{_COMMAND[0]}: {error.strerror or error}") from None
    writes: list[Write] = []
    for change in changes:
        writes += along(change)
        writes.append((change.target, change.before, change.after))
    cuts = bool(seconds) and any(change.cuts for change in changes)
    change_id = found.begin(owner, writes, waits=cuts)
    if cuts:
        from ansible_collections.netops.fleet.plugins.module_utils._safety import deadman, rollback

        try:
            deadman.arm(found.folder, change_id, seconds, application)
        except deadman.DeadmanError as error:
            rollback.undo(found, [change_id], note="the timer could not be set")
            raise ChangeError(f"Nothing was changed. {error}") from None
    problems = _write(changes)
    if not problems:
        try:
            problems = left()
        except (objects.ObjectError, OSError) as error:
            problems = [f"it could not be read again: {error}"]
    if not problems:
        try:
            found.done(change_id, [change.target for change in changes if change.release])
        except journal.JournalError as error:
            problems = [str(error)]
    if problems:
        from ansible_collections.netops.fleet.plugins.module_utils._safety import deadman, rollback

        steps = rollback.undo(found, [change_id], note="it did not take")
        deadman.settle(found.folder, found)
        kept = rollback.failed(steps) + rollback.foreign(steps)
        raise ChangeError(
            f"It did not take and is taken back: {'; '.join(problems)}"
            + (f". Not taken back: {'; '.join(kept)}" if kept else ""),
            change=change_id,
        )
    found.close(_OVER)
    return {"change": change_id, "confirm_within": seconds if cuts else None}


def _write(changes: list[Difference]) -> list[str]:
    """In their order, as far as it goes: why it did not go further."""
    problems = []
    stale: set[Object] = set()
    for change in changes:
        try:
            if change.target.kind not in ("file", "dir") and stale:
                # What follows may be a unit whose file was just written.
                objects.reload_units(stale)
                stale = set()
            stale.add(change.target)
            if change.write is not None:
                change.write()
            elif differs(change):
                objects.put(change.target, change.after)
        except objects.ObjectError as error:
            problems.append(str(error))
            break
        except OSError as error:
            problems.append(f"{change.target}: {error.strerror or error}")
            break
    objects.reload_units(stale)
    return problems
