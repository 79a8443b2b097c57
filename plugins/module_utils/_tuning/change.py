# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""What changers of this room share: read → plan → journal → apply → read again, and the way back.

A changer gives its name and ``study``, which reads the host and plans. Differences are objects of _safety/objects.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._safety import journal, lock, rollback
from ansible_collections.netops.fleet.plugins.module_utils._safety.change import (
    PATIENCE,
    ChangeError,
    Difference,
    apply,
    differs,
    finished,
    open_folder,
    overdue,
    unbroken,
)
from ansible_collections.netops.fleet.plugins.module_utils._safety.objects import kind
from ansible_collections.netops.fleet.plugins.module_utils._safety.release import released
from ansible_collections.netops.fleet.plugins.module_utils._tuning.sysctl_plan import diff

__all__ = ["ChangeError", "Changer", "Work", "back", "released", "run"]


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
    #: Seconds within which a difference that cuts must be confirmed; 0 sets no timer.
    deadman: int = 0


def run(changer: Changer, state: str, check: bool, force: bool = False) -> dict[str, Any]:
    """What the module returns, for a state of present, absent or planned.

    Raises ChangeError, lock.Busy, journal.JournalError, objects.ObjectError.
    """
    if state == "absent":
        return back(changer.owner, changer.folder, check, force)
    if check or state == "planned":
        work = changer.study(journal.Journal(changer.folder))
        _refuse(work)
        return _result(work)
    open_folder(changer.folder)
    with lock.Lock(changer.folder, changer.owner, wait=PATIENCE):
        notes = overdue(changer.folder)
        found = journal.Journal(changer.folder)
        work = changer.study(found)
        _refuse(work)
        result = _result(work)
        result["notes"] = [*result.get("notes", []), *notes]
        if not work.changes:
            finished(found, changer.owner)
            return result
        if changer.prepare is not None:
            try:
                changer.prepare()
            except OSError as error:
                raise ChangeError(f"Nothing was changed. {changer.folder}: {error.strerror or error}") from None
        after = Work()

        def left() -> list[str]:
            nonlocal after
            if changer.settle is not None:
                changer.settle(work.changes)
            after = changer.study(found)
            # A service that was started anew has what its unit says now, which may not be what it had once; irqbalance takes what
            # is given back to it.
            free = [one for one in after.changes if one.release and (kind(one.target).shared or kind(one.target).restless)]
            still = [one for one in after.changes if differs(one) and one not in free]
            return after.errors + [f"{one.target} is {_said(one.before)}, wanted {_said(one.after)}" for one in still]

        with unbroken():
            result.update(apply(found, changer.owner, work.changes, changer.deadman, left))
        # What was read again tells how it is now; plan and differences stay those that were applied.
        result.update({key: value for key, value in after.result.items() if key not in ("notes", "plan")})
        return result


def _refuse(work: Work) -> None:
    if work.errors:
        raise ChangeError("Nothing was changed. " + "; ".join(work.errors), plan=work.result.get("plan", []))


def _result(work: Work) -> dict[str, Any]:
    changes = [change for change in work.changes if differs(change)]
    return {
        "warnings": [],
        **work.result,
        "changed": bool(changes),
        "changes": [change.to_dict() for change in changes],
        "diff": diff(changes),
        "change": None,
        "confirm_within": None,
    }


def _said(state: dict[str, Any] | None) -> str:
    if state is None:
        return "not there"
    return ", ".join(f"{name} {value}" for name, value in state.items() if name not in ("mode", "uid", "gid"))


def back(owner: str, folder: str, check: bool, force: bool) -> dict[str, Any]:
    """state: absent. Everything that ``owner`` changed returns to its original. Raises as run() does."""
    if os.environ.get(journal.RUN):
        # The gate of a rollout takes back what was changed since its batch began; originals that were put back are no change.
        raise ChangeError(
            "Nothing was changed. state absent inside a rollout could not be taken back if its gate fails; "
            f"run netops.fleet.rollback with rollback_owner={owner} instead, on as few hosts at a time as you like (-l)"
        )
    if check:
        steps = rollback.preview(journal.Journal(folder), owner, force)
    elif not (rollback.select(found := journal.Journal(folder), owner) or found.revocable(owner)):
        steps = []
    else:
        from ansible_collections.netops.fleet.plugins.module_utils._safety import deadman

        with lock.Lock(folder, owner, wait=PATIENCE), unbroken():
            found = journal.Journal(folder)
            steps = rollback.run(found, owner, force, note="state absent")
            deadman.settle(folder, found)
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
