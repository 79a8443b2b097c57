# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""What programs have to live on: CPU, memory, disks, mounts, descriptors, RAID; levels, and differences over a window."""

from __future__ import annotations

import os
import re
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Section
from ansible_collections.netops.fleet.plugins.module_utils._kernel import procfs

#: File systems behind a network or a program: asking them may take for ever.
_REMOTE = re.compile(r"\A(?:nfs4?|cifs|smb3|ceph|glusterfs|lustre|9p|beegfs|gpfs|fuse\..+)\Z")
#: File systems that say something about a disk.
_LOCAL = frozenset(("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "vfat", "bcachefs", "jfs", "reiserfs"))
MAX_MOUNTS, MAX_PROCESSES, MAX_GROUPS = 64, 16, 16
_PATIENCE = 1.0
_WHOLE_DISK = re.compile(r"\A(?:sd[a-z]+|vd[a-z]+|xvd[a-z]+|nvme\d+n\d+|mmcblk\d+|md\d+|dm-\d+)\Z")


@dataclass
class Snapshot:
    """Counters at the begin of a window. disks: name → (operations, milliseconds they took together)."""

    at: float
    disks: dict[str, tuple[int, int]]
    oom: int | None
    groups: dict[str, tuple[int, int]] = field(default_factory=dict)


class Machine:
    """``begin`` … ``watch`` (once the listeners are known) … ``end``."""

    def begin(self) -> Snapshot:
        return Snapshot(time.monotonic(), _disks(), _oom_kills())

    def watch(self, first: Snapshot, listeners: list[dict[str, Any]]) -> None:
        """Control groups of programs that listen: how often their CPU quota stopped them."""
        for group in list(dict.fromkeys(str(one["cgroup"]) for one in listeners if one.get("cgroup")))[:MAX_GROUPS]:
            found = throttling(group)
            if found is not None:
                first.groups[group] = found

    def end(self, first: Snapshot, listeners: list[dict[str, Any]]) -> Section:
        """Data: ``{seconds, cpus, pressure, memory, oom_kills, disks, mounts, files, processes, groups, raid}``.

        pressure: ``{cpu|memory|io: {some|full: {avg10, avg60}}}`` in percent of the time, absent before Linux 4.20. memory: kB.
        oom_kills: in the window, null when not counted. disks: ``[{name, operations, await_ms}]`` of those with any.
        mounts: ``[{path, type, used, inodes, state}]``; used, inodes: shares 0 to 1; state ok, silent or the error's text.
        files: ``{open, max}`` of the machine. processes: ``[{pid, process, unit, open, limit}]`` of programs that listen.
        groups: ``[{cgroup, periods, throttled}]`` of the window. raid: ``[{name, level, wanted, active, rebuilding}]``.
        """
        section = Section({"seconds": round(time.monotonic() - first.at, 3), "cpus": os.cpu_count() or 1})
        data = section.data
        data["pressure"] = {
            name: found for name in ("cpu", "memory", "io") if (found := pressure(_text(f"/proc/pressure/{name}")))
        }
        data["memory"] = meminfo(_text("/proc/meminfo"))
        now = _oom_kills()
        data["oom_kills"] = max(0, now - first.oom) if now is not None and first.oom is not None else None
        data["disks"] = _waits(first.disks, _disks())
        data["mounts"] = _mounts(section)
        numbers = _text("/proc/sys/fs/file-nr").split()
        data["files"] = {"open": int(numbers[0]), "max": int(numbers[2])} if len(numbers) == 3 else None
        data["processes"] = _processes(listeners)
        data["groups"] = []
        for group, (periods, throttled) in first.groups.items():
            last = throttling(group)
            if last is not None and last[0] > periods:
                data["groups"].append({"cgroup": group, "periods": last[0] - periods, "throttled": last[1] - throttled})
        data["raid"] = mdstat(_text("/proc/mdstat"))
        return section


def _text(path: str) -> str:
    return procfs.text_or_none(path) or ""


def pressure(content: str) -> dict[str, dict[str, float]]:
    """``some avg10=0.00 avg60=0.00 avg300=0.00 total=0``"""
    found: dict[str, dict[str, float]] = {}
    for line in content.splitlines():
        kind, _space, rest = line.partition(" ")
        values = dict(word.split("=", 1) for word in rest.split() if "=" in word)
        try:
            found[kind] = {name: float(values[name]) for name in ("avg10", "avg60")}
        except (KeyError, ValueError):
            continue
    return found


def meminfo(content: str) -> dict[str, int]:
    wanted = {"MemTotal": "total_kb", "MemAvailable": "available_kb", "SwapTotal": "swap_total_kb", "SwapFree": "swap_free_kb"}
    found = {}
    for line in content.splitlines():
        name, _colon, rest = line.partition(":")
        value = procfs.decimal(rest.split()[0]) if name in wanted and rest.split() else None
        if value is not None:
            found[wanted[name]] = value
    return found


def _oom_kills() -> int | None:
    found = re.search(r"^oom_kill (\d+)$", _text("/proc/vmstat"), re.MULTILINE)
    return int(found[1]) if found else None


def _disks() -> dict[str, tuple[int, int]]:
    return diskstats(_text("/proc/diskstats"))


def diskstats(content: str) -> dict[str, tuple[int, int]]:
    """Whole disks: (operations finished, milliseconds they took), Documentation/admin-guide/iostats.rst."""
    found = {}
    for line in content.splitlines():
        words = line.split()
        if len(words) < 14 or not _WHOLE_DISK.match(words[2]):
            continue
        numbers = [procfs.decimal(word) or 0 for word in words[3:14]]
        found[words[2]] = (numbers[0] + numbers[4], numbers[3] + numbers[7])
    return found


def _waits(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> list[dict[str, Any]]:
    found = []
    for name, (operations, spent) in after.items():
        first = before.get(name)
        if first is not None and operations > first[0] and spent >= first[1]:
            count = operations - first[0]
            found.append({"name": name, "operations": count, "await_ms": round((spent - first[1]) / count, 1)})
    return found


def _mounts(section: Section) -> list[dict[str, Any]]:
    """Each file system once; those that may hang are asked in threads of their own, together within a second."""
    found: list[dict[str, Any]] = []
    seen: set[str] = set()
    threads = []
    for line in _text("/proc/self/mounts").splitlines():
        words = line.split(" ")
        if len(words) < 4 or words[0] in seen or not (words[2] in _LOCAL or _REMOTE.match(words[2])):
            continue
        if len(found) >= MAX_MOUNTS:
            section.gap("machine.mounts", f"only {MAX_MOUNTS} file systems were asked")
            break
        seen.add(words[0])
        one = {"path": _unescaped(words[1]), "type": words[2], "used": None, "inodes": None, "state": "silent"}
        found.append(one)
        if _REMOTE.match(words[2]):
            threads.append(threading.Thread(target=_ask, args=(one,), daemon=True))
            threads[-1].start()
        else:
            _ask(one)
    until = time.monotonic() + _PATIENCE
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return [dict(one) for one in found]  # a late answer must not change what was said


def _ask(one: dict[str, Any]) -> None:
    try:
        stat = os.statvfs(one["path"])
    except OSError as error:
        one["state"] = (error.strerror or str(error)).lower()
        return
    usable = stat.f_blocks - stat.f_bfree + stat.f_bavail
    # One step, so that a reader that does not wait sees all or nothing.
    one.update(
        used=round((stat.f_blocks - stat.f_bfree) / usable, 4) if usable > 0 else None,
        inodes=round(1 - stat.f_favail / stat.f_files, 4) if stat.f_files > 0 else None,
        state="ok",
    )


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)


def _processes(listeners: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Descriptors of programs that listen, against their own limit."""
    found = []
    known = {int(one["pid"]): one for one in listeners if one.get("pid") is not None}
    for pid, one in list(known.items())[:MAX_PROCESSES]:
        try:
            count = len(os.listdir(f"/proc/{pid}/fd"))
        except OSError:
            continue  # ended meanwhile, or not ours to see
        limit = re.search(r"^Max open files\s+(\d+)", _text(f"/proc/{pid}/limits"), re.MULTILINE)
        if limit is not None:
            told = {"pid": pid, "process": one.get("process"), "unit": one.get("unit"), "open": count, "limit": int(limit[1])}
            found.append(told)
    return found


def throttling(group: str) -> tuple[int, int] | None:
    """(periods, periods in which the quota stopped it) of a control group, either version; None without a quota."""
    for root in ("/sys/fs/cgroup", "/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"):
        content = procfs.text_or_none(f"{root}{group.rstrip('/')}/cpu.stat")
        if content is None:
            continue
        table = procfs.flat_table(content)
        if "nr_periods" in table:
            return table["nr_periods"], table.get("nr_throttled", 0)
    return None


def mdstat(content: str) -> list[dict[str, Any]]:
    """Arrays: ``md0 : active raid1 sda1[0] sdb1[1](F)`` and below it ``… blocks [2/1] [U_]``."""
    found: list[dict[str, Any]] = []
    for line in content.splitlines():
        head = re.match(r"(md\S*) : (\S+)(?: \([^)]*\))? ?(\S*)", line)
        if head is not None:
            found.append({"name": head[1], "level": head[3], "wanted": None, "active": None, "rebuilding": False})
            continue
        counts = re.search(r"\[(\d+)/(\d+)\] \[[U_]+\]", line)
        if counts is not None and found:
            found[-1].update(wanted=int(counts[1]), active=int(counts[2]))
        if found and ("recovery =" in line or "resync =" in line):
            found[-1]["rebuilding"] = True
    return found
