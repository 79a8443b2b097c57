# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Where services run and have their memory, and what was declared about it: processors, NUMA nodes, GPUs, huge pages.

Memory comes from the control group's statistics: /proc/PID/numa_maps walks every page of a process and holds its map's lock.
Sources: cgroup-v2.rst (memory.numa_stat), cgroup-v1/memory.rst, Documentation/admin-guide/mm/hugetlbpage.rst.
"""

from __future__ import annotations

import glob
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence import topology
from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Section
from ansible_collections.netops.fleet.plugins.module_utils._kernel import cpulist, procfs

#: Names of this collection's files, see _tuning/place_plan.py and _tuning/pages.py.
DROP_IN = "zz-netops-fleet-placement.conf"
UNIT = "netops-fleet-pages.service"
_UNIT = re.compile(r".+\.(?:service|scope)\Z|(?:.*[-:])?[0-9a-f]{64}(?:\.scope)?\Z")
_LINE = re.compile(r"^(CPUAffinity|NUMAMask)=(.+)$", re.MULTILINE)
_PAGES = re.compile(r"--pages (\S+)=(\d+)")
_SET = re.compile(r"--set (\S+)=(\S+)")
_PROFILE = re.compile(r"^# profile (\w+)$", re.MULTILINE)
#: Groups looked at, processes of one whose open files are, and seconds for all.
_MAX_GROUPS, _MAX_PROCESSES, _SECONDS = 4000, 64, 3.0
#: Memory on other nodes from which on it matters: this much, and half of all.
_FAR_KB, _FAR_SHARE = 256 << 10, 0.5


def read(sys: str = "/sys", proc: str = "/proc", etc: str = "/etc") -> Section:
    """Data: ``{nodes, nics, thp, pages, declared, services}``.

    nodes: ``[{node, cpus, memory_kb}]``. nics: ``[{name, node, up}]`` with a device behind them. thp: ``{enabled, defrag}``, null
    without. pages: ``[{folder, node, size_kb, pages}]`` that are reserved or declared. declared: ``{profile, pages: {folder:
    number}, set: {file: value}}`` of the boot unit, null without. services: those that keep to some processors, or were declared
    to: ``[{unit, pid, process, cpus, memory_kb: {node: kB} | null, gpus: [{address, node}], declared: {cpus, nodes, file} |
    null}]``; cpus and nodes are lists as the kernel prints them.
    """
    section = Section({})
    shape = topology.read(sys, proc)
    declared = _boot_unit(f"{etc}/systemd/system/{UNIT}")
    drop_ins = _drop_ins(f"{etc}/systemd/system")
    section.data = {
        "nodes": [
            {
                "node": node.number,
                "cpus": cpulist.show(node.cpus),
                "memory_kb": None if node.memory_bytes is None else node.memory_bytes >> 10,
            }
            for node in shape.nodes
        ],
        "nics": [
            {"name": nic.name, "node": nic.node, "up": procfs.integer(f"{sys}/class/net/{nic.name}/carrier") == 1}
            for nic in shape.nics()
        ],
        "thp": _thp(sys),
        "pages": _pages(sys, declared),
        "declared": declared,
        "services": [],
    }
    # On a host with one node nothing is far from anything.
    if len(shape.nodes) > 1 or drop_ins:
        section.data["services"] = _services(section, shape, drop_ins, sys, proc)
    return section


def _thp(sys: str) -> dict[str, str] | None:
    found = {}
    for name in ("enabled", "defrag"):
        match = re.search(r"\[([^\]]+)\]", procfs.text_or_none(f"{sys}/kernel/mm/transparent_hugepage/{name}", 4096) or "")
        if match:
            found[name] = match.group(1)
    return found or None


def _boot_unit(path: str) -> dict[str, Any] | None:
    text = procfs.text_or_none(path, 65536)
    if text is None:
        return None
    profile = _PROFILE.search(text)
    return {
        "profile": profile.group(1) if profile else "own",
        "pages": {folder: int(number) for folder, number in _PAGES.findall(text)},
        "set": dict(_SET.findall(text)),
    }


def _pages(sys: str, declared: dict[str, Any] | None) -> list[dict[str, Any]]:
    folders = sorted(glob.glob(f"{sys}/devices/system/node/node*/hugepages/hugepages-*kB"))
    found = []
    for folder in folders or sorted(glob.glob(f"{sys}/kernel/mm/hugepages/hugepages-*kB")):
        match = re.search(r"(?:/node(\d+)/hugepages)?/hugepages-(\d+)kB\Z", folder)
        pages = procfs.integer(f"{folder}/nr_hugepages")
        if match and pages is not None and (pages or (declared and folder in declared["pages"])):
            node = int(match.group(1)) if match.group(1) else None
            found.append({"folder": folder, "node": node, "size_kb": int(match.group(2)), "pages": pages})
    return found


def _drop_ins(folder: str) -> dict[str, dict[str, str]]:
    """Unit → what this collection declared for it."""
    found = {}
    for path in glob.glob(f"{folder}/*.service.d/{DROP_IN}"):
        lines = dict(_LINE.findall(procfs.text_or_none(path, 65536) or ""))
        unit = os.path.basename(os.path.dirname(path))[: -len(".d")]
        found[unit] = {"cpus": lines.get("CPUAffinity", ""), "nodes": lines.get("NUMAMask", ""), "file": path}
    return found


def _services(
    section: Section, shape: topology.Topology, drop_ins: dict[str, dict[str, str]], sys: str, proc: str
) -> list[dict[str, Any]]:
    base, memory = _hierarchies(sys)
    if base is None:
        section.gap("locality.services", "no control groups are mounted: services cannot be told from each other")
        return []
    gpus = {gpu.address: gpu.node for gpu in shape.gpus() if gpu.address}
    until = time.monotonic() + _SECONDS
    found = []
    for position, folder in enumerate(_groups(base)):
        if position >= _MAX_GROUPS or time.monotonic() > until:
            section.gap("locality.services", f"stopped after {position} control groups")
            break
        unit = os.path.basename(folder)
        pids = [int(word) for word in (procfs.text_or_none(f"{folder}/cgroup.procs") or "").split() if word.isdigit()]
        pids = [pid for pid in pids if pid > 0]  # 0: a process of another pid namespace
        if not _UNIT.match(unit) or not pids:
            continue
        cpus = _allowed(f"{proc}/{min(pids)}/status")
        declared = drop_ins.get(unit) or drop_ins.get(re.sub(r"@.*(?=\.service\Z)", "@", unit))
        if cpus is None or (set(cpus) >= set(shape.online) and declared is None):
            continue
        found.append(
            {
                "unit": unit,
                "pid": min(pids),
                "process": (procfs.text_or_none(f"{proc}/{min(pids)}/comm", 64) or "").strip(),
                "cpus": cpulist.show(cpus),
                "memory_kb": numa_stat(procfs.text_or_none(f"{memory}{folder[len(base) :]}/memory.numa_stat") or ""),
                "gpus": _gpus(pids, gpus, sys, proc),
                "declared": declared,
            }
        )
    return sorted(found, key=lambda one: str(one["unit"]))


def _hierarchies(sys: str) -> tuple[str | None, str]:
    """(the tree with units, the tree with memory statistics) of cgroup 2, 1, or both."""
    top = f"{sys}/fs/cgroup"
    if os.path.exists(f"{top}/cgroup.controllers"):
        return top, top
    for name in ("systemd", "unified"):
        if os.path.exists(f"{top}/{name}/cgroup.procs"):
            return f"{top}/{name}", f"{top}/memory"
    return None, ""


def memory_of(group: str, sys: str = "/sys") -> dict[str, int] | None:
    """Node → kB of a control group, named as systemd names it; None where it has no statistics."""
    _units, memory = _hierarchies(sys)
    return numa_stat(procfs.text_or_none(f"{memory}{group}/memory.numa_stat") or "") if group else None


def own_memory(group: str, sys: str = "/sys") -> int | None:
    """Bytes of a control group that are its programs' own (not files, which go when memory is short); None when not told."""
    _units, memory = _hierarchies(sys)
    text = procfs.text_or_none(f"{memory}{group}/memory.stat") if group else None
    counts = procfs.flat_table(text or "")
    own = [counts[name] for name in ("anon", "shmem") if name in counts] or [
        counts[name] for name in ("total_rss", "total_shmem") if name in counts
    ]
    return sum(own) if own else None


def _groups(base: str) -> Iterator[str]:
    waiting = [base]
    while waiting:
        folder = waiting.pop()
        try:
            waiting += sorted((entry.path for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)), reverse=True)
        except OSError:
            continue  # it is gone
        yield folder


def _allowed(path: str) -> tuple[int, ...] | None:
    match = re.search(r"^Cpus_allowed_list:\s*(\S+)$", procfs.text_or_none(path, 65536) or "", re.MULTILINE)
    return cpulist.parse_or_none(match.group(1)) if match else None


def numa_stat(text: str) -> dict[str, int] | None:
    """memory.numa_stat → node → kB of programs' own memory and files; None where the group has none.

    cgroup 2 counts bytes by kind (``anon N0=4096 N1=0``), cgroup 1 pages in all (``total=1 N0=1 N1=0``).
    """
    found: dict[str, int] = {}
    page = os.sysconf("SC_PAGE_SIZE")
    for line in text.splitlines():
        name, *words = line.split()
        unit = 1 if name in ("anon", "file") else page if name.startswith("total=") else 0
        for word in words if unit else ():
            match = re.match(r"N(\d+)=(\d+)\Z", word)
            if match:
                found[match.group(1)] = found.get(match.group(1), 0) + int(match.group(2)) * unit // 1024
    return found or None


def _gpus(pids: list[int], known: dict[str, int | None], sys: str, proc: str) -> list[dict[str, Any]]:
    """GPUs that processes hold open: NVIDIA's own devices, and render nodes of any driver."""
    if not known:
        return []
    held: set[str] = set()
    for pid in pids[:_MAX_PROCESSES]:
        try:
            names = os.listdir(f"{proc}/{pid}/fd")
        except OSError:
            continue
        for name in names:
            try:
                target = os.readlink(f"{proc}/{pid}/fd/{name}")
            except OSError:
                continue
            if target.startswith(("/dev/nvidia", "/dev/dri/")):
                held.add(target)
    addresses = {_address(path, sys, proc) for path in held}
    return [{"address": address, "node": known[address]} for address in sorted(one for one in addresses if one in known)]


def _address(device: str, sys: str, proc: str) -> str:
    """The PCI address behind a device file; "" for those of no one GPU (/dev/nvidiactl)."""
    match = re.match(r"/dev/nvidia(\d+)\Z", device)
    if match:
        for path in glob.glob(f"{proc}/driver/nvidia/gpus/*/information"):
            if re.search(rf"^Device Minor:\s*{match.group(1)}\s*$", procfs.text_or_none(path, 65536) or "", re.MULTILINE):
                return os.path.basename(os.path.dirname(path)).lower()
        return ""
    match = re.match(r"/dev/dri/(renderD\d+|card\d+)\Z", device)
    return os.path.basename(os.path.realpath(f"{sys}/class/drm/{match.group(1)}/device")) if match else ""


# --- what is far from what; pure


@dataclass
class Far:
    """A service whose processors are all of ``node``, and what it has elsewhere.

    kinds: memory, NIC, GPU. lines: a fact each. belongs: the node of its GPU, else of the links, else its own.
    """

    service: dict[str, Any]
    node: int
    belongs: int
    kinds: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        what = " and ".join(self.kinds) if len(self.kinds) < 3 else "memory, NIC and GPU"
        are = "is" if len(self.kinds) == 1 else "are"
        return f"{self.service['unit']} runs on node {self.node} only, and its {what} {are} on another node"


def far(data: Mapping[str, Any], listeners: Iterable[Mapping[str, Any]]) -> list[Far]:
    """data: of this section. listeners: of the section sockets. A service that may run on several nodes is on no wrong one."""
    homes = {cpu: int(node["node"]) for node in data["nodes"] for cpu in cpulist.parse(node["cpus"])}
    nics = [nic for nic in data["nics"] if nic["up"]]
    serving = [one for one in listeners if not str(one["address"]).startswith("127.") and one["address"] != "::1"]
    found = []
    for one in data["services"] if len(data["nodes"]) > 1 else ():
        nodes = {homes.get(cpu) for cpu in cpulist.parse(one["cpus"])}
        node = nodes.pop() if len(nodes) == 1 else None
        if node is None:
            continue
        here = Far(one, node, node)
        _memory_far(here)
        _links_far(here, nics, sorted({int(line["port"]) for line in serving if line.get("unit") == one["unit"]}))
        _gpus_far(here)
        if here.kinds:
            found.append(here)
    return found


def _memory_far(here: Far) -> None:
    memory = {str(name): int(size) for name, size in (here.service.get("memory_kb") or {}).items()}
    away = sum(size for name, size in memory.items() if name != str(here.node))
    if away >= max(_FAR_KB, sum(memory.values()) * _FAR_SHARE):
        here.kinds.append("memory")
        here.lines.append("its memory: " + ", ".join(f"node {name} {size >> 10} MiB" for name, size in sorted(memory.items())))


def _gpus_far(here: Far) -> None:
    gpus = [gpu for gpu in here.service.get("gpus") or [] if gpu["node"] is not None]
    if gpus and all(gpu["node"] != here.node for gpu in gpus):
        here.kinds.append("GPU")
        here.lines.append("its GPUs: " + ", ".join(f"{gpu['address']} on node {gpu['node']}" for gpu in gpus))
        here.belongs = int(gpus[0]["node"])


def _links_far(here: Far, nics: list[Mapping[str, Any]], ports: list[int]) -> None:
    if ports and nics and all(nic["node"] not in (None, here.node) for nic in nics):
        named = ", ".join(f"{nic['name']} on node {nic['node']}" for nic in nics)
        here.kinds.append("NIC")
        here.lines.append(f"it serves port {', '.join(map(str, ports[:5]))}; links that are up: {named}")
        here.belongs = int(nics[0]["node"])
