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

#: kind → what the kernel says; and mount, see _SILENT.
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
    "duplicate": rb"IPv6: .*(?:duplicate address|DAD)|detected a duplicate",
}
#: The server of a line of the kind mount, and of the line that says it answers again. (net/sunrpc/clnt.c, fs/ceph, net/ceph)
_SERVER = rb"(nfs): server (\S+) %s|(ceph): .*?\b(mon|mds\d+)\w* .*(?:%s)"
_SILENT = re.compile(_SERVER % (rb"not responding", rb"hung|session lost"))
_ANSWERS = re.compile(_SERVER % (rb"OK", rb"came back|session established|caps renewed|reconnect success"))
_KINDS = {kind: re.compile(text) for kind, text in KINDS.items()}
_ANY = re.compile(b"|".join((*KINDS.values(), _SILENT.pattern, _ANSWERS.pattern)))
#: Table of neighbours as its lines name it -> where its limit stands.
_TABLES = {"arp_cache": "ipv4", "ndisc_cache": "ipv6"}


def read() -> Section:
    """Data: ``[{kind, count, ago_s, sample}]``, ago_s and sample of the last line; only of the last hour.

    mount: one for each file system (nfs, ceph), with ``system``, and ``back_s``, null or how long ago the last of its servers
    answered again; servers that do not answer yet hide those that do. neighbours: with ``table``, ``{entries, limit}`` of now,
    null where it is not known.

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
    for one in section.data:
        if one["kind"] == "neighbours":
            one["table"] = table(one["sample"])
    return section


def table(sample: str) -> dict[str, int] | None:
    """How full the table of neighbours is that a line names; the machine's, whatever namespace its entries are of."""
    name = next((one for one in _TABLES if one in sample), "arp_cache")
    entries = procfs.per_cpu_hex(procfs.text_or_none(f"/proc/net/stat/{name}") or "").get("entries")
    limit = procfs.integer(f"/proc/sys/net/{_TABLES[name]}/neigh/default/gc_thresh3")
    return {"entries": entries, "limit": limit} if entries is not None and limit else None


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
    servers: dict[tuple[str, str], dict[str, Any]] = {}
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
                _count(found.setdefault(kind, {"kind": kind, "count": 0}), ago, text)
        _server(servers, ago, text)
    return [*found.values(), *_mounts(servers)]


def _count(one: dict[str, Any], ago: float, text: bytes) -> None:
    one["count"] += 1
    one.update(ago_s=round(max(0.0, ago), 1), sample=text.decode("utf-8", "replace")[:200])


def _server(servers: dict[tuple[str, str], dict[str, Any]], ago: float, text: bytes) -> None:
    """Keep the state of the server that a line is about: each new silence takes back that it answered."""
    silent = _SILENT.search(text)
    which = silent or _ANSWERS.search(text)
    if not which:
        return
    system, name = (one.decode("utf-8", "replace") for one in which.groups() if one is not None)
    if silent:
        one = servers.setdefault((system, name), {"kind": "mount", "count": 0, "system": system})
        _count(one, ago, text)
        one["back_s"] = None
    elif (system, name) in servers:
        servers[system, name]["back_s"] = round(max(0.0, ago), 1)


def _mounts(servers: dict[tuple[str, str], dict[str, Any]]) -> list[dict[str, Any]]:
    """One for each file system, of its servers that are silent yet; else of those that answer again."""
    found = []
    for system in sorted({system for system, _name in servers}):
        all_of_it = [one for (kind, _name), one in servers.items() if kind == system]
        told = [one for one in all_of_it if one["back_s"] is None] or all_of_it
        last = min(told, key=lambda one: one["ago_s"])
        back = None if last["back_s"] is None else min(one["back_s"] for one in told)
        found.append({**last, "count": sum(one["count"] for one in told), "back_s": back})
    return found
