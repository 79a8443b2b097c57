# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""The journal's own command: ``python3 /var/lib/netops.fleet/journal.pyz show | rollback | undo | expire``.

It needs nothing but the host's Python, so it works without a controller, and after the network is gone.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import Any, TextIO

from ansible_collections.netops.fleet.plugins.module_utils._safety import deadman, lock, rollback
from ansible_collections.netops.fleet.plugins.module_utils._safety.journal import FOLDER, Journal, JournalError

#: How long a timer waits for a change that is under way.
_PATIENCE = 120.0


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="journal.pyz", description="What netops.fleet changed on this host, and the way back.")
    parser.add_argument("--folder", default=FOLDER)
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser("show", help="list what differs from its original")
    show.add_argument("--json", action="store_true")
    back = commands.add_parser("rollback", help="return to the originals")
    back.add_argument("--owner", help="only what this module changed")
    undo = commands.add_parser("undo", help="take one change back")
    undo.add_argument("--change", required=True)
    for each in (back, undo):
        each.add_argument("--force", action="store_true", help="also what somebody else changed since")
    expire = commands.add_parser("expire", help="take back the change that nobody confirmed")
    expire.add_argument("--after", type=float, default=0.0, help="seconds to wait first")
    expire.add_argument("--change", help="only if this one still waits, and its time is over")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "show":
            return _show(chosen.folder, chosen.json)
        if chosen.command == "expire":
            return _expire(chosen.folder, chosen.after, chosen.change)
        with lock.Lock(chosen.folder, f"journal.pyz {chosen.command}"):
            journal = Journal(chosen.folder)
            if chosen.command == "rollback":
                steps = rollback.run(journal, chosen.owner, chosen.force)
            else:
                steps = rollback.undo(journal, [chosen.change], chosen.force)
            deadman.settle(chosen.folder, journal)
    except (JournalError, lock.Busy, OSError) as error:
        _say(error, sys.stderr)
        return 1
    return _tell(steps)


def _tell(steps: list[rollback.Step]) -> int:
    for step in steps:
        _say(f"{step.verdict}: {step.target} {step.why}".rstrip())
    return 1 if rollback.failed(steps) or rollback.foreign(steps) else 0


def _show(folder: str, as_json: bool) -> int:
    journal = Journal(folder)
    if as_json:
        _say(json.dumps(report(journal), indent=1))
        return 0
    for line in journal.problems:
        _say(line)
    waiting = deadman.armed(folder)
    if waiting is not None:
        _say(f"change {', '.join(waiting['changes'])} waits for confirmation until {_when(waiting['deadline'])}")
    for change in journal.unfinished():
        _say(f"change {change.id} by {change.owner} of {_when(change.time)} was cut short; rollback or run the module again")
    if not journal.live:
        _say("nothing differs from its original")
    for entry in journal.live.values():
        before, after = _short(entry.original), _short(entry.wrote[-1] if entry.wrote else None)
        _say(f"{_when(entry.time)}  {entry.owner}  {entry.target}: {before} -> {after}")
    return 0


def report(journal: Journal) -> dict[str, Any]:
    """What ``show --json`` prints and change_journal returns."""
    return {
        "folder": journal.folder,
        "objects": [entry.to_dict() for entry in journal.live.values()],
        "changes": [change.to_dict() for change in journal.changes],
        "unfinished": [change.id for change in journal.unfinished()],
        "waiting": deadman.armed(journal.folder),
        "mark": journal.mark(),
        "problems": journal.problems,
    }


def _short(state: dict[str, Any] | None) -> str:
    if state is None:
        return "(not there)"
    if "value" in state:
        return str(state["value"])
    if "link" in state:
        return f"link to {state['link']}"
    if "text" in state:
        return f"{len(state['text'])} characters"
    return json.dumps(state)


def _when(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


def _wait(folder: str, seconds: float) -> None:
    """Wait, but no longer than the marker is there: a timer whose change was confirmed has nothing to stay for."""
    end = time.monotonic() + seconds
    seen = False
    while end > time.monotonic():
        here = os.path.exists(deadman.marker(folder))
        if seen and not here:
            return
        seen = seen or here  # it is written just after the timer was started
        time.sleep(max(0.0, min(1.0, end - time.monotonic())))


def _expire(folder: str, after: float, change: str | None) -> int:
    _wait(folder, after)
    if not os.path.exists(deadman.marker(folder)):
        return 0
    with lock.Lock(folder, "the dead-man's timer", wait=_PATIENCE):
        waiting = deadman.armed(folder)
        # A timer names its change; the unit at boot does not: that the host was started again is reason enough.
        if waiting is None or (change is not None and (change not in waiting["changes"] or deadman.left(waiting) > 0)):
            return 0
        steps = deadman.expire(folder, waiting, Journal(folder))
    _say(f"change {', '.join(waiting['changes'])} was not confirmed within {waiting['seconds']} s and is taken back")
    return _tell(steps)


def _say(text: object, stream: TextIO = sys.stdout) -> None:
    """This runs as a program of its own, where print() would do."""
    stream.write(f"{text}\n")
