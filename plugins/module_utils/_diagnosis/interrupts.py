# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Interrupts of NICs where they hurt: all on one processor, on another node, moved by two; and fewer queues than cores. (T07)"""

from __future__ import annotations

from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.module_utils._evidence.nic_queues import Nic
from ansible_collections.netops.fleet.plugins.module_utils._evidence.topology import Topology

_PLAN = "# the plan for this host, with reasons: netops.fleet.irq_affinity with state planned"
_MOST_LINES = 8


def find(facts: Facts) -> list[Finding]:
    data = facts.section("interrupts")
    if not isinstance(data, dict):
        return []
    shape = Topology.from_dict(data["topology"])
    nics = [nic for nic in (Nic.from_dict(one, shape) for one in data["nics"]) if nic.up and nic.queues()]
    return one_cpu(shape, nics) + remote(shape, nics) + fighting(data, nics) + few_queues(data, shape, nics)


def _serving(nic: Nic) -> dict[int, tuple[int, ...]]:
    """Interrupt of a queue → processors it goes to; those it may go to where the kernel does not say."""
    return {irq.number: irq.effective or irq.cpus for irqs in nic.queues().values() for irq in irqs}


def one_cpu(shape: Topology, nics: list[Nic]) -> list[Finding]:
    """Several queues and one processor for all of them: the others idle while it drops."""
    queues = sum(len(nic.queues()) for nic in nics)
    used = {cpu for nic in nics for cpus in _serving(nic).values() for cpu in cpus}
    free = [cpu for cpu in shape.online if cpu not in shape.set_aside()]
    if queues < 2 or len(used) != 1 or len(free) < 2:
        return []
    cpu = next(iter(used))
    return [
        Finding(
            id="nic-irqs-on-one-cpu",
            grade="proven",
            severity="warning",
            subject=f"CPU {cpu}",
            summary=f"All interrupts of the {queues} NIC queues go to CPU {cpu}; {len(free)} processors could share them.",
            evidence=[f"{nic.name}: {len(nic.queues())} queues, all on CPU {cpu}" for nic in nics][:_MOST_LINES],
            fix=[*_spread(nics, free), _PLAN],
            requirement=["T07"],
            data={"section": "interrupts", "cpu": cpu, "nics": [nic.name for nic in nics]},
        )
    ]


def _spread(nics: list[Nic], cpus: list[int]) -> list[str]:
    """Commands that give each queue a processor, in turn; for the first queues only, since a long list helps nobody."""
    lines = []
    for nic in nics:
        for at, irqs in enumerate(nic.queues().values()):
            lines += [f"echo {cpus[at % len(cpus)]} > /proc/irq/{irq.number}/smp_affinity_list" for irq in irqs if not irq.fixed]
    return lines if len(lines) <= _MOST_LINES else []


def remote(shape: Topology, nics: list[Nic]) -> list[Finding]:
    """Every packet of such a queue crosses between nodes before anybody reads it."""
    home = {cpu.number: cpu.node for cpu in shape.cpus}
    aside = shape.set_aside()
    found = []
    for nic in nics:
        node = nic.device.node
        near = shape.node(node) if node is not None else None
        if near is None or len([one for one in shape.nodes if one.cpus]) < 2 or all(cpu in aside for cpu in near.cpus):
            continue
        serving = _serving(nic)
        far = {irq: cpus for irq, cpus in serving.items() if cpus and all(home.get(cpu) != node for cpu in cpus)}
        if not far:
            continue
        most = 2 * len(far) > len(serving)
        found.append(
            Finding(
                id="nic-irqs-remote",
                grade="proven",
                severity="warning" if most else "info",
                subject=nic.name,
                summary=f"{len(far)} of {len(serving)} interrupts of {nic.name} go to another node than its own, {node}.",
                evidence=[f"irq {irq} goes to CPU {cpus[0]} of node {home.get(cpus[0])}" for irq, cpus in sorted(far.items())][
                    :_MOST_LINES
                ],
                fix=[_PLAN, "# apply it: netops.fleet.irq_affinity"],
                requirement=["T07", "T10"],
                data={"section": "interrupts", "nic": nic.name, "node": node, "irqs": sorted(far)},
            )
        )
    return found


def fighting(data: dict[str, Any], nics: list[Nic]) -> list[Finding]:
    """Two that move the same interrupts: what one binds the other balances, every ten seconds."""
    balance, binders = data["irqbalance"], data["binders"]
    if not balance or not binders or balance["policy"] or not nics:
        return []
    return [
        Finding(
            id="irqbalance-fights-binding",
            grade="likely",
            severity="warning",
            subject="irqbalance",
            summary=f"irqbalance runs beside {', '.join(binders)}, which binds interrupts, and moves them again.",
            evidence=[f"irqbalance is pid {balance['pid']}, without a policy script", f"switched on: {', '.join(binders)}"],
            fix=[
                "# let both be, each with its own interrupts: netops.fleet.irq_affinity with irqbalance: ban",
                "systemctl disable --now irqbalance.service",
            ],
            requirement=["T07"],
            data={"section": "interrupts", "pid": balance["pid"], "binders": list(binders)},
        )
    ]


def few_queues(data: dict[str, Any], shape: Topology, nics: list[Nic]) -> list[Finding]:
    """Cores of its node that a NIC could use and has no queue for, though its driver has more to give."""
    aside = shape.set_aside()
    found = []
    for nic in nics:
        channels = data["channels"].get(nic.name)
        if not channels:
            continue
        cores = len(shape.cores(cpu for cpu in nic.device.cpus if cpu not in aside))
        could = min(cores, channels["most"])
        if 0 < channels["now"] < could:
            found.append(
                Finding(
                    id="nic-queues-below-cores",
                    grade="likely",
                    severity="info",
                    subject=nic.name,
                    summary=f"{nic.name} has {channels['now']} queues for {cores} cores near it; it could have {could}.",
                    evidence=[f"channels: {channels['now']} of {channels['most']}", f"cores near it that may serve: {cores}"],
                    fix=[
                        f"ethtool -L {nic.name} combined {could}",
                        "# it restarts the queues of most drivers; netops.fleet.nic_settings does it with interrupt: true",
                    ],
                    requirement=["T07"],
                    data={"section": "interrupts", "nic": nic.name, "now": channels["now"], "could": could},
                )
            )
    return found
