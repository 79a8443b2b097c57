# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""irq_affinity: options → read → plan → journal → apply → read again; and the program that does so at boot, without Ansible."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence import nic_queues, topology
from ansible_collections.netops.fleet.plugins.module_utils._evidence.nic_queues import Nic
from ansible_collections.netops.fleet.plugins.module_utils._evidence.topology import Topology
from ansible_collections.netops.fleet.plugins.module_utils._kernel import cpulist, irqs, sysctl
from ansible_collections.netops.fleet.plugins.module_utils._safety import journal, objects, portable
from ansible_collections.netops.fleet.plugins.module_utils._safety.change import Difference
from ansible_collections.netops.fleet.plugins.module_utils._safety.objects import Object
from ansible_collections.netops.fleet.plugins.module_utils._tuning import change, irq_plan, irqbalance, nic_plan, reapply
from ansible_collections.netops.fleet.plugins.module_utils._tuning.change import ChangeError, Changer, Work
from ansible_collections.netops.fleet.plugins.module_utils._tuning.reapply import Again

OWNER = "irq_affinity"
AGAIN = Again(
    OWNER,
    "netops-fleet-irq",
    "irq.pyz",
    "Place the interrupts of NICs",
    (("queues", "add|remove"), ("net", "add|move")),
    after="netops-fleet-nic.service",
)
_MEMORY = "irq.json"
_FLOWS = "net.core.rps_sock_flow_entries"
#: Seconds for interrupts to arrive on their new processor.
_SETTLE = 1.0

#: The argument spec of the module; its documentation stands in plugins/modules/irq_affinity.py.
ARGUMENTS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["present", "absent", "planned"], "default": "present"},
    "nics": {"type": "list", "elements": "str", "default": ["*"]},
    "reserve": {"type": "str", "default": ""},
    "irqbalance": {"type": "str", "choices": list(irqbalance.POLICIES), "default": "ban"},
    "rps": {"type": "str", "choices": ["auto", "off", "keep"], "default": "auto"},
    "rfs": {"type": "bool", "default": True},
    "arfs": {"type": "bool", "default": False},
    "xps": {"type": "str", "choices": ["auto", "off", "keep"], "default": "auto"},
    "persist": {"type": "bool", "default": True},
    "force": {"type": "bool", "default": False},
}


@dataclass
class Options:
    """As in the module's documentation. reserve: a list of processors as the kernel writes it. folder: of the journal."""

    nics: list[str] = field(default_factory=lambda: ["*"])
    reserve: str = ""
    irqbalance: str = "ban"
    rps: str = "auto"
    rfs: bool = True
    arfs: bool = False
    xps: str = "auto"
    persist: bool = True
    folder: str = journal.FOLDER

    @classmethod
    def from_params(cls, params: dict[str, Any], folder: str = journal.FOLDER) -> Options:
        """Raises ChangeError that names the option, what was found and what is allowed."""
        names = ("nics", "reserve", "irqbalance", "rps", "rfs", "arfs", "xps", "persist")
        found = cls(**{name: params[name] for name in names}, folder=folder)
        try:
            cpulist.parse(found.reserve)
        except ValueError:
            raise ChangeError(f"reserve is {found.reserve!r}; allowed is a list of processors such as 0-3,8") from None
        for pattern in found.nics:
            if not pattern or pattern == "driver:":
                raise ChangeError(f"nics has {pattern!r}; allowed are names, patterns such as ens*, and driver:NAME")
        return found


# --- study


@dataclass
class Study:
    """One reading of the host and the plan for it."""

    shape: Topology
    nics: list[Nic]
    plan: irq_plan.Plan
    gaps: list[str]


def look(options: Options, unmovable: Collection[str] = ()) -> Study:
    """Read and plan; changes nothing."""
    shape = topology.read()
    found, gaps = nic_queues.read(shape)
    nics = [nic for nic in found if nic_plan.chosen(nic.name, nic.device.driver, options.nics)]
    kept = reapply.load(options.folder, _MEMORY)
    how = irq_plan.Options(
        cpulist.parse(options.reserve),
        tuple(str(home) for home in kept.get("order", [])),
        options.rps,
        options.rfs,
        options.arfs,
        options.xps,
        frozenset(unmovable) | _unmovable(kept),
    )
    plan = irq_plan.make(shape, nics, how)
    if not nics:
        plan.notes.append(f"no NIC with a device behind it matches {', '.join(options.nics)}")
    unknown = set(how.reserve) - set(shape.online)
    if unknown:
        plan.notes.append(f"reserve names processors that are not online: {cpulist.show(unknown)}")
    return Study(shape, nics, plan, [f"{gap.what}: {gap.why}" for gap in (*shape.gaps, *gaps)])


def study(options: Options, found: journal.Journal, unmovable: Collection[str] = (), boot: bool = False) -> Work:
    """What change.run asks for. boot: asked by the unit. Raises reapply.Withdrawn."""
    seen = look(options, unmovable)
    plan = seen.plan
    balance = irqbalance.read()
    differences, warnings, errors = irqbalance.changes(options.irqbalance, balance, {nic.home for nic in seen.nics})
    keep = irqbalance.targets(options.irqbalance, balance)
    for steering in plan.steering:
        target = Object("nic", f"{steering.nic} {steering.setting}")
        keep.add(target)
        if steering.present != steering.value:
            differences.append(Difference(target, {"value": steering.present}, {"value": steering.value}))
    if plan.flow_entries is not None:
        keep.add(Object("sysctl", _FLOWS))
        _flow_entries(plan, differences)
    for place in plan.placements:
        if place.action == "leave":
            continue
        target = Object("irq", place.name)
        keep.add(target)
        if place.action == "set":
            after = {"cpus": str(place.cpu)}
            differences.append(Difference(target, {"cpus": cpulist.show(place.irq.cpus)}, after))
    if options.persist and objects.systemd():
        differences += AGAIN.changes(options.folder, boot)
        keep.update(AGAIN.targets())
    elif options.persist:
        plan.notes.append("systemd does not run this host: nothing places the interrupts again at the next boot")
    differences += change.released(found, OWNER, keep)
    plan.notes += _elsewhere(plan)
    result = {
        "plan": [place.to_dict() for place in plan.placements],
        "steering": [steering.to_dict() for steering in plan.steering],
        "left": [
            f"irq {place.irq.number} ({place.nic} {place.irq.handler}): {place.why}"
            for place in plan.placements
            if place.action == "leave"
        ],
        "notes": plan.notes + seen.gaps,
        "warnings": warnings,
        "facts": _facts(seen, balance),
    }
    return Work(differences, plan.errors + errors, result)


def _flow_entries(plan: irq_plan.Plan, differences: list[Difference]) -> None:
    """Only raised: another program may want more."""
    present = sysctl.read(_FLOWS)
    if present is None:
        plan.notes.append(f"{_FLOWS} is not there: this kernel has no RFS, or this is a container")
    elif present.isdigit() and plan.flow_entries is not None and int(present) < plan.flow_entries:
        after = {"value": str(plan.flow_entries)}
        differences.append(Difference(Object("sysctl", _FLOWS), {"value": present}, after))


def _elsewhere(plan: irq_plan.Plan) -> list[str]:
    """Interrupts whose affinity is as planned and that did not move yet: many controllers move one when it comes next."""
    return [
        f"irq {place.irq.number} ({place.nic} {place.irq.handler}) still goes to {cpulist.show(place.irq.effective)}; "
        f"it goes to {place.cpu} from its next interrupt on"
        for place in plan.placements
        if place.action == "none" and place.irq.effective and place.irq.effective != (place.cpu,)
    ]


def _facts(seen: Study, balance: irqbalance.Found) -> dict[str, Any]:
    shape = seen.shape
    return {
        "packages": len({cpu.package for cpu in shape.cpus}),
        "cores": len(shape.cores()),
        "cpus": cpulist.show(shape.online),
        "nodes": {str(node.number): cpulist.show(node.cpus) for node in shape.nodes},
        "set_aside": {str(cpu): why for cpu, why in shape.set_aside().items()},
        "nics": [
            {
                "name": nic.name,
                "driver": nic.device.driver,
                "address": nic.device.address,
                "node": nic.device.node,
                "queues": len(nic.queues()),
                "up": nic.up,
                "gpus": {gpu.name: topology.relation(nic.device, gpu) for gpu in shape.gpus()},
            }
            for nic in seen.nics
        ],
        "irqbalance": {"running": balance.pid is not None, "installed": balance.start is not None or balance.pid is not None},
    }


# --- running


def run(options: Options, state: str, check: bool, force: bool = False, boot: bool = False) -> dict[str, Any]:
    """What the module returns. boot: it is the unit that runs.

    Raises ChangeError, lock.Busy, journal.JournalError, objects.ObjectError, and reapply.Withdrawn at boot.
    """
    unmovable: set[str] = set()
    ignored: list[str] = []

    def settle(changes: list[Difference]) -> None:
        _hold(options, unmovable, changes)
        ignored.extend(_settle(changes))

    changer = Changer(
        OWNER,
        lambda found: study(options, found, unmovable, boot),
        options.folder,
        prepare=lambda: _prepare(options, unmovable),
        settle=settle,
    )
    if state == "present" and not check:
        unmovable.update(_probe(options))
    result = change.run(changer, state, check, force)
    result["warnings"] += ignored
    if state == "present" and not check:
        _remember(options, unmovable)
    elif state == "absent" and not check:
        reapply.forget(options.folder, _MEMORY)
    return result


def _unmovable(kept: dict[str, Any]) -> frozenset[str]:
    """Interrupts that refused to be moved since this boot; the next kernel may do better."""
    return frozenset(map(str, kept.get("unmovable", []))) if kept.get("boot") == journal.boot_id() else frozenset()


def _remember(options: Options, unmovable: Collection[str]) -> None:
    known = _unmovable(reapply.load(options.folder, _MEMORY)) | frozenset(unmovable)
    kept = {name: value for name, value in asdict(options).items() if name != "folder"}
    order = list(look(options, unmovable).plan.order)
    content = {"options": kept, "order": order, "unmovable": sorted(known), "boot": journal.boot_id() if known else ""}
    reapply.save(options.folder, _MEMORY, content)


def _prepare(options: Options, unmovable: Collection[str]) -> None:
    _remember(options, unmovable)
    if options.persist and objects.systemd():
        portable.install(options.folder, AGAIN.program, __name__)


def _probe(options: Options) -> set[str]:
    """Interrupts that kernels before 6.18 let nobody move: they refuse even the affinity that they have."""
    refused = set()
    for place in look(options).plan.placements:
        if place.action != "set" or not place.irq.cpus:
            continue
        try:
            irqs.move(place.irq.number, place.irq.cpus)
        except OSError as error:
            if error.errno in irqs.FOREVER:
                refused.add(place.name)
    return refused


def _hold(options: Options, unmovable: Collection[str], changes: list[Difference]) -> None:
    """What irqbalance still moved, between the first look and its end or ban, goes back to where the plan found it."""
    if not {irqbalance.POLICY, irqbalance.UNIT} & {one.target for one in changes}:
        return
    for place in look(options, unmovable).plan.placements:
        if place.action == "set" and place.cpu is not None:
            try:
                irqs.move(place.irq.number, (place.cpu,))
            except OSError:
                continue  # the reading that follows says that it is elsewhere


def _settle(changes: list[Difference]) -> list[str]:
    """Wait for interrupts to arrive on their processors; returns those that came again elsewhere, one sentence each."""
    waiting: dict[int, tuple[str, tuple[int, ...], int | None]] = {}
    for one in changes:
        number = irqs.number_of(one.target.name) if one.target.kind == "irq" and one.after is not None else None
        if number is not None and one.after is not None:
            waiting[number] = one.target.name, cpulist.parse(str(one.after["cpus"])), irqs.count(number)
    deadline = time.monotonic() + _SETTLE
    while waiting and time.monotonic() < deadline:
        waiting = {number: told for number, told in waiting.items() if not set(irqs.effective(number) or ()) <= set(told[1])}
        time.sleep(0.02)
    return [
        f"irq {number} ({name}) is to go to {cpulist.show(cpus)}, came again and went to "
        f"{cpulist.show(irqs.effective(number) or ())}: its controller ignores where it is sent"
        for number, (name, cpus, before) in waiting.items()
        # The one on its way may still have come to the old processor.
        if before is not None and (irqs.count(number) or 0) > before + 1
    ]


def main(arguments: list[str]) -> int:
    """What the unit runs: the plan of this moment, applied and journalled as the module does it."""
    parser = argparse.ArgumentParser(prog=AGAIN.program, description="Place the interrupts of NICs, once.")
    parser.add_argument("--folder", default=journal.FOLDER)
    folder = parser.parse_args(arguments).folder
    kept = reapply.load(folder, _MEMORY).get("options")
    return reapply.run(
        os.path.join(folder, _MEMORY),
        kept,
        lambda options: run(Options.from_params(options, folder), "present", False, boot=True),
    )
