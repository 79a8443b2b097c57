# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Who holds what: one walk over /proc/PID/fd that finds the owners of sockets and of BPF programs and links.

Source: proc(5), Documentation/filesystems/proc.rst (fdinfo). Owners are named by process name, program file and systemd unit;
command lines and environments are never read, they may hold secrets.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Gap
from ansible_collections.netops.fleet.plugins.module_utils._kernel import procfs

_UNIT = re.compile(r".+\.(?:service|scope|socket|mount|swap)\Z")
_CONTAINER = re.compile(r"(?:.*[-:])?[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class Owner:
    """A process that holds something open.

    process: its name (comm). exe: file name of its program, None when not readable. unit: systemd unit, or the id of a
    container whose engine uses no units. cgroup: its path in the cgroup tree. uid: real user.
    """

    pid: int
    process: str
    exe: str | None
    unit: str | None
    uid: int | None
    cgroup: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return {"pid": self.pid, "process": self.process, "exe": self.exe, "unit": self.unit, "uid": self.uid}


@dataclass
class FdCensus:
    """sockets: inode → its first owner by pid. programs, links: BPF id → every process that holds it. seconds: what it took."""

    sockets: dict[int, Owner] = field(default_factory=dict)
    programs: dict[int, list[Owner]] = field(default_factory=dict)
    links: dict[int, list[Owner]] = field(default_factory=dict)
    gaps: list[Gap] = field(default_factory=list)
    processes: int = 0
    seconds: float = 0.0


def unit_of(cgroups: str) -> tuple[str | None, str | None]:
    """(unit, cgroup path) from /proc/PID/cgroup of a host with cgroup v1, v2 or both.

    The unit is the innermost service or scope; without one a container id; without that the innermost slice.
    """
    path = named = None
    for line in cgroups.splitlines():
        _hierarchy, _colon, rest = line.partition(":")
        controllers, colon, where = rest.partition(":")
        if not colon:
            continue
        if controllers == "name=systemd":
            named = where
        elif controllers == "":
            path = where
        elif path is None and named is None and controllers in ("pids", "memory", "cpu,cpuacct", "cpuacct,cpu"):
            named = where
    # With both hierarchies the unified one is empty for processes that systemd did not start itself.
    best = path if path not in (None, "/") else named if named is not None else path
    if best is None:
        return None, None
    parts = best.strip("/").split("/")
    for form in (_UNIT, _CONTAINER):
        for part in reversed(parts):
            if form.match(part):
                return part, best
    slices = [part for part in parts if part.endswith(".slice")]
    return (slices[-1] if slices else None), best


def owner(pid: int) -> Owner:
    """Facts about one process; raises OSError when it is gone."""
    folder = f"/proc/{pid}"
    name = procfs.text(f"{folder}/comm", 64).strip()
    try:
        exe: str | None = os.path.basename(os.readlink(f"{folder}/exe"))
        if exe is not None and exe.endswith(" (deleted)"):
            exe = exe[: -len(" (deleted)")]
    except OSError:
        exe = None
    unit, cgroup = unit_of(procfs.text_or_none(f"{folder}/cgroup", 65536) or "")
    uid = None
    for line in (procfs.text_or_none(f"{folder}/status", 16384) or "").splitlines():
        if line.startswith("Uid:"):
            words = line.split()
            uid = procfs.decimal(words[1]) if len(words) > 1 else None
            break
    return Owner(pid, name, exe or None, unit, uid, cgroup)


def _bpf_id(path: str) -> tuple[str, int] | None:
    """("prog", id) or ("link", id) from a file of /proc/PID/fdinfo."""
    program = None
    for line in procfs.text(path, 4096).splitlines():
        name, _colon, value = line.partition(":")
        if name == "link_id":
            number = procfs.decimal(value)
            return None if number is None else ("link", number)
        if name == "prog_id":
            program = procfs.decimal(value)
    return None if program is None else ("prog", program)


def census(socket_inodes: Collection[int] | None, bpf: bool, seconds: float = 10.0, proc: str = "/proc") -> FdCensus:
    """Walk all processes once.

    socket_inodes: sockets whose owners are wanted; an empty collection for none, None for every socket. bpf: find holders of
    BPF programs and links too. seconds: stop after that long and say so in a gap. Processes that end during the walk are left
    out. Never raises; what could not be read is in ``gaps``.
    """
    result = FdCensus()
    started = time.monotonic()
    wanted = None if socket_inodes is None else frozenset(socket_inodes)
    sockets = wanted is None or bool(wanted)
    try:
        pids = sorted(int(name) for name in os.listdir(proc) if name.isdigit())
    except OSError as error:
        result.gaps.append(Gap("owners", procfs.reason(error, proc)))
        return result
    refused = 0
    for position, pid in enumerate(pids):
        if time.monotonic() - started > seconds:
            result.gaps.append(Gap("owners", f"stopped after {seconds:g} s at process {position} of {len(pids)}"))
            break
        try:
            refused += not _process(result, f"{proc}/{pid}", pid, wanted, sockets, bpf)
            result.processes += 1
        except OSError:
            continue  # it ended meanwhile
    if refused:
        why = "not root" if os.geteuid() != 0 else "not permitted"
        result.gaps.append(Gap("owners", f"the open files of {refused} of {len(pids)} processes cannot be read: {why}"))
    result.seconds = time.monotonic() - started
    return result


def _process(result: FdCensus, folder: str, pid: int, wanted: frozenset[int] | None, sockets: bool, bpf: bool) -> bool:
    """Add what one process holds; False when its files may not be read. Raises OSError when it is gone."""
    held_sockets: list[int] = []
    held: set[tuple[str, int]] = set()
    files = f"{folder}/fd"
    try:
        names = os.listdir(files)
    except PermissionError:
        return False
    readlink = os.readlink
    for name in names:
        try:
            target = readlink(f"{files}/{name}")
        except FileNotFoundError:
            continue  # closed meanwhile
        except PermissionError:
            return False
        if target.startswith("socket:["):
            if sockets:
                inode = int(target[8:-1])
                if (wanted is None or inode in wanted) and inode not in result.sockets:
                    held_sockets.append(inode)
        # "anon_inode:bpf-prog", "anon_inode:bpf_link", and names of a link's own kind such as "anon_inode:bpf-link"
        elif bpf and target.startswith("anon_inode:") and "bpf" in target and "map" not in target:
            try:
                found = _bpf_id(f"{folder}/fdinfo/{name}")
            except OSError:
                continue
            if found is not None:
                held.add(found)
    if held_sockets or held:
        who = owner(pid)
        for inode in held_sockets:
            result.sockets.setdefault(inode, who)
        for kind, number in held:
            (result.links if kind == "link" else result.programs).setdefault(number, []).append(who)
    return True
