# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines that a test does not have, as trees of /sys and /proc below a folder, built from a short description."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._kernel import cpulist


@dataclass
class Machine:
    """packages of cores of threads. Threads are numbered last (0 and 56 are siblings), as Linux on x86 does, unless ``adjacent``.

    nodes: of the whole machine, cores in equal shares. devices: see _device.
    """

    packages: int = 1
    cores: int = 4
    threads: int = 1
    nodes: int = 1
    adjacent: bool = False
    memory_gib: int = 64
    isolated: str = ""
    nohz_full: str = ""
    distances: list[list[int]] = field(default_factory=list)
    devices: list[dict[str, Any]] = field(default_factory=list)

    @property
    def count(self) -> int:
        return self.packages * self.cores * self.threads

    def core(self, cpu: int) -> int:
        return cpu // self.threads if self.adjacent else cpu % (self.packages * self.cores)

    def siblings(self, cpu: int) -> list[int]:
        return [one for one in range(self.count) if self.core(one) == self.core(cpu)]

    def node(self, cpu: int) -> int:
        return self.core(cpu) * self.nodes // (self.packages * self.cores)

    def node_cpus(self, node: int) -> list[int]:
        return [cpu for cpu in range(self.count) if self.node(cpu) == node]


RECORDED = Path(__file__).resolve().parent / "recorded"


def recorded(name: str) -> dict[str, Any]:
    """A machine from public documentation: {source, advice, machine}; see tests/unit/recorded."""
    found: dict[str, Any] = json.loads((RECORDED / f"{name}.json").read_text())
    return found


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(os.path.relpath(target, path.parent))


def build(machine: Machine, root: Path) -> tuple[str, str]:
    """Write the trees; returns the roots of /sys and /proc."""
    sys, proc = root / "sys", root / "proc"
    everything = range(machine.count)
    cpu = sys / "devices/system/cpu"
    put(cpu / "online", f"{cpulist.show(everything)}\n")
    put(cpu / "isolated", f"{machine.isolated}\n")
    put(cpu / "nohz_full", f"{machine.nohz_full or '(null)'}\n")
    put(proc / "stat", "cpu  1 2 3\n" + "".join(f"cpu{one} 1 2 3\n" for one in everything))
    by_core: dict[int, list[int]] = {}
    for one in everything:
        by_core.setdefault(machine.core(one), []).append(one)
    for one in everything:
        put(cpu / f"cpu{one}/topology/physical_package_id", f"{machine.core(one) // machine.cores}\n")
        put(cpu / f"cpu{one}/topology/thread_siblings_list", f"{cpulist.show(by_core[machine.core(one)])}\n")
    for node in range(machine.nodes):
        folder = sys / f"devices/system/node/node{node}"
        far = machine.distances[node] if machine.distances else [10 if other == node else 21 for other in range(machine.nodes)]
        put(folder / "cpulist", f"{cpulist.show(machine.node_cpus(node))}\n")
        put(folder / "meminfo", f"Node {node} MemTotal:       {machine.memory_gib << 20} kB\n")
        put(folder / "distance", " ".join(map(str, far)) + "\n")
    (sys / "class/net").mkdir(parents=True, exist_ok=True)
    (sys / "bus/pci/devices").mkdir(parents=True, exist_ok=True)
    for number, one in enumerate(machine.devices):
        _device(machine, sys, number, one)
    _interrupts(machine, sys, proc)
    return str(sys), str(proc)


def _interrupts(machine: Machine, sys: Path, proc: Path) -> None:
    """{irqs: [[format of the handler's name, how many], …]}: one line of /proc/interrupts each, and their folders."""
    header = "     " + "".join(f"{f'CPU{cpu}':>11}" for cpu in range(machine.count))
    counts = "".join(f"{0:>11}" for _cpu in range(machine.count))
    lines, number = [header], 100
    for device in machine.devices:
        home = _home(sys, device)
        for handler, many in device.get("irqs", []):
            for at in range(many):
                lines.append(f"{number:>4}:{counts}  IR-PCI-MSIX-{home.name}  {at:>3}-edge      {handler.format(n=at)}")
                put(home / f"msi_irqs/{number}", "msix\n")
                put(proc / f"irq/{number}/smp_affinity_list", f"{cpulist.show(range(machine.count))}\n")
                put(proc / f"irq/{number}/effective_affinity_list", "0\n")
                number += 1
    put(proc / "interrupts", "\n".join([*lines, f" NMI:{counts}  Non-maskable interrupts", ""]))


def _home(sys: Path, one: dict[str, Any]) -> Path:
    """The folder of the PCI device."""
    at = max(index for index, part in enumerate(one["path"]) if part.count(":") == 2)
    return sys.joinpath("devices", *one["path"][: at + 1])


def _device(machine: Machine, sys: Path, number: int, one: dict[str, Any]) -> None:
    """{kind, name, path: [pci0000:3a, bridge, …, address, virtioN?], node, class, vendor, driver}"""
    folder = sys.joinpath("devices", *one["path"])
    home = _home(sys, one)
    node = one.get("node", -1)
    near = machine.node_cpus(node) if node >= 0 else range(machine.count)
    put(home / "numa_node", f"{node}\n")
    put(home / "local_cpulist", f"{cpulist.show(near)}\n")
    put(home / "class", one.get("class", "0x020000") + "\n")
    put(home / "vendor", one.get("vendor", "0x15b3") + "\n")
    link(sys / "bus/pci/devices" / home.name, home)
    if "driver" in one:
        (sys / "bus/pci/drivers" / one["driver"]).mkdir(parents=True, exist_ok=True)
        link(folder / "driver", sys / "bus/pci/drivers" / one["driver"])
    if one.get("kind", "nic") == "nic":
        net = folder / "net" / one["name"]
        put(net / "ifindex", f"{number + 2}\n")
        put(net / "flags", "0x1003\n")
        link(net / "device", folder)
        zero = cpulist.show_mask((), like=cpulist.show_mask(range(machine.count)))
        for queue in range(one.get("queues", 0)):
            put(net / f"queues/rx-{queue}/rps_cpus", f"{zero}\n")
            put(net / f"queues/rx-{queue}/rps_flow_cnt", "0\n")
            put(net / f"queues/tx-{queue}/xps_cpus", f"{zero}\n")
        link(sys / "class/net" / one["name"], net)
