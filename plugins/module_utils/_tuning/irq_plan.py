# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Which processor serves which queue: a pure function of the machine's shape, its NICs and what is wanted.

Rules, in this order (Documentation/networking/scaling.rst; docs/dev/placement.md):

1. Processors set aside and reserved ones serve nothing.
2. A queue goes to a physical core of its NIC's node; to the nearest node with a usable core when that has none.
3. Among those the core with the fewest queues, so NICs of a node share it; then the core with the lowest number.
4. A core's second queue goes to its second thread, when it has one.

NICs are placed in the order they were first seen, so that one more moves no queue of the others.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence.nic_queues import Irq, Nic
from ansible_collections.netops.fleet.plugins.module_utils._evidence.topology import Topology
from ansible_collections.netops.fleet.plugins.module_utils._kernel import cpulist

#: net.core.rps_sock_flow_entries, as scaling.rst suggests it for a moderately loaded server.
FLOW_ENTRIES = 32768


@dataclass(frozen=True)
class Options:
    """reserve: processors that serve no interrupt. order: devices (Nic.home) seen before, in the order they were placed.

    rps: ``auto`` (NICs with one queue), ``off`` or ``keep``. rfs: flows follow their program's processor where RPS is on.
    arfs: the NIC itself steers them. xps: ``auto`` (NICs with several queues), ``off`` or ``keep``. unmovable: ``HOME HANDLER``
    of interrupts that refused to be moved before.
    """

    reserve: tuple[int, ...] = ()
    order: tuple[str, ...] = ()
    rps: str = "auto"
    rfs: bool = True
    arfs: bool = False
    xps: str = "auto"
    unmovable: frozenset[str] = frozenset()


@dataclass
class Placement:
    """One interrupt. cpu: where it belongs, None when it is left alone. action: ``none``, ``set`` or ``leave``."""

    nic: str
    home: str
    queue: int
    irq: Irq
    cpu: int | None
    core: int | None
    node: int | None
    action: str
    why: str

    @property
    def name(self) -> str:
        """As the journal calls it."""
        return f"{self.home} {self.irq.handler}"

    def to_dict(self) -> dict[str, Any]:
        return {
            "nic": self.nic,
            "queue": self.queue,
            "irq": self.irq.number,
            "handler": self.irq.handler,
            "cpu": self.cpu,
            "node": self.node,
            "present": cpulist.show(self.irq.cpus),
            "effective": None if self.irq.effective is None else cpulist.show(self.irq.effective),
            "action": self.action,
            "why": self.why,
        }


@dataclass
class Steering:
    """A setting of a NIC's queue. setting: ``rx-0.rps_cpus`` and the like. value: processors or a number, as text."""

    nic: str
    setting: str
    present: str | None
    value: str
    why: str

    def to_dict(self) -> dict[str, Any]:
        return {
            "nic": self.nic,
            "setting": self.setting,
            "present": self.present,
            "value": self.value,
            "action": "none" if self.present == self.value else "set",
            "why": self.why,
        }


@dataclass
class Plan:
    """placements: every queue's interrupts. steering: RPS, RFS, XPS. order: for Options.order of the next run.

    flow_entries: wanted net.core.rps_sock_flow_entries, None when nothing asks for it. load: queues by core. errors: why
    nothing can be placed.
    """

    placements: list[Placement] = field(default_factory=list)
    steering: list[Steering] = field(default_factory=list)
    order: tuple[str, ...] = ()
    flow_entries: int | None = None
    load: dict[int, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Core:
    """A usable core: number (its lowest thread), node, threads that may serve."""

    number: int
    node: int | None
    threads: tuple[int, ...]


def make(topology: Topology, nics: list[Nic], options: Options) -> Plan:
    plan = Plan()
    aside = topology.set_aside()
    aside.update(dict.fromkeys(options.reserve, "it is reserved"))
    usable = _usable(topology, aside)
    ordered = _ordered(nics, options.order)
    plan.order = (*(home for home in options.order), *(nic.home for nic in ordered if nic.home not in options.order))
    plan.load = {core.number: 0 for cores in usable.values() for core in cores}
    if not plan.load and nics:
        plan.errors.append("no processor is left for interrupts: all are isolated, in a cpuset of their own, or reserved")
        return plan
    for nic in ordered:
        _place(plan, topology, usable, nic, options)
    return plan


def _usable(topology: Topology, aside: dict[int, str]) -> dict[int | None, list[_Core]]:
    """Cores by node. Whole cores only, unless a node has none: a thread beside an isolated one would disturb it."""
    home = {cpu.number: cpu.node for cpu in topology.cpus}
    whole: dict[int | None, list[_Core]] = {}
    part: dict[int | None, list[_Core]] = {}
    for threads in topology.cores():
        free = tuple(cpu for cpu in threads if cpu not in aside)
        node = home[threads[0]]
        if free:
            part.setdefault(node, []).append(_Core(threads[0], node, free))
            if len(free) == len(threads):
                whole.setdefault(node, []).append(_Core(threads[0], node, free))
    return {node: whole.get(node, cores) for node, cores in part.items()}


def _ordered(nics: list[Nic], order: tuple[str, ...]) -> list[Nic]:
    rank = {home: at for at, home in enumerate(order)}
    return sorted(nics, key=lambda nic: (rank.get(nic.home, len(rank)), nic.name, nic.home))


def _candidates(topology: Topology, usable: dict[int | None, list[_Core]], nic: Nic) -> tuple[list[_Core], str]:
    """(cores for this NIC's queues, why these)"""
    everywhere = [core for _node, cores in sorted(usable.items(), key=lambda item: item[0] or 0) for core in cores]
    node = nic.device.node
    if node is None:
        near = {cpu.node for cpu in topology.cpus if cpu.number in set(nic.device.cpus)}
        some = [core for core in everywhere if core.node in near]
        if some and len(near) < len({cpu.node for cpu in topology.cpus}):
            return some, "a core of the nodes that the firmware calls near"
        return everywhere, "the firmware does not say which node the NIC is near, so all cores are used"
    if usable.get(node):
        return usable[node], "a core of the NIC's node"
    known = topology.node(node)
    far = known.distances if known else ()
    nearest = min(usable, key=lambda other: (far[other] if other is not None and other < len(far) else 255, other or 0))
    return usable[nearest], f"node {node} of the NIC has no usable processor, node {nearest} is the nearest that has"


def _place(plan: Plan, topology: Topology, usable: dict[int | None, list[_Core]], nic: Nic, options: Options) -> None:
    queues = nic.queues()
    if not queues:
        plan.notes.append(_without(nic))
        return
    cores, where = _candidates(topology, usable, nic)
    waiting = [(plan.load[core.number], at, core) for at, core in enumerate(cores)]
    heapq.heapify(waiting)
    chosen: dict[int, _Core] = {}
    for queue, irqs in queues.items():
        load, at, core = heapq.heappop(waiting)
        cpu = core.threads[load % len(core.threads)]
        heapq.heappush(waiting, (load + 1, at, core))
        plan.load[core.number] = load + 1
        chosen[queue] = core
        why = f"core {core.number}: {where}"
        if load:
            why += f"; {load} more on this core: there are more queues than cores"
        for irq in irqs:
            plan.placements.append(_placement(nic, queue, irq, core, cpu, why, options))
    if len(queues) > len(cores):
        plan.notes.append(f"{nic.name} has {len(queues)} queues for {len(cores)} usable cores; {len(cores)} would do")
    _receive(plan, nic, cores, chosen, options)
    _transmit(plan, topology, nic, chosen, options)


def _without(nic: Nic) -> str:
    if nic.device.driver == "hv_netvsc":
        return f"{nic.name}: its queues are VMBus channels without interrupts of their own; its driver spreads them"
    if not nic.up:
        return f"{nic.name} is down; its driver asks for interrupts when it goes up"
    return f"{nic.name}: no interrupt of a queue was found (driver {nic.device.driver or 'unknown'})"


def _placement(nic: Nic, queue: int, irq: Irq, core: _Core, cpu: int, why: str, options: Options) -> Placement:
    left = Placement(nic.name, nic.home, queue, irq, None, None, None, "leave", "")
    if irq.fixed:
        left.why = "the kernel manages it: its driver spread the queues itself, and nobody can move them"
        return left
    if left.name in options.unmovable:
        left.why = "it refused to be moved before: the kernel manages it"
        return left
    action = "none" if irq.cpus == (cpu,) else "set"
    return Placement(nic.name, nic.home, queue, irq, cpu, core.number, core.node, action, why)


def _receive(plan: Plan, nic: Nic, cores: list[_Core], chosen: dict[int, _Core], options: Options) -> None:
    """RPS spreads the packets of one queue by software; with a queue for each core it only costs."""
    if options.rps == "keep" or not nic.rps:
        return
    single = len(nic.rps) == 1
    if options.rps == "auto" and not single:
        return
    busy = {core.number for core in chosen.values()}
    helpers = [core.threads[0] for core in cores if core.number not in busy] if options.rps == "auto" else []
    why = "one queue: other cores of its node share the work" if helpers else "RPS off"
    if options.rps == "auto" and not helpers:
        return  # no other core to share the work with
    for at, present in enumerate(nic.rps):
        if present is not None:
            plan.steering.append(
                Steering(nic.name, f"rx-{at}.rps_cpus", cpulist.show(present), cpulist.show(sorted(helpers)), why)
            )
    if options.rfs and helpers:
        _flows(plan, nic, "flows go to the processor where their program reads")


def _flows(plan: Plan, nic: Nic, why: str) -> None:
    plan.flow_entries = FLOW_ENTRIES
    each = FLOW_ENTRIES // (1 << (len(nic.flows) - 1).bit_length())
    for at, present in enumerate(nic.flows):
        if present is not None:
            wanted = str(max(each, 1))
            plan.steering.append(Steering(nic.name, f"rx-{at}.rps_flow_cnt", str(present), wanted, why))


def _transmit(plan: Plan, topology: Topology, nic: Nic, chosen: dict[int, _Core], options: Options) -> None:
    """XPS: each processor sends through the queue whose completions come to its core, else to its node."""
    if options.arfs and len(nic.flows) > 1:
        _flows(plan, nic, "the NIC steers flows to the processor where their program reads")
    if options.xps == "keep" or len(nic.xps) < 2 or any(one is None for one in nic.xps):
        return
    maps: list[list[int]] = [[] for _queue in nic.xps]
    if options.xps == "auto":
        pairs = [(queue, core) for queue, core in chosen.items() if queue < len(maps)]
        if not pairs:
            return
        by_core: dict[int, list[int]] = {}
        by_node: dict[int | None, list[int]] = {}
        for queue, core in pairs:
            by_core.setdefault(core.number, []).append(queue)
            by_node.setdefault(core.node, []).append(queue)
        turns: dict[tuple[int, ...], int] = {}
        for cpu in topology.cpus:
            mine = tuple(by_core.get(cpu.core) or by_node.get(cpu.node) or [queue for queue, _core in pairs])
            turn = turns.get(mine, 0)
            turns[mine] = turn + 1
            maps[mine[turn % len(mine)]].append(cpu.number)
    why = "each processor sends through the queue of its own core, else of its node" if options.xps == "auto" else "XPS off"
    for at, present in enumerate(nic.xps):
        plan.steering.append(
            Steering(nic.name, f"tx-{at}.xps_cpus", cpulist.show(present or ()), cpulist.show(sorted(maps[at])), why)
        )
