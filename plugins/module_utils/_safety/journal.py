# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Write-ahead journal of changes, with write-once originals. Shapes: docs/dev/tuning.md.

Before the first write of a change its lines are on the disk, so at any instant every object is at its original or at a value
that the journal names. One instance is used under the lock (lock.py); reading needs none.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ansible_collections.netops.fleet.plugins.module_utils._safety import files
from ansible_collections.netops.fleet.plugins.module_utils._safety.objects import Object, partly, same

FOLDER = "/var/lib/netops.fleet"

#: History is for reading; the older half goes when it is larger.
MAX_HISTORY = 1 << 20
#: A journal that grew larger than this (adaptive buffers write often) is written anew, its older changes folded.
MAX_JOURNAL = 1 << 20
#: Seconds for which a change can be taken back alone, whatever the journal's size: longer than any dead-man's timer.
KEEP_WHOLE = 7200.0
#: Values that one object remembers to have been given; older ones are told apart no longer.
_MAX_WROTE = 16


#: State "written" to an object that changes by itself when another one is written: whatever it is now, the change did it.
ANY: dict[str, Any] = {"any": True}


#: The rollout that a changer is part of, in its environment: so that it can be taken back without what others did meanwhile.
RUN = "NETOPS_FLEET_RUN"
#: The mark of a journal without changes.
START = "0-0"
_ID = re.compile(r"\A([0-9a-f]{1,14})-[0-9a-f]{1,8}\Z")


class JournalError(Exception):
    """The journal cannot be read or written; whoever raises it has changed nothing on the host."""


class Entry(NamedTuple):
    """One object that is not at its original. wrote: states given to it since, oldest first.

    change, owner, time: of the change that touched it first.
    """

    target: Object
    original: dict[str, Any] | None
    change: str
    owner: str
    time: float
    wrote: list[dict[str, Any] | None]

    def ours(self, present: dict[str, Any] | None) -> bool:
        return any(
            one == ANY or same(self.target, present, one) or partly(self.target, self.original, one, present)
            for one in self.wrote
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.target.kind,
            "name": self.target.name,
            "original": self.original,
            "wrote": self.wrote[-1] if self.wrote else None,
            "owner": self.owner,
            "change": self.change,
            "time": self.time,
        }


@dataclass
class Change:
    """One run of a changer. done: it was applied and read back; False means it was cut short. undone: see rollback.undo.

    folded: only the originals of what it touched are left of it. run: the rollout it is part of (RUN), or "". waits: it was
    to be confirmed. released: objects that it gave back for good; they are at their originals, and live no more.
    """

    id: str
    owner: str
    time: float
    boot: str
    done: bool = False
    undone: bool = False
    folded: bool = False
    run: str = ""
    waits: bool = False
    released: list[Object] = field(default_factory=list)
    #: (object, state before, state written)
    writes: list[tuple[Object, dict[str, Any] | None, dict[str, Any] | None]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "owner": self.owner,
            "time": self.time,
            "boot": self.boot,
            "done": self.done,
            "undone": self.undone,
            "run": self.run,
            "objects": len(self.writes),
        }


class Journal:
    """live: objects not at their original, in the order they were first recorded. problems: damaged lines, one sentence each."""

    def __init__(self, folder: str = FOLDER) -> None:
        self.folder = folder
        self.path = os.path.join(folder, "journal.jsonl")
        self.history = os.path.join(folder, "history.jsonl")
        self.live: dict[Object, Entry] = {}
        self.changes: list[Change] = []
        self.problems: list[str] = []
        self._torn = False
        self._read()

    # --- reading

    def _read(self) -> None:
        try:
            with open(self.path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return
        except OSError as error:
            raise JournalError(f"{self.path}: {error.strerror}") from None
        self._torn = bool(data) and not data.endswith(b"\n")
        lines = data.split(b"\n")
        for number, line in enumerate(lines, 1):
            if not line:
                continue
            try:
                self._take(json.loads(line))
            except (ValueError, KeyError, TypeError):
                # The last line of a run that was killed while writing it: its change had not begun.
                if not (self._torn and number == len(lines)):
                    self.problems.append(f"{self.path} line {number} is damaged and was passed over")

    def _take(self, line: dict[str, Any]) -> None:
        operation = line["op"]
        if operation == "change":
            change = Change(str(line["id"]), str(line["owner"]), float(line["time"]), str(line["boot"]))
            change.folded, change.run = bool(line.get("folded")), str(line.get("run") or "")
            change.waits = bool(line.get("waits"))
            self.changes.append(change)
        elif operation in ("done", "undone"):
            for change in self.changes:
                if change.id == line["id"]:
                    setattr(change, operation, True)
        else:
            target = Object(str(line["kind"]), str(line["name"]))
            if operation == "original":
                if target not in self.live:
                    change = self.changes[-1] if self.changes else Change("", "", 0.0, "")
                    self.live[target] = Entry(target, line["state"], change.id, change.owner, change.time, [])
            elif operation == "wrote":
                entry = self.live[target]
                entry.wrote[:] = [one for one in entry.wrote if not same(target, one, line["state"])][1 - _MAX_WROTE :]
                entry.wrote.append(line["state"])
                if self.changes and not self.changes[-1].folded:
                    self.changes[-1].writes.append((target, line.get("before"), line["state"]))
            elif operation == "restored":
                self.live.pop(target, None)
                releaser = self.find(line["change"]) if "change" in line else None
                if releaser is not None:
                    releaser.released.append(target)

    def original(self, target: Object, present: dict[str, Any] | None) -> dict[str, Any] | None:
        """What was there before the collection first touched it; ``present`` when it never did."""
        entry = self.live.get(target)
        return present if entry is None else entry.original

    def unfinished(self) -> list[Change]:
        """Changes that were cut short."""
        return [change for change in self.changes if not change.done and not change.undone]

    def mark(self) -> str:
        """Names this moment for after(): the id of the newest change."""
        return self.changes[-1].id if self.changes else START

    def after(self, mark: str, run: str | None = None) -> list[str]:
        """Ids of the changes begun after a mark, oldest first; with ``run`` only that rollout's. Raises JournalError."""
        match = _ID.match(mark)
        if match is None:
            raise JournalError(f"{mark[:80]!r} is no mark: it is the id of a change, or {START} for the beginning")
        ids = [change.id for change in self.changes]
        if mark in ids:
            later = self.changes[ids.index(mark) + 1 :]
        else:
            # All was rolled back meanwhile, and the marked change went with it: then the time decides.
            later = [change for change in self.changes if int(change.time * 1000) > int(match[1], 16)]
        return [change.id for change in later if run is None or change.run == run]

    def revocable(self, owner: str | None = None) -> list[str]:
        """Ids of changes that gave objects back, which the gate of a rollout or a dead-man's timer may have to take back."""
        oldest = time.time() - KEEP_WHOLE
        return [
            change.id
            for change in self.changes
            if change.released
            and (change.run or change.waits)
            and not change.undone
            and change.time > oldest
            and owner in (None, change.owner)
        ]

    # --- writing

    def begin(
        self,
        owner: str,
        writes: list[tuple[Object, dict[str, Any] | None, dict[str, Any] | None]],
        now: float = 0.0,
        waits: bool = False,
    ) -> str:
        """Record (object, present state, state to be written) of one change; on the disk when this returns. Returns its id.

        waits: it is to be confirmed.
        """
        now = now or time.time()
        number = int(now * 1000)
        while self.find(f"{number:x}-{os.getpid():x}") is not None:
            number += 1
        change = Change(f"{number:x}-{os.getpid():x}", owner, round(now, 3), boot_id())
        head = {"op": "change", "id": change.id, "owner": owner, "time": change.time, "boot": change.boot}
        run = os.environ.get(RUN, "")
        if run:
            head["run"] = run[:100]
        if waits:
            head["waits"] = True
        lines: list[dict[str, Any]] = [head]
        for target, present, _wanted in writes:
            if target not in self.live:
                lines.append({"op": "original", "kind": target.kind, "name": target.name, "state": present})
        for target, present, wanted in writes:
            lines.append({"op": "wrote", "kind": target.kind, "name": target.name, "before": present, "state": wanted})
        self._append(lines)
        return change.id

    def done(self, change: str, released: Iterable[Object] = ()) -> None:
        """The change was applied and read back. released: what it gave back for good."""
        gone = [{"op": "restored", "kind": target.kind, "name": target.name, "change": change} for target in released]
        self._append([*gone, {"op": "done", "id": change}])
        self._compact()

    def undone(self, changes: Iterable[str]) -> None:
        """The changes were taken back: what they wrote is as it was before them, or at its original."""
        self._append([{"op": "undone", "id": change} for change in changes])

    def find(self, change: str) -> Change | None:
        return next((one for one in self.changes if one.id == change), None)

    def in_force(self, change: str) -> bool:
        """Is anything of it left, as far as the journal tells?"""
        found = self.find(change)
        if found is None or found.undone:
            return False
        return bool(found.released) or any(target in self.live for target, _before, _state in found.writes)

    def restored(self, target: Object) -> None:
        """The object is at its original again."""
        self._append([{"op": "restored", "kind": target.kind, "name": target.name}])

    def close(self, note: str) -> None:
        """When nothing is live any more, nor to be taken back, the journal moves to the history.

        Where that cannot be written, such as on a full disk, the journal stays: it says the same, and a later run moves it.
        """
        if self.live or not self.changes or self.revocable():
            return
        summary = {"op": "closed", "note": note, "time": round(time.time(), 3)}
        try:
            with open(self.path, "rb") as file:
                data = file.read()
            old = b""
            if os.path.exists(self.history):
                with open(self.history, "rb") as file:
                    old = file.read()
            if old and not old.endswith(b"\n"):
                old += b"\n"
            if data and not data.endswith(b"\n"):
                data += b"\n"
            data = old + data + json.dumps(summary).encode("ascii") + b"\n"
            if len(data) > MAX_HISTORY:
                data = data[data.find(b"\n", len(data) - MAX_HISTORY // 2) + 1 :]
            # Killed between the two: the journal has nothing live, and the next close writes the lines once more.
            files.write(self.history, data)
            files.remove(self.path)
        except OSError:
            return
        self.changes, self._torn = [], False

    def _append(self, lines: list[dict[str, Any]]) -> None:
        data = (b"\n" if self._torn else b"") + _text(lines).encode("ascii")
        try:
            files.private_folder(self.folder)
            fresh = not os.path.exists(self.path)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(self.path, flags, 0o600)
            size = os.fstat(descriptor).st_size
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
                os.fsync(descriptor)
            except OSError:
                # Lines of which some are missing would tell of a change that never began.
                os.ftruncate(descriptor, size)
                raise
            finally:
                os.close(descriptor)
            if fresh:
                files.sync_folder(self.folder)
        except OSError as error:
            self._torn = True
            raise JournalError(f"{self.path}: {error.strerror or error}") from None
        self._torn = False
        for line in lines:
            self._take(line)

    def _compact(self) -> None:
        """Write the journal anew when it grew large: originals of old changes, young ones as they are."""
        try:
            with open(self.path, "rb") as file:
                if os.fstat(file.fileno()).st_size <= MAX_JOURNAL:
                    return
                lines = file.read().splitlines(keepends=True)
        except OSError:
            return
        young = {change.id for change in self.changes if change.time > time.time() - KEEP_WHOLE} | {self.changes[-1].id}
        cut = next((number for number, line in enumerate(lines) if _begins(line) in young), 0)
        old = Journal.__new__(Journal)
        old.live, old.changes, old.problems = {}, [], []
        for line in lines[:cut]:
            try:
                old._take(json.loads(line))
            except (ValueError, KeyError, TypeError):
                continue  # Told when it was read.
        kept = _text(line for change in old.changes for line in old._folded(change)).encode("ascii") + b"".join(lines[cut:])
        if len(kept) < sum(map(len, lines)):
            try:
                files.write(self.path, kept)
            except OSError:
                return  # It says the same, at length.
            self.live, self.changes, self.problems = {}, [], []
            self._read()

    def _folded(self, change: Change) -> list[dict[str, Any]]:
        """Lines for a change of which only the originals of live objects are kept."""
        entries = [entry for entry in self.live.values() if entry.change == change.id]
        if not entries:
            return []
        lines: list[dict[str, Any]] = [
            {"op": "change", "id": change.id, "owner": change.owner, "time": change.time, "boot": change.boot, "folded": True}
        ]
        for entry in entries:
            base = {"kind": entry.target.kind, "name": entry.target.name}
            lines.append({"op": "original", **base, "state": entry.original})
            lines += [{"op": "wrote", **base, "state": one} for one in entry.wrote]
        lines += [{"op": word, "id": change.id} for word in ("done", "undone") if getattr(change, word)]
        return lines


def _begins(line: bytes) -> str | None:
    """The id of the change that a line begins."""
    try:
        found = json.loads(line)
        return str(found["id"]) if found["op"] == "change" else None
    except (ValueError, KeyError, TypeError):
        return None


def _text(lines: Iterable[dict[str, Any]]) -> str:
    return "".join(json.dumps(line, ensure_ascii=True, separators=(",", ":")) + "\n" for line in lines)


def boot_id() -> str:
    """Tells one boot of the host from the next; empty when the kernel does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
