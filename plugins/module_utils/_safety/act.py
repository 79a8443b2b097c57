# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""change_journal: read, confirm or roll back what changers of this collection journalled on this host."""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._safety import cli, deadman, journal, lock, rollback

#: The argument spec of the module; its documentation stands in plugins/modules/change_journal.py.
ARGUMENTS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["read", "confirmed", "rolled_back"], "default": "read"},
    "owner": {"type": "str"},
    "change": {"type": "str"},
    "since": {"type": "str"},
    "run": {"type": "str"},
    "force": {"type": "bool", "default": False},
}
#: What is rolled back is named in one way.
EXCLUSIVE = [("owner", "change", "since")]


class ActError(Exception):
    """facts: more for the caller."""

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.facts = facts


def run(params: dict[str, Any], check: bool, folder: str = journal.FOLDER) -> dict[str, Any]:
    """What the module returns. Raises ActError, lock.Busy, journal.JournalError."""
    if params["state"] == "confirmed":
        return confirm(params.get("change"), check, folder)
    if params["state"] == "rolled_back":
        return back(params, check, folder)
    return {"changed": False, "journal": cli.report(journal.Journal(folder)), "warnings": []}


def confirm(change: str | None, check: bool, folder: str) -> dict[str, Any]:
    """Stop the dead-man's timer. Nothing waits: fine, unless the change is known to have been taken back meanwhile."""
    waiting = deadman.armed(folder)
    if change and (waiting is None or change not in waiting["changes"]):
        found = journal.Journal(folder).find(change)
        if found is None or found.undone:
            raise ActError(f"change {change} is not in force any more: nobody confirmed it in time, or it was rolled back")
    if waiting is None or (change and change not in waiting["changes"]):
        return {"changed": False, "confirmed": [], "warnings": []}
    if not check:
        with lock.Lock(folder, "change_journal", wait=10):
            waiting = deadman.armed(folder) or {"changes": []}
            if not waiting["changes"] or (change and change not in waiting["changes"]):
                raise ActError("the change was taken back a moment ago: nobody confirmed it in time")
            deadman.disarm(folder)
    return {"changed": True, "confirmed": waiting["changes"], "warnings": []}


def back(params: dict[str, Any], check: bool, folder: str) -> dict[str, Any]:
    owner, change, since, force = params.get("owner"), params.get("change"), params.get("since"), bool(params["force"])
    if not os.path.isdir(folder):
        return {"changed": False, "steps": [], "warnings": []}
    with nullcontext() if check else lock.Lock(folder, "change_journal", wait=30):
        found = journal.Journal(folder)
        if change is None and since is None:
            steps = rollback.preview(found, owner, force) if check else rollback.run(found, owner, force)
        else:
            changes = [change] if change is not None else found.after(since or "", params.get("run"))
            steps = [] if not changes else (rollback.preview_undo if check else rollback.undo)(found, changes, force)
        if not check:
            deadman.settle(folder, found)
    shown = [step.to_dict() for step in steps]
    failed = rollback.failed(steps)
    if failed:
        raise ActError(f"Not everything is as it was: {'; '.join(failed)}", steps=shown)
    warnings = [f"left alone: {line}; force: true restores it too" for line in rollback.foreign(steps)]
    return {"changed": any(step.verdict == "restore" for step in steps), "steps": shown, "warnings": warnings}
