# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings about interrupts: a machine of two nodes, its interrupts in good and in bad places."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import interrupts
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.module_utils._evidence.nic_queues import Nic
from ansible_collections.netops.fleet.plugins.module_utils._evidence.topology import Topology
from tests.unit.test_irq_plan import nic, shape


def evidence(topology: Topology, nics: list[Nic], **more: Any) -> Facts:
    devices = tuple(one.device for one in nics)
    data = {
        "topology": replace(topology, devices=devices).to_dict(),
        "nics": [one.to_dict() for one in nics],
        "channels": {},
        "irqbalance": None,
        "binders": [],
        **more,
    }
    return Facts({"sections": {"interrupts": json.loads(json.dumps(data))}})


def at(one: Nic, *cpus: int) -> Nic:
    """Its interrupts on these processors, in turn."""
    irqs = tuple(replace(irq, effective=(cpus[n % len(cpus)],)) for n, irq in enumerate(one.irqs))
    return replace(one, irqs=irqs)


def found(facts: Facts) -> dict[str, Finding]:
    return {one.id: one for one in interrupts.find(facts)}


MACHINE = shape(2, 4, 2)


def test_a_machine_in_order_has_no_finding() -> None:
    nics = [at(nic(MACHINE, "a", 0, 4), 0, 1, 2, 3), at(nic(MACHINE, "b", 1, 4, 300), 4, 5, 6, 7)]
    facts = evidence(MACHINE, nics, channels={"a": {"now": 4, "most": 63}}, irqbalance={"pid": 9, "policy": None})
    assert found(facts) == {}
    assert interrupts.find(Facts({"sections": {"interrupts": None}})) == []
    assert interrupts.find(Facts({"sections": {}})) == []


def test_all_on_one() -> None:
    one = found(evidence(MACHINE, [at(nic(MACHINE, "a", 0, 4), 2)]))["nic-irqs-on-one-cpu"]
    assert "4 NIC queues go to CPU 2" in one.summary
    assert one.fix[0] == "echo 0 > /proc/irq/100/smp_affinity_list" and len(one.fix) == 5


@pytest.mark.parametrize(
    ("machine", "queues", "up"),
    [(MACHINE, 1, True), (shape(1, 1, 1), 4, True), (shape(1, 2, 1, isolated=(1,)), 4, True), (MACHINE, 4, False)],
    ids=["one queue", "one processor", "others isolated", "down"],
)
def test_not_where_it_cannot_be_otherwise(machine: Topology, queues: int, up: bool) -> None:
    assert "nic-irqs-on-one-cpu" not in found(evidence(machine, [replace(at(nic(machine, "a", 0, queues), 0), up=up)]))


def test_on_the_other_node() -> None:
    most = found(evidence(MACHINE, [at(nic(MACHINE, "a", 0, 4), 4, 5, 6, 0)]))["nic-irqs-remote"]
    assert (most.severity, most.subject) == ("warning", "a") and "3 of 4 interrupts" in most.summary
    some = found(evidence(MACHINE, [at(nic(MACHINE, "a", 0, 4), 4, 1, 2, 0)]))["nic-irqs-remote"]
    assert some.severity == "info" and some.evidence == ["irq 100 goes to CPU 4 of node 1"]
    assert "nic-irqs-remote" not in found(evidence(MACHINE, [at(nic(MACHINE, "a", None, 4), 4, 5, 6, 7)]))
    isolated = shape(2, 4, 2, isolated=(0, 1, 2, 3, 8, 9, 10, 11))
    assert "nic-irqs-remote" not in found(evidence(isolated, [at(nic(isolated, "a", 0, 2), 4, 5)]))


def test_where_the_kernel_does_not_say_the_affinity_counts() -> None:
    one = nic(MACHINE, "a", 0, 2)
    bound = replace(one, irqs=tuple(replace(irq, cpus=(4,)) for irq in one.irqs))
    assert set(found(evidence(MACHINE, [bound]))) == {"nic-irqs-on-one-cpu", "nic-irqs-remote"}
    assert found(evidence(MACHINE, [one])) == {}  # they may go anywhere


def test_two_that_move_them() -> None:
    nics = [at(nic(MACHINE, "a", 0, 4), 0, 1, 2, 3)]
    both = {"irqbalance": {"pid": 9, "policy": None}, "binders": ["netops-fleet-irq.service"]}
    one = found(evidence(MACHINE, nics, **both))["irqbalance-fights-binding"]
    assert one.grade == "likely" and "netops-fleet-irq.service" in one.summary
    told = {**both, "irqbalance": {"pid": 9, "policy": "/etc/netops-fleet-irqbalance"}}
    assert found(evidence(MACHINE, nics, **told)) == {}
    assert found(evidence(MACHINE, [], **both)) == {}


def test_fewer_queues_than_cores() -> None:
    nics = [at(nic(MACHINE, "a", 0, 2), 0, 1)]
    one = found(evidence(MACHINE, nics, channels={"a": {"now": 2, "most": 63}}))["nic-queues-below-cores"]
    assert one.severity == "info" and one.fix[0] == "ethtool -L a combined 4"
    assert found(evidence(MACHINE, nics, channels={"a": {"now": 2, "most": 2}})) == {}
