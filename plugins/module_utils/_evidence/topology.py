# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""The machine's shape: packages, cores, hardware threads, NUMA nodes, processors set aside, and where NICs and GPUs are attached.

``read`` takes the roots of /sys and /proc, so that a recorded tree of another machine reads like the machine itself.
Sources: Documentation/admin-guide/cputopology.rst, Documentation/ABI/stable/sysfs-devices-node, cgroup-v2.rst, cpuset(7).
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Gap
from ansible_collections.netops.fleet.plugins.module_utils._kernel import cpulist, procfs

#: PCI classes of accelerators: 3D controller, processing accelerator. A VGA controller counts by its vendor (a BMC has one too).
_GPU_CLASSES = (0x0302, 0x1200)
_VGA, _DISPLAY_OTHER = 0x0300, 0x0380
_GPU_VENDORS = (0x10DE, 0x1002, 0x8086)
_PCI_ADDRESS = re.compile(r"\A[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]\Z")
#: Folders of control groups looked at for cpusets; more means that nobody set processors aside by hand.
_MAX_GROUPS = 2000


@dataclass(frozen=True)
class Cpu:
    """An online processor (hardware thread). core: its lowest sibling's number, unique in the machine. node: None: unknown."""

    number: int
    package: int
    core: int
    node: int | None


@dataclass(frozen=True)
class Node:
    """A NUMA node. cpus: online ones; a node of memory alone has none. distances: to node 0, 1, … (10 = itself)."""

    number: int
    cpus: tuple[int, ...]
    memory_bytes: int | None = None
    distances: tuple[int, ...] = ()


@dataclass(frozen=True)
class Device:
    """A NIC or a GPU.

    kind: ``nic`` or ``gpu``. name: of the interface, or the GPU's PCI address. address: on the PCI bus, None when it is on none.
    node: None when the firmware does not say (most virtual machines). cpus: the near ones, all when that is not known.
    bridges: PCI addresses from the root port down to it, without its own. root: the PCI host bridge, such as ``pci0000:3a``.
    """

    kind: str
    name: str
    address: str | None = None
    node: int | None = None
    cpus: tuple[int, ...] = ()
    driver: str | None = None
    root: str | None = None
    bridges: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cpuset:
    """Processors that a control group has for itself. kind: ``root``, ``isolated`` (cgroup 2) or ``exclusive`` (cgroup 1)."""

    name: str
    cpus: tuple[int, ...]
    kind: str


@dataclass(frozen=True)
class Topology:
    """Everything is of online processors. isolated: off the scheduler's balancing (isolcpus=, isolated cpusets).

    nohz_full: without a regular tick. cpusets: those with processors of their own. gaps: what could not be told, and why.
    """

    cpus: tuple[Cpu, ...] = ()
    nodes: tuple[Node, ...] = ()
    isolated: tuple[int, ...] = ()
    nohz_full: tuple[int, ...] = ()
    cpusets: tuple[Cpuset, ...] = ()
    devices: tuple[Device, ...] = ()
    gaps: tuple[Gap, ...] = field(default=(), compare=False)

    @property
    def online(self) -> tuple[int, ...]:
        return tuple(cpu.number for cpu in self.cpus)

    def node(self, number: int) -> Node | None:
        return next((node for node in self.nodes if node.number == number), None)

    def cores(self, cpus: Iterable[int] | None = None) -> list[tuple[int, ...]]:
        """Threads by physical core, in the order of the lowest thread; only those among ``cpus`` when it is given."""
        wanted = None if cpus is None else set(cpus)
        found: dict[int, list[int]] = {}
        for cpu in self.cpus:
            if wanted is None or cpu.number in wanted:
                found.setdefault(cpu.core, []).append(cpu.number)
        return [tuple(threads) for _core, threads in sorted(found.items())]

    def set_aside(self) -> dict[int, str]:
        """Processors that general work must keep off → why."""
        found = {}
        for one in self.cpusets:
            found.update(dict.fromkeys(one.cpus, f"cpuset {one.name} ({one.kind}) has it for itself"))
        found.update(dict.fromkeys(self.nohz_full, "it runs without a tick (nohz_full)"))
        found.update(dict.fromkeys(self.isolated, "it is isolated"))
        return {cpu: found[cpu] for cpu in self.online if cpu in found}

    def nics(self) -> list[Device]:
        return [one for one in self.devices if one.kind == "nic"]

    def gpus(self) -> list[Device]:
        """In the order of their PCI addresses, which is how NVML and ROCm number them by default."""
        return [one for one in self.devices if one.kind == "gpu"]

    def device(self, what: str) -> Device:
        """``nic:eth0``, ``gpu:0`` or ``gpu:0000:3b:00.0``. Raises LookupError that names what there is."""
        kind, _colon, name = what.partition(":")
        there = self.nics() if kind == "nic" else self.gpus() if kind == "gpu" else []
        if kind == "gpu" and name.isdigit() and int(name) < len(there):
            return there[int(name)]
        for one in there:
            if name in (one.name, one.address):
                return one
        if kind not in ("nic", "gpu"):
            raise LookupError(f"{what!r} is neither nic:NAME nor gpu:NUMBER or gpu:ADDRESS")
        names = ", ".join(one.name for one in there) or "none"
        raise LookupError(f"{what!r} is not there; this host has {kind}s: {names}")

    def to_dict(self) -> dict[str, Any]:
        """For JSON; from_dict reads it back."""
        found = asdict(self)
        found["gaps"] = [gap.to_dict() for gap in self.gaps]
        return found

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Topology:
        """Raises ValueError when it is not what to_dict gives."""
        try:
            return cls(
                tuple(Cpu(**one) for one in data["cpus"]),
                tuple(
                    Node(one["number"], tuple(one["cpus"]), one["memory_bytes"], tuple(one["distances"])) for one in data["nodes"]
                ),
                tuple(data["isolated"]),
                tuple(data["nohz_full"]),
                tuple(Cpuset(one["name"], tuple(one["cpus"]), one["kind"]) for one in data["cpusets"]),
                tuple(Device(**{**one, "cpus": tuple(one["cpus"]), "bridges": tuple(one["bridges"])}) for one in data["devices"]),
                tuple(Gap(**one) for one in data["gaps"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"no topology: {error}") from None


def relation(one: Device, other: Device) -> str:
    """How far two devices are from each other, in the words of ``nvidia-smi topo``; ``?`` when it cannot be told.

    PIX: one PCIe switch or bridge between them. PXB: several, but no host bridge. PHB: a host bridge. NODE: the host bridges of
    one node. SYS: between nodes.
    """
    if one.address is None or other.address is None:
        return "?"
    if one.root == other.root:
        shared = 0
        for mine, its in zip(one.bridges, other.bridges):
            if mine != its:
                break
            shared += 1
        if shared == 0:
            return "PHB"
        longest = max(len(one.bridges), len(other.bridges)) - shared
        # Beside the shared upstream port each device has at most the switch's own port to pass.
        return "PIX" if longest <= 1 else "PXB"
    if one.node is None or other.node is None:
        return "?"
    return "NODE" if one.node == other.node else "SYS"


def read(sys: str = "/sys", proc: str = "/proc") -> Topology:
    """The shape of this machine, or of a recorded one below other roots. Never raises for what a machine can be."""
    gaps: list[Gap] = []
    online = _online(sys, proc, gaps)
    nodes = _nodes(sys, set(online), gaps)
    home = {cpu: node.number for node in nodes for cpu in node.cpus}
    cpus = tuple(_cpu(sys, number, home.get(number)) for number in online)
    cpusets = _cpusets(sys, set(online))
    aside = f"{sys}/devices/system/cpu"
    isolated = set(cpulist.parse_or_none(procfs.text_or_none(f"{aside}/isolated")) or ())
    isolated.update(cpu for one in cpusets if one.kind == "isolated" for cpu in one.cpus)
    nohz = cpulist.parse_or_none(procfs.text_or_none(f"{aside}/nohz_full")) or ()
    return Topology(
        cpus,
        nodes,
        tuple(cpu for cpu in online if cpu in isolated),
        tuple(cpu for cpu in online if cpu in set(nohz)),
        cpusets,
        (*_nics(sys, online, gaps), *_gpus(sys, online)),
        tuple(gaps),
    )


def _online(sys: str, proc: str, gaps: list[Gap]) -> tuple[int, ...]:
    found = cpulist.parse_or_none(procfs.text_or_none(f"{sys}/devices/system/cpu/online"))
    if found:
        return found
    stat = procfs.text_or_none(f"{proc}/stat") or ""
    numbers = tuple(sorted(int(number) for number in re.findall(r"^cpu(\d+) ", stat, re.MULTILINE)))
    if not numbers:
        gaps.append(Gap("topology.cpus", f"neither {sys}/devices/system/cpu/online nor {proc}/stat names a processor"))
    return numbers


def _cpu(sys: str, number: int, node: int | None) -> Cpu:
    """Without its topology folder (some virtual machines) each processor is a core of its own."""
    folder = f"{sys}/devices/system/cpu/cpu{number}/topology"
    package = procfs.integer(f"{folder}/physical_package_id")
    # thread_siblings_list is the older name of core_cpus_list; every kernel has it.
    siblings = cpulist.parse_or_none(procfs.text_or_none(f"{folder}/thread_siblings_list"))
    return Cpu(number, package if package is not None and package >= 0 else 0, min(siblings or (number,)), node)


def _nodes(sys: str, online: set[int], gaps: list[Gap]) -> tuple[Node, ...]:
    folder = f"{sys}/devices/system/node"
    try:
        numbers = sorted(int(name[4:]) for name in os.listdir(folder) if re.fullmatch(r"node\d+", name))
    except OSError:
        numbers = []  # a kernel without NUMA: one node
    if not numbers:
        return (Node(0, tuple(sorted(online))),)
    found = []
    for number in numbers:
        one = f"{folder}/node{number}"
        cpus = cpulist.parse_or_none(procfs.text_or_none(f"{one}/cpulist"))
        if cpus is None:
            gaps.append(Gap("topology.nodes", f"{one}/cpulist cannot be read"))
        total = re.search(r"MemTotal:\s+(\d+) kB", procfs.text_or_none(f"{one}/meminfo") or "")
        distances = [procfs.decimal(word) for word in (procfs.text_or_none(f"{one}/distance") or "").split()]
        found.append(
            Node(
                number,
                tuple(cpu for cpu in cpus or () if cpu in online),
                int(total.group(1)) * 1024 if total else None,
                tuple(one for one in distances if one is not None),
            )
        )
    return tuple(found)


def _cpusets(sys: str, online: set[int]) -> tuple[Cpuset, ...]:
    """Control groups that have processors for themselves: partitions of cgroup 2, exclusive cpusets of cgroup 1."""
    found = []
    for base, marker in ((f"{sys}/fs/cgroup", "cpuset.cpus.partition"), (f"{sys}/fs/cgroup/cpuset", "cpuset.cpu_exclusive")):
        for folder in _groups(base, marker):
            said = (procfs.text_or_none(f"{folder}/{marker}", 256) or "").strip()
            if marker == "cpuset.cpu_exclusive":
                kind, names = ("exclusive" if said == "1" else ""), ("cpuset.effective_cpus", "cpuset.cpus")
            else:  # "root invalid (reason)" is no partition
                kind, names = (said if said in ("root", "isolated") else ""), ("cpuset.cpus.effective", "cpuset.cpus")
            if not kind:
                continue
            lists = (cpulist.parse_or_none(procfs.text_or_none(f"{folder}/{name}")) for name in names)
            cpus = next((one for one in lists if one), ())
            found.append(Cpuset(os.path.relpath(folder, base), tuple(cpu for cpu in cpus if cpu in online), kind))
    return tuple(found)


def _groups(base: str, marker: str) -> list[str]:
    """Groups below ``base`` that have the file ``marker``: a group whose parent lacks the controller has none itself."""
    found: list[str] = []
    waiting = [base]
    while waiting and len(found) < _MAX_GROUPS:
        folder = waiting.pop()
        try:
            names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False))
        except OSError:
            continue
        for name in names:
            one = f"{folder}/{name}"
            if os.path.exists(f"{one}/{marker}"):
                found.append(one)
                waiting.append(one)
    return found


def _nics(sys: str, online: tuple[int, ...], gaps: list[Gap]) -> list[Device]:
    """Interfaces with a device behind them, by name. Software links (bonds, bridges, veth) have none."""
    try:
        names = sorted(os.listdir(f"{sys}/class/net"))
    except OSError as error:
        gaps.append(Gap("topology.nics", procfs.reason(error)))
        return []
    found = []
    for name in names:
        folder = f"{sys}/class/net/{name}"
        if not os.path.exists(f"{folder}/device"):
            continue
        if sys == "/sys" and not _ours(name, folder):
            gaps.append(Gap("topology.nics", f"{name}: /sys shows another network namespace than this one"))
            continue
        found.append(_device("nic", name, os.path.realpath(f"{folder}/device"), online))
    return found


def _ours(name: str, folder: str) -> bool:
    try:
        return socket.if_nametoindex(name) == procfs.integer(f"{folder}/ifindex")
    except OSError:
        return False


def _gpus(sys: str, online: tuple[int, ...]) -> list[Device]:
    folder = f"{sys}/bus/pci/devices"
    try:
        addresses = sorted(os.listdir(folder))
    except OSError:
        return []  # no PCI: no GPU of the kind we know
    found = []
    for address in addresses:
        number = procfs.decimal((procfs.text_or_none(f"{folder}/{address}/class", 64) or "").strip(), 16)
        if number is None:
            continue
        kind = number >> 8
        if kind in (_VGA, _DISPLAY_OTHER):
            vendor = procfs.decimal((procfs.text_or_none(f"{folder}/{address}/vendor", 64) or "").strip(), 16)
            if vendor not in _GPU_VENDORS:
                continue
        elif kind not in _GPU_CLASSES:
            continue
        found.append(_device("gpu", address, os.path.realpath(f"{folder}/{address}"), online))
    return found


def _device(kind: str, name: str, path: str, online: tuple[int, ...]) -> Device:
    parts = path.split("/")
    bus = [at for at, part in enumerate(parts) if _PCI_ADDRESS.match(part)]
    root = next((part for part in parts if re.fullmatch(r"pci[0-9a-f]{4,}:[0-9a-f]{2}", part)), None)
    # virtio and the like are children of the PCI device that has the node and the interrupts.
    home = "/".join(parts[: bus[-1] + 1]) if bus else path
    node = procfs.integer(f"{home}/numa_node")
    local = cpulist.parse_or_none(procfs.text_or_none(f"{home}/local_cpulist"))
    near = tuple(cpu for cpu in local or () if cpu in set(online)) or online
    driver = os.path.basename(os.path.realpath(f"{path}/driver")) if os.path.exists(f"{path}/driver") else None
    return Device(
        kind,
        name,
        parts[bus[-1]] if bus else None,
        node if node is not None and node >= 0 else None,
        near,
        driver,
        root,
        tuple(parts[at] for at in bus[:-1]),
    )
