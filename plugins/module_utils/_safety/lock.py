# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""One change of a host at a time. The kernel's lock decides, the file's content says who holds it and since when."""

from __future__ import annotations

import fcntl
import json
import os
import time
from types import TracebackType


class Busy(Exception):
    """Another change runs; the message names its owner and age."""


class Lock:
    """``with Lock(folder, "sysctl_tuning"):`` or Busy. A holder that dies, even by SIGKILL, gives it back: flock(2).

    wait: seconds to try before Busy.
    """

    def __init__(self, folder: str, what: str, wait: float = 0.0) -> None:
        self.path = os.path.join(folder, "lock")
        self.what = what
        self.wait = wait
        self._descriptor = -1

    def __enter__(self) -> Lock:
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        deadline = time.monotonic() + self.wait
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    told = self._told()
                    os.close(self._descriptor)
                    self._descriptor = -1
                    raise Busy(told) from None
                time.sleep(0.05)
        content = json.dumps({"what": self.what, "pid": os.getpid(), "started": round(time.time(), 3)}) + "\n"
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, content.encode("ascii"), 0)
        except OSError:
            pass  # The kernel's lock is held. On a full disk others are not told by whom, and the way back is still open.
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self._descriptor >= 0:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = -1

    def _told(self) -> str:
        try:
            holder = json.loads(os.pread(self._descriptor, 4096, 0).decode("utf-8", "replace"))
            age = max(0.0, time.time() - float(holder["started"]))
            who = f"{holder['what']} (pid {int(holder['pid'])}), for {age:.0f} s now"
        except (ValueError, KeyError, TypeError):
            who = "a process that has not said its name yet"
        return f"another change of this host is under way: {who}. It holds {self.path}; wait for it, or end that process."
