# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a command costs, with everything it starts: wall time, CPU time, memory. Also A/B rounds and medians.

CPU is what the kernel accounted to all descendants of this process while the command ran. Processes that outlive the command or
leave their parent (ssh's connection masters) are counted too: while a command is measured, orphans come to this process.
Memory is the peak of the tree's proportional set size, sampled: a page that forked workers share counts once.
"""

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PR_SET_CHILD_SUBREAPER = 36


class MeasureError(Exception):
    """A measured command failed; the message ends with what it said."""


@dataclass(frozen=True)
class Measured:
    """wall, cpu: seconds. memory: peak bytes of the tree, pages shared in it counted once; largest: peak resident bytes of its
    largest process. Both are 0 where memory was not watched. status: exit status. output: the last of stdout and stderr."""

    wall: float
    cpu: float
    memory: int = 0
    largest: int = 0
    status: int = 0
    output: str = ""


@dataclass(frozen=True)
class _Stat:
    pid: int
    parent: int
    state: str
    cpu: float  # seconds, children it has waited for included
    resident: int  # bytes


def _stat(pid: int) -> _Stat | None:
    """A process as /proc/PID/stat tells it (proc(5)); None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            values = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return _Stat(pid, int(values[1]), values[0], sum(int(each) for each in values[11:15]) / _TICK, int(values[21]) * _PAGE)


def descendants(root: int) -> list[_Stat]:
    """All processes below ``root``, itself left out; those that ended and were not waited for included."""
    children: dict[int, list[_Stat]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            found = _stat(int(name))
            if found is not None:
                children.setdefault(found.parent, []).append(found)
    below: list[_Stat] = []
    queue = [root]
    while queue:
        for each in children.get(queue.pop(), ()):
            below.append(each)
            queue.append(each.pid)
    return below


def _tree(root: int) -> list[int]:
    """``root`` and all below it, fit to be asked often: unlike descendants() it does not look at other processes, where the
    kernel tells children (CONFIG_PROC_CHILDREN), but may miss one that is just being made."""
    if not os.path.exists(f"/proc/{os.getpid()}/task/{os.getpid()}/children"):
        return [root, *(each.pid for each in descendants(root))]
    found = [root]
    for pid in found:  # grows while it is walked
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                    found += map(int, file.read().split())
        except OSError:
            continue
    return found


def memory(root: int) -> tuple[int, int]:
    """(proportional set size of ``root`` and all below it, resident set size of the largest of them), bytes, now."""
    tree = [found for found in map(_stat, _tree(root)) if found is not None]
    return sum(_proportional(each) for each in tree), max((each.resident for each in tree), default=0)


def _proportional(process: _Stat) -> int:
    """Bytes of a process, each shared page divided by its users; the resident set where that cannot be read."""
    try:
        with open(f"/proc/{process.pid}/smaps_rollup", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return process.resident


class _Watch(threading.Thread):
    """Keeps the peak of memory(root) until it is stopped."""

    def __init__(self, root: int, interval: float) -> None:
        super().__init__(daemon=True)
        self.root, self.interval = root, interval
        self.memory = self.largest = 0
        self._stop_asked = threading.Event()

    def run(self) -> None:
        while True:
            total, largest = memory(self.root)
            self.memory, self.largest = max(self.memory, total), max(self.largest, largest)
            if self._stop_asked.wait(self.interval):
                return

    def stop(self) -> None:
        self._stop_asked.set()
        self.join()


def _used() -> float:
    """CPU seconds of all descendants, ended and alive, since this process began. Only differences mean something."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime + sum(each.cpu for each in descendants(os.getpid()))


@contextmanager
def _adopting() -> Iterator[None]:
    """Orphans among the descendants become children of this process instead of init's (prctl(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    try:
        yield
    finally:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _reap() -> None:
    """Wait for adopted children that have ended; their CPU then counts as that of ended children."""
    for each in descendants(os.getpid()):
        if each.parent == os.getpid() and each.state == "Z":
            try:
                os.waitpid(each.pid, os.WNOHANG)
            except ChildProcessError:
                pass


def run(
    argv: Sequence[str],
    *,
    input: Path | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    check: bool = True,
    watch_memory: bool = False,
    interval: float = 0.2,
    timeout: float = 1800,
) -> Measured:
    """Run a command and measure it. input: file that is its stdin. One at a time in a process, and no other children meanwhile.

    Raises MeasureError when it runs too long, or fails and ``check`` is set.
    """
    _reap()
    with _adopting(), tempfile.TemporaryFile() as output, _source(input) as source:
        before = _used()
        started = time.monotonic()
        process = subprocess.Popen(
            list(argv), stdin=source, stdout=output, stderr=subprocess.STDOUT, env=env, cwd=cwd, start_new_session=True
        )
        watch = _Watch(process.pid, interval) if watch_memory else None
        if watch is not None:
            watch.start()
        try:
            _await(process.pid, timeout)
            wall = time.monotonic() - started
            process.wait()
        except BaseException as error:
            _end(process)
            if isinstance(error, TimeoutError):
                raise MeasureError(f"{_shown(argv)}: still running after {timeout:.0f} s\n{_tail(output)}") from None
            raise
        finally:
            if watch is not None:
                watch.stop()
            _reap()
        cpu = _used() - before
        said = _tail(output)
    if check and process.returncode != 0:
        raise MeasureError(f"{_shown(argv)}: exit status {process.returncode}\n{said}")
    peak, largest = (watch.memory, watch.largest) if watch is not None else (0, 0)
    return Measured(wall, cpu, peak, largest, process.returncode, said)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command and all that stayed in its session; returns when they are gone."""
    os.killpg(process.pid, signal.SIGTERM)
    try:
        _await(process.pid, 30)
    except TimeoutError:
        pass
    for _ in range(500):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            break
        process.poll()
        _reap()
        time.sleep(0.01)
    process.wait()


def _await(pid: int, timeout: float) -> None:
    """Sleep until a child ends; Popen.wait with a timeout polls and is late by up to 50 ms. Raises TimeoutError."""
    handle = os.pidfd_open(pid)
    try:
        if not select.select([handle], [], [], timeout)[0]:
            raise TimeoutError
    finally:
        os.close(handle)


@contextmanager
def _source(path: Path | None) -> Iterator[IO[bytes] | int]:
    if path is None:
        yield subprocess.DEVNULL
    else:
        with open(path, "rb") as stream:
            yield stream


def _tail(output: IO[bytes], limit: int = 4000) -> str:
    output.seek(max(0, output.seek(0, os.SEEK_END) - limit))
    return output.read().decode(errors="replace")


def _shown(argv: Sequence[str]) -> str:
    return " ".join(argv)[:300]


def median(rounds: Sequence[Measured]) -> Measured:
    """The median of each number on its own; status and output of the last round."""
    numbers = {
        each.name: statistics.median(getattr(one, each.name) for one in rounds)
        for each in fields(Measured)
        if each.name not in ("status", "output")
    }
    return Measured(
        numbers["wall"], numbers["cpu"], int(numbers["memory"]), int(numbers["largest"]), rounds[-1].status, rounds[-1].output
    )


def alternate(
    kinds: Mapping[str, Callable[[], Measured]], rounds: int, say: Callable[[str], None] = lambda text: None
) -> dict[str, Measured]:
    """Run each kind once a round, in turn, every other round backwards (a machine that slows down harms all alike); medians."""
    found: dict[str, list[Measured]] = {name: [] for name in kinds}
    for number in range(rounds):
        names = list(kinds) if number % 2 == 0 else list(kinds)[::-1]
        for name in names:
            found[name].append(kinds[name]())
        say(f"round {number + 1} of {rounds}: " + ", ".join(f"{name} {found[name][-1].wall:.2f} s" for name in kinds))
    return {name: median(each) for name, each in found.items()}
