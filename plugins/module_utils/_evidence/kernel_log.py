# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""What the kernel logged in the last hour about memory, tables, links, disks and GPUs: kinds, counts and a sample of each."""

from __future__ import annotations

import os
import re
import time
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Section
from ansible_collections.netops.fleet.plugins.module_utils._kernel import procfs

PATH = "/dev/kmsg"
#: Seconds that a line counts.
RECENT = 3600.0
_MOST = 8 << 20

#: kind → what the kernel says.
KINDS = {
    "oom": rb"Out of memory: Killed process|Memory cgroup out of memory",
    "conntrack": rb"nf_conntrack: table full",
    "neighbours": rb"neighbou?r(?:our)? table overflow",
    "syn_flood": rb"Possible SYN flooding on port",
    "gpu": rb"NVRM: Xid|NVRM: GPU .*fallen off the bus|amdgpu.*GPU reset",
    "nic": rb"NETDEV WATCHDOG|mlx5_core.*(?:health compromised|TX timeout|firmware|health)|tx hang|Detected Tx Unit Hang",
    "link_down": rb"(?:NIC )?[Ll]ink is [Dd]own|\bLink [Dd]own\b|link status definitely down",
    "disk": rb"I/O error, dev|critical medium error|nvme.*(?:timeout|controller is down)",
    "hang": rb"blocked for more than \d+ seconds|soft lockup|rcu_sched self-detected stall",
    "mount": rb"nfs: server .* not responding|ceph: .*(?:hung|session lost)",
    "duplicate": rb"IPv6: .*(?:duplicate address|DAD)|detected a duplicate",
}
_KINDS = {kind: re.compile(text) for kind, text in KINDS.items()}
_ANY = re.compile(b"|".join(KINDS.values()))


def read() -> Section:
    """Data: ``[{kind, count, ago_s, sample}]``, ago_s and sample of the last line; only of the last hour.

    The log is the machine's: a container is not told apart from its neighbours in it.
    """
    section = Section([])
    try:
        descriptor = os.open(PATH, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        section.gap("kernel_log", procfs.reason(error, PATH))
        return section
    try:
        content = _records(descriptor)
    finally:
        os.close(descriptor)
    section.data = kinds(content, time.clock_gettime(time.CLOCK_BOOTTIME))
    return section


def _records(descriptor: int) -> bytes:
    """Every record that is kept; each read gives one."""
    parts = []
    size = 0
    while size < _MOST:
        try:
            data = os.read(descriptor, 16384)
        except BrokenPipeError:
            continue  # overwritten while it was read: the next read goes on after it
        except OSError:
            break  # EAGAIN: that was the last
        if not data:
            break
        parts.append(data)
        size += len(data)
    return b"".join(parts)


def kinds(content: bytes, now: float) -> list[dict[str, Any]]:
    """Lines ``priority,sequence,microseconds,flags;text``; now: seconds since boot."""
    found: dict[str, dict[str, Any]] = {}
    for line in content.split(b"\n"):
        if not _ANY.search(line):
            continue
        head, semicolon, text = line.partition(b";")
        words = head.split(b",")
        if not semicolon or len(words) < 3 or not words[2].isdigit():
            continue
        ago = now - int(words[2]) / 1e6
        if ago > RECENT:
            continue
        for kind, pattern in _KINDS.items():
            if pattern.search(text):
                one = found.setdefault(kind, {"kind": kind, "count": 0})
                one["count"] += 1
                one.update(ago_s=round(max(0.0, ago), 1), sample=text.decode("utf-8", "replace")[:200])
    return list(found.values())
