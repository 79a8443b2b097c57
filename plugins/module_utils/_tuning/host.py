# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Reads what the plan needs from the host. Reading changes nothing: no parameter is written, no module is loaded."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._kernel import modules, netlink, parameters, procfs, sockdiag, sysctl
from ansible_collections.netops.fleet.plugins.module_utils._tuning import limits
from ansible_collections.netops.fleet.plugins.module_utils._tuning.sysctl_plan import Present

_SO_ZEROCOPY = 60


def present(names: Iterable[str]) -> Present:
    """Present values, and what cannot be written here."""
    found = Present({})
    for name in names:
        try:
            found.values[name] = sysctl.read(name)
        except OSError as error:
            found.values[name] = None
            found.unreadable[name] = (error.strerror or str(error)).lower()
            continue
        if found.values[name] is not None:
            why = sysctl.writable(name)
            if why is not None:
                found.unwritable[name] = why
    wanted = {known.module for known in map(parameters.key, found.values) if known is not None and known.module is not None}
    found.modules = frozenset(name for name in wanted if _loadable(name))
    return found


def choices(names: Iterable[str]) -> dict[str, list[str]]:
    """Words that parameters take, for those of ``names`` that take words. Finding them out takes longer than all the rest."""
    found = {}
    for name in names:
        words = congestion() if name == "net.ipv4.tcp_congestion_control" else None
        if name == "net.core.default_qdisc":
            words = qdiscs()
        if words is not None:
            found[name] = words
    return found


def _loadable(module: str) -> bool:
    """It is in /proc/modules: not built in, so it comes after systemd-sysctl at boot."""
    content = procfs.text_or_none("/proc/modules") or ""
    return any(line.startswith(f"{module} ") for line in content.splitlines())


def congestion() -> list[str]:
    """Algorithms that are there, and those that the kernel would load when they are chosen."""
    try:
        found = (sysctl.read("net.ipv4.tcp_available_congestion_control") or "").split()
    except OSError:
        found = []
    on_disk = _module_files(re.compile(r"/tcp_([a-z0-9_]+)\.ko"))
    return found + sorted(on_disk - set(found) - {"diag"})


def qdiscs() -> list[str] | None:
    """Queueing disciplines that default_qdisc would take; None when this kernel does not say."""
    names = _module_files(re.compile(r"/sch_([a-z0-9_]+)\.ko"))
    builtin = procfs.text_or_none(f"/lib/modules/{os.uname().release}/modules.builtin")
    if not names and builtin is None:
        symbols = procfs.text_or_none("/proc/kallsyms", 64 << 20)
        if not symbols:
            return None
        names = set(re.findall(r" ([a-z_]+)_qdisc_ops\b", symbols))
    return sorted(names | {"pfifo_fast", "pfifo", "bfifo"})


def _module_files(pattern: re.Pattern[str]) -> set[str]:
    folder = f"/lib/modules/{os.uname().release}"
    text = (procfs.text_or_none(f"{folder}/modules.dep", 16 << 20) or "") + (
        procfs.text_or_none(f"{folder}/modules.builtin") or ""
    )
    return {match.replace("-", "_") for match in pattern.findall(text)}


def kernel() -> tuple[int, int]:
    numbers = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return (int(numbers.group(1)), int(numbers.group(2))) if numbers else (0, 0)


def memory() -> tuple[int, float]:
    """(bytes of RAM, share that is available, 0 to 1)."""
    table = {}
    for line in (procfs.text_or_none("/proc/meminfo") or "").splitlines():
        name, _colon, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdigit():
            table[name] = int(words[0]) * 1024
    total = table.get("MemTotal", 0)
    return total, (table.get("MemAvailable", 0) / total if total else 0.0)


def link_mbit() -> float | None:
    """The fastest physical link that is up; None when no driver tells."""
    best = None
    try:
        names = os.listdir("/sys/class/net")
    except OSError:
        return None
    for name in names:
        folder = f"/sys/class/net/{name}"
        if not os.path.exists(f"{folder}/device"):
            continue
        speed = procfs.integer(f"{folder}/speed")
        if speed is not None and speed > 0:
            best = max(best or 0.0, float(speed))
    return best


def conntrack() -> bool:
    """Is connection tracking there already? Its parameters come with it."""
    return modules.present("nf_conntrack") is not False and os.path.exists("/proc/sys/net/netfilter/nf_conntrack_max")


def tcp_pressure() -> int | None:
    """tcp_mem[1], pages; None in a namespace that does not show it."""
    try:
        words = (sysctl.read("net.ipv4.tcp_mem") or "").split()
    except OSError:
        return None
    return int(words[1]) if len(words) == 3 and words[1].isdigit() else None


def zerocopy() -> bool | None:
    """Does the kernel offer SO_ZEROCOPY? Asked of a socket that is never bound; None: no socket could be made."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.setsockopt(socket.SOL_SOCKET, _SO_ZEROCOPY, 1)
            except OSError:
                return False
            return True
    except OSError:
        return None


def listeners() -> tuple[list[sockdiag.Entry], str | None]:
    """(listening TCP sockets with their backlog, why they could not be read)."""
    if not sockdiag.usable(sockdiag.TCP):
        return [], "tcp_diag is not loaded, and asking would load it"
    found: list[sockdiag.Entry] = []
    try:
        for family in sockdiag.families():
            with netlink.Socket(netlink.SOCK_DIAG) as sock:
                found.extend(sockdiag.entries(sock, family, sockdiag.TCP, 1 << sockdiag.LISTEN))
    except OSError as error:
        return found, procfs.reason(error)
    return found, None


def stale(backlog: int | None, was: int | None, nofile: int | None, services: Iterable[str]) -> dict[str, Any]:
    """Running programs that keep old limits: ``{backlogs, limits, gap}``. was: somaxconn before the collection touched it."""
    entries, gap = listeners()
    small = [one for one in entries if backlog is not None and one.backlog is not None and one.backlog < backlog]
    wanted = {one.inode for one in (entries if nofile is not None else small)}
    owners: dict[int, Any] = {}
    if wanted:
        from ansible_collections.netops.fleet.plugins.module_utils._evidence import fdcensus

        owners = dict(fdcensus.census(wanted, bpf=False).sockets)
    shown = []
    for one in small:
        owner = owners.get(one.inode)
        shown.append(
            {
                "proto": "tcp",
                "backlog": one.backlog,
                "address": one.address,
                "port": one.port,
                "process": owner.process if owner else None,
                "pid": owner.pid if owner else None,
                "unit": owner.unit if owner else None,
            }
        )
    running = {owner.pid: owner for owner in owners.values()}
    processes = [
        {"pid": pid, "process": owner.process, "unit": owner.unit, "nofile": _nofile(pid)}
        for pid, owner in sorted(running.items())
    ]
    names = {limits.unit_name(name) for name in services}
    if names:
        # Without a list every listening program is looked at; with one, only those services.
        processes = [one for one in processes if one["unit"] in names]
    return {
        "backlogs": limits.old_backlogs(shown, was, backlog),
        "limits": limits.old_limits(processes, nofile),
        "gap": gap,
    }


def _nofile(pid: int) -> int | None:
    content = procfs.text_or_none(f"/proc/{pid}/limits")
    return None if content is None else limits.soft_nofile(content)
