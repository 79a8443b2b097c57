# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Huge pages: (memory as it is, what is wanted) → pages per node, transparent huge pages, and what is done at boot. Pure. (T09)

Sources: Documentation/admin-guide/mm/hugetlbpage.rst, transhuge.rst.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence.topology import Topology
from ansible_collections.netops.fleet.plugins.module_utils._tuning import place_plan

#: Part of a node's memory that is left for everything else.
LEAVE = 0.1
THP = "/sys/kernel/mm/transparent_hugepage"
#: Transparent huge pages by profile: (enabled, defrag, why). ``own`` leaves them.
PROFILES = {
    "inference": (
        "madvise",
        "madvise",
        "programs that gain from huge pages ask for them; no other one stalls while memory is compacted",
    ),
    "training": (
        "always",
        "madvise",
        "large tensors in host memory gain; memory is compacted at once only for programs that ask",
    ),
    "gateway": ("madvise", "defer+madvise", "packet buffers gain nothing; stalls show as latency"),
    "storage": ("madvise", "defer+madvise", "databases and caches advise against huge pages that nobody asked for"),
}
ENABLED = ("always", "madvise", "never")
DEFRAG = ("always", "defer", "defer+madvise", "madvise", "never")
_UNITS = {"K": 1, "KB": 1, "KIB": 1, "M": 1024, "MB": 1024, "MIB": 1024, "G": 1 << 20, "GB": 1 << 20, "GIB": 1 << 20}


@dataclass(frozen=True)
class Pool:
    """Huge pages of one size on one node. folder: where they are set. node: None on a kernel without NUMA."""

    folder: str
    node: int | None
    size_kb: int
    pages: int
    free: int = 0


@dataclass(frozen=True)
class Want:
    """size_kb: None for the host's default size. near: as of services; "" for every node with memory and processors."""

    count: int
    size_kb: int | None = None
    near: str = ""


@dataclass
class Memory:
    """The host as it is. default_kb: size of a huge page that nobody names. thp: file → (chosen, choices), empty without THP.

    originals: folder → pages before the collection first touched it. short: folder → (wanted, got) that this boot's last try
    yielded. boot_arguments: words of the kernel's command line that reserve pages.
    """

    topology: Topology
    pools: list[Pool] = field(default_factory=list)
    default_kb: int | None = None
    thp: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    originals: dict[str, int] = field(default_factory=dict)
    short: dict[str, tuple[int, int]] = field(default_factory=dict)
    boot_arguments: tuple[str, ...] = ()


@dataclass
class Item:
    """action: none, set, short (this boot's last try yielded fewer; the boot unit tries again), skip, refuse."""

    what: str
    target: str
    present: str
    wanted: str
    why: str
    action: str = "none"
    reason: str = ""
    node: int | None = None
    size_kb: int | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "node": self.node,
            "size_kb": self.size_kb,
            "present": self.present,
            "wanted": self.wanted,
            "why": self.why,
            "action": self.action,
            "reason": self.reason,
        }


@dataclass
class Plan:
    """pages: folder → number; thp: file → value; both hold what is to be in force, changed or not."""

    items: list[Item] = field(default_factory=list)
    pages: dict[str, int] = field(default_factory=dict)
    thp: dict[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def shortages(self) -> list[Item]:
        return [item for item in self.items if item.action == "short"]


def size_kb(text: str) -> int:
    """``2M``, ``1G``, ``2048kB`` → kB. Raises ValueError."""
    match = re.fullmatch(r"(\d+)\s*([A-Za-z]+)", text.strip())
    unit = _UNITS.get(match.group(2).upper()) if match else None
    if match is None or unit is None or not int(match.group(1)):
        raise ValueError(f"size {text!r} is no size of a page; sizes look like 2M, 1G or 2048kB")
    return int(match.group(1)) * unit


def shown(kb: int) -> str:
    for name, unit in (("G", 1 << 20), ("M", 1024)):
        if kb % unit == 0:
            return f"{kb // unit}{name}"
    return f"{kb}kB"


def make(memory: Memory, wants: list[Want], enabled: str = "keep", defrag: str = "keep", profile: str = "own") -> Plan:
    plan = Plan()
    for want in wants:
        _pages(plan, memory, want)
    _room(plan, memory)
    _thp(plan, memory, enabled, defrag, profile)
    if memory.boot_arguments and wants:
        plan.notes.append(f"the kernel's command line reserves huge pages too: {' '.join(memory.boot_arguments)}")
    return plan


def _pages(plan: Plan, memory: Memory, want: Want) -> None:
    kb = want.size_kb or memory.default_kb
    if kb is None or not memory.pools:
        plan.errors.append("this kernel has no huge pages (no /sys/kernel/mm/hugepages)")
        return
    sizes = sorted({pool.size_kb for pool in memory.pools})
    if kb not in sizes:
        plan.errors.append(f"pages: size {shown(kb)} is not one of this host's: {', '.join(map(shown, sizes))}")
        return
    if want.near:
        try:
            home, why = place_plan.memory_node(memory.topology, want.near)
        except place_plan.NoPlace as error:
            plan.errors.append(f"pages: {error}")
            return
        homes = [home]
    else:
        # Not a GPU's own memory, nor CXL's: who wants pages there names the node.
        homes = [node.number for node in memory.topology.nodes if node.memory_bytes != 0 and node.cpus]
        why = ["every node that has memory and processors" if len(homes) > 1 else "the host's node"]
    pools = [pool for pool in memory.pools if pool.size_kb == kb and (pool.node is None or pool.node in homes)]
    for pool in pools:
        _pool(plan, memory, want, pool, "; ".join(why))


def _pool(plan: Plan, memory: Memory, want: Want, pool: Pool, why: str) -> None:
    floor = memory.originals.get(pool.folder, pool.pages)
    wanted = max(floor, want.count)
    if pool.folder in plan.pages:
        plan.errors.append(f"pages: size {shown(pool.size_kb)} of node {pool.node} is given twice")
        return
    plan.pages[pool.folder] = wanted
    item = Item("pages", pool.folder, str(pool.pages), str(wanted), why, node=pool.node, size_kb=pool.size_kb)
    plan.items.append(item)
    if floor > want.count:
        item.reason = f"{floor} were there before, for others: they stay"
    if pool.pages != wanted:
        item.action = "set"
        if memory.short.get(pool.folder) == (wanted, pool.pages):
            item.action = "short"
            item.reason = (
                f"got {pool.pages} of {wanted} pages of {shown(pool.size_kb)}: memory is fragmented or in use; "
                "at the next boot they are reserved early, or reserve them on the kernel's command line"
            )


def _room(plan: Plan, memory: Memory) -> None:
    """Pages that are reserved are nobody else's memory: too many, and the host has none to run."""
    for node in memory.topology.nodes:
        if node.memory_bytes is None:
            continue
        mine = [pool for pool in memory.pools if pool.node in (node.number, None)]
        wanted = sum(plan.pages.get(pool.folder, pool.pages) * pool.size_kb * 1024 for pool in mine)
        raised = any(plan.pages.get(pool.folder, pool.pages) > pool.pages for pool in mine)
        most = int(node.memory_bytes * (1 - LEAVE))
        if raised and wanted > most:
            plan.errors.append(
                f"pages: node {node.number} has {node.memory_bytes >> 20} MiB, the huge pages together would take "
                f"{wanted >> 20} MiB; allowed are {most >> 20} MiB, the rest is for everything else"
            )


def _thp(plan: Plan, memory: Memory, enabled: str, defrag: str, profile: str) -> None:
    advised = PROFILES.get(profile)
    for name, given, allowed, place in (("enabled", enabled, ENABLED, 0), ("defrag", defrag, DEFRAG, 1)):
        wanted = given if given != "keep" else advised[place] if advised else "keep"
        if wanted == "keep":
            continue
        why = "given" if given != "keep" else f"profile {profile}: {advised[2] if advised else ''}"
        path = f"{THP}/{name}"
        item = Item("thp", path, "", wanted, why)
        plan.items.append(item)
        if path not in memory.thp:
            item.action, item.reason = "skip", "this kernel has no transparent huge pages"
            if given != "keep":
                plan.errors.append(f"thp.{name}: {item.reason}")
            continue
        item.present, choices = memory.thp[path]
        if wanted not in choices:
            plan.errors.append(
                f"thp.{name}: {wanted} is not one of this kernel's: {', '.join(choices)} (allowed {', '.join(allowed)})"
            )
            continue
        plan.thp[path] = wanted
        if item.present != wanted:
            item.action = "set"
