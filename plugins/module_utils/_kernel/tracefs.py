# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""An own instance of the kernel's tracer: made, read and removed without touching what others trace.

Needs root. tracefs is used where it is mounted; where it is not, the work is done in a child with a mount namespace of its
own, so that the machine sees no mount. Instances are machine-wide either way: they carry the maker's pid in their name,
and one whose maker is dead is removed by whoever comes next. Sources: Documentation/trace/{ftrace,events}.rst
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator

from ansible_collections.netops.fleet.plugins.module_utils._kernel import procfs

PREFIX = "netops_fleet_"
_CLONE_NEWNS = 0x00020000
_MS_REC_PRIVATE = 0x4000 | (1 << 18)
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8


def mounted() -> str | None:
    """The folder where tracefs is mounted already, or None.

    Looking must not mount it: debugfs would, on the first access to its folder ``tracing``. So only the list of mounts is read.
    """
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                words = line.split()
                if len(words) > 2 and words[2] == "tracefs":
                    return words[1]
    except OSError:
        pass
    return None


def supported() -> bool:
    """Does this kernel have tracefs?"""
    try:
        with open("/proc/filesystems", encoding="ascii", errors="replace") as lines:
            return any(line.split()[-1:] == ["tracefs"] for line in lines)
    except OSError:
        return False


def mount_privately() -> str:
    """Give this process a mount namespace of its own and mount tracefs in it; returns the folder. Raises OSError.

    For a forked child only: the process keeps the namespace until it ends, and the mount ends with it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        raise _error("unshare")
    if libc.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC_PRIVATE), None) != 0:
        raise _error("mount --make-rprivate /")
    error = OSError(2, "mount tracefs: no folder to mount it on")
    for folder in ("/sys/kernel/tracing", "/sys", "/mnt", "/tmp"):  # noqa: S108 - a place to mount on, nothing is written there
        if not os.path.isdir(folder):
            continue
        flags = ctypes.c_ulong(_MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
        if libc.mount(b"tracefs", folder.encode(), b"tracefs", flags, None) == 0:
            return folder
        error = _error("mount tracefs")
        if error.errno == 1:
            raise error
    raise error


def _error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number).lower()}")


def write(path: str, words: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(words)


class Instance:
    """An instance of the tracer under ``root``. ``open`` makes it, ``remove`` ends it; both raise OSError."""

    def __init__(self, root: str, name: str) -> None:
        self.path = os.path.join(root, "instances", name)

    def open(self, events: list[str], kilobytes: int) -> None:
        """Make the instance, bound its buffer (for all CPUs together), and start counting ``events`` (``group/name``)."""
        os.mkdir(self.path, 0o700)
        write(f"{self.path}/buffer_size_kb", str(max(64, min(1024, kilobytes // (os.cpu_count() or 1)))))
        for event in events:
            write(f"{self.path}/events/{event}/enable", "1")

    def pages(self) -> Iterator[bytes]:
        """What is in the buffer, page by page, CPU by CPU; what is read is gone."""
        size = os.sysconf("SC_PAGE_SIZE")
        for cpu in sorted(os.listdir(f"{self.path}/per_cpu")):
            descriptor = os.open(f"{self.path}/per_cpu/{cpu}/trace_pipe_raw", os.O_RDONLY | os.O_NONBLOCK)
            try:
                while True:
                    try:
                        page = os.read(descriptor, size)
                    except BlockingIOError:
                        break
                    if not page:
                        break
                    yield page
            finally:
                os.close(descriptor)

    def stop(self) -> None:
        write(f"{self.path}/tracing_on", "0")

    def lost(self) -> int:
        """Events that found no room: the sum over CPUs of ``overrun`` and ``dropped events``."""
        total = 0
        folder = f"{self.path}/per_cpu"
        for cpu in os.listdir(folder):
            try:
                with open(f"{folder}/{cpu}/stats", encoding="ascii", errors="replace") as lines:
                    for line in lines:
                        name, _colon, value = line.partition(":")
                        if name in ("overrun", "commit overrun", "dropped events"):
                            total += int(value)
            except (OSError, ValueError):
                continue
        return total

    def remove(self) -> None:
        """Remove it; silent when it is gone already."""
        _remove(self.path)


def _remove(path: str) -> None:
    try:
        write(f"{path}/events/enable", "0")
        os.rmdir(path)
    except FileNotFoundError:
        pass


def _pid_namespace(pid: str = "self") -> int | None:
    try:
        return os.stat(f"/proc/{pid}/ns/pid").st_ino
    except OSError:
        return None


def own_name() -> str:
    """The name of this process's instance: with its pid namespace, unless that is the machine's own."""
    space = _pid_namespace()
    return f"{PREFIX}{os.getpid()}" if space in (None, procfs.INIT_PID_INODE) else f"{PREFIX}{space}_{os.getpid()}"


def remove_stale(root: str) -> list[str]:
    """Remove instances of ours whose maker is dead; returns their names. Raises nothing: another may be removing it too.

    A pid means something only in its own pid namespace; one of another namespace is dead when no process is left in that.
    """
    removed: list[str] = []
    try:
        names = os.listdir(f"{root}/instances")
    except OSError:
        return removed
    for name in names:
        if not name.startswith(PREFIX):
            continue
        space, _underscore, pid = name[len(PREFIX) :].rpartition("_")
        if not pid.isdigit() or not (space.isdigit() or not space) or _alive(space, pid):
            continue
        try:
            _remove(f"{root}/instances/{name}")
            removed.append(name)
        except OSError:
            continue
    return removed


def _alive(space: str, pid: str) -> bool:
    """Is the maker there, as far as can be told? A doubt counts as yes."""
    own = _pid_namespace()
    if own is None:
        return True
    maker = int(space) if space else procfs.INIT_PID_INODE
    if maker == own:
        return os.path.exists(f"/proc/{pid}")
    if own != procfs.INIT_PID_INODE:
        return True
    seen = {_pid_namespace(entry) for entry in os.listdir("/proc") if entry.isdigit()}
    return maker in seen
