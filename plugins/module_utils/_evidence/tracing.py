# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""A window of tracing: a child process watches, this process goes on, and whatever ends either, nothing is left behind.

The child holds the tracer's instance, or the tracing program. It notices when its parent ends, and cleans up; should it be
killed too, the next run removes what it left.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Gap
from ansible_collections.netops.fleet.plugins.module_utils._kernel import procfs, tracefs

#: Seconds after which the child ends in any case.
LIFETIME = 300.0


@dataclass
class Running:
    """A window that is open: the child and the way to talk to it; None when there is none, with the reason in gaps."""

    child: int | None = None
    channel: socket.socket | None = None
    gaps: list[Gap] = field(default_factory=list)


class Signal:
    """What the watching child and its parent tell each other."""

    def __init__(self, channel: socket.socket, lifetime: float) -> None:
        self._channel, self._deadline = channel, time.monotonic() + lifetime
        self.started = time.monotonic()

    def ready(self) -> None:
        """Say that the window is open."""
        self.started = time.monotonic()
        send(self._channel, {"ready": True})

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the parent wants the answer (True), or is gone (False); after ``seconds``: neither, False."""
        left = max(0.0, self._deadline - time.monotonic())
        if select.select([self._channel], [], [], left if seconds is None else min(left, seconds))[0]:
            return self._channel.recv(1) == b"e"
        return False

    def fileno(self) -> int:
        return self._channel.fileno()


#: Watches between ``ready`` and the end of ``wait``, cleans up, and returns the answer. May raise OSError.
Work = Callable[[Signal], "dict[str, Any] | None"]


def begin(what: str, work: Work, lifetime: float = LIFETIME) -> Running:
    """Start ``work`` in a child. what: name of the evidence, for gaps."""
    running = Running()
    why = cannot()
    if why:
        running.gaps.append(Gap(what, why))
        return running
    ours, theirs = socket.socketpair()
    try:
        child = os.fork()
    except OSError as error:
        ours.close()
        theirs.close()
        running.gaps.append(Gap(what, f"fork: {procfs.reason(error)}"))
        return running
    if child == 0:
        _child(theirs, work, lifetime)
    theirs.close()
    running.child, running.channel = child, ours
    answer = _receive(ours, 70.0)  # a tracing program is compiled first
    if answer is None or "error" in answer:
        said = answer["error"] if answer else "the tracer did not start in time"
        running.gaps.append(Gap(what, str(said)))
        finish(running)
    return running


def end(running: Running) -> dict[str, Any]:
    """The child's answer; ``{error: text}`` when there is none. The window must be open."""
    if running.channel is None:
        return {"error": "not started"}
    try:
        running.channel.send(b"e")
        answer = _receive(running.channel, 30.0)
    except OSError as error:
        answer = {"error": f"the tracer ended: {procfs.reason(error)}"}
    finish(running)
    return answer if answer is not None else {"error": "the tracer gave no answer in time"}


def finish(running: Running) -> None:
    """Close the channel, on which the child ends, and collect the child."""
    if running.channel is not None:
        running.channel.close()
        running.channel = None
    if running.child is None:
        return
    deadline = time.monotonic() + 10.0
    while os.waitpid(running.child, os.WNOHANG)[0] == 0:
        if time.monotonic() > deadline:
            os.kill(running.child, signal.SIGKILL)
            os.waitpid(running.child, 0)
            break
        time.sleep(0.005)
    running.child = None


def cannot() -> str | None:
    """Why nothing can be traced here; None when it can."""
    if os.geteuid() != 0:
        return "needs root"
    if tracefs.mounted() is None and not tracefs.supported():
        return "this kernel has no tracefs"
    return None


def root() -> str:
    """The folder of tracefs, for the child: mounted in a mount namespace of its own where it is not mounted. Raises OSError."""
    return tracefs.mounted() or tracefs.mount_privately()


def scope() -> str:
    """host, or machine when this process sees a container or a network namespace of it only."""
    return "machine" if procfs.in_container() or not procfs.initial_network() else "host"


def _receive(channel: socket.socket, seconds: float) -> dict[str, Any] | None:
    """One JSON line from the child; None when none came in time, or the child ended without one."""
    deadline = time.monotonic() + seconds
    data = b""
    while not data.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([channel], [], [], left)[0]:
            return None
        part = channel.recv(1 << 16)
        if not part:
            return None
        data += part
    answer: dict[str, Any] = json.loads(data)
    return answer


def _child(channel: socket.socket, work: Work, lifetime: float) -> None:
    """The child's whole life. It never returns: what the parent registered to run at its end is the parent's."""
    try:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        # The parent's pipes must not be held open: a controller waits for their end.
        keep = os.dup2(channel.fileno(), 3) if channel.fileno() != 3 else 3
        empty = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(empty, descriptor)
        os.closerange(4, 4096)
        kept = socket.socket(fileno=os.dup(keep))
        answer: dict[str, Any] | None
        try:
            answer = work(Signal(kept, lifetime))
        except OSError as error:
            answer = {"error": f"tracefs: {procfs.reason(error)}"}
        # Sent when nothing is left behind: the parent may rely on it.
        if answer is not None:
            send(kept, answer)
    finally:
        os._exit(0)


def send(channel: socket.socket, answer: dict[str, Any]) -> None:
    channel.sendall(json.dumps(answer).encode("ascii") + b"\n")
