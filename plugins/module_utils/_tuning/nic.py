# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""nic_settings: options → read → plan → journal → apply → read again; and the program that does so at boot, without Ansible."""

from __future__ import annotations

import argparse
import errno
import os
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence import topology
from ansible_collections.netops.fleet.plugins.module_utils._evidence.topology import Device, Topology
from ansible_collections.netops.fleet.plugins.module_utils._kernel import cpulist, ethtool_netlink, procfs
from ansible_collections.netops.fleet.plugins.module_utils._safety import journal, objects, portable
from ansible_collections.netops.fleet.plugins.module_utils._safety.change import Difference
from ansible_collections.netops.fleet.plugins.module_utils._safety.objects import Object
from ansible_collections.netops.fleet.plugins.module_utils._tuning import change, nic_plan, reapply
from ansible_collections.netops.fleet.plugins.module_utils._tuning.change import ChangeError, Changer, Work
from ansible_collections.netops.fleet.plugins.module_utils._tuning.reapply import Again

OWNER = "nic_settings"
AGAIN = Again(OWNER, "netops-fleet-nic", "nic.pyz", "Set what NICs lost with their driver", (("net", "add|move"),))
_MEMORY = "nic.json"

_RULE: dict[str, Any] = {
    "match": {"type": "list", "elements": "str", "default": ["*"]},
    "channels": {"type": "dict", "default": {}},
    "rings": {"type": "dict", "default": {}},
    "coalesce": {"type": "dict", "default": {}},
    "features": {"type": "dict", "default": {}},
    "txqueuelen": {"type": "int"},
}
#: The argument spec of the module; its documentation stands in plugins/modules/nic_settings.py.
ARGUMENTS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["present", "absent", "planned"], "default": "present"},
    "nics": {"type": "list", "elements": "dict", "default": [], "options": _RULE},
    "reserve": {"type": "str", "default": ""},
    "interrupt": {"type": "bool", "default": False},
    "persist": {"type": "bool", "default": True},
    "deadman": {"type": "int", "default": 0},
    "force": {"type": "bool", "default": False},
}


@dataclass
class Options:
    """As in the module's documentation; rules: ``nics`` checked. folder: of the journal."""

    rules: list[nic_plan.Rule] = field(default_factory=list)
    reserve: str = ""
    interrupt: bool = False
    persist: bool = True
    deadman: int = 0
    folder: str = journal.FOLDER

    @classmethod
    def from_params(cls, params: dict[str, Any], folder: str = journal.FOLDER) -> Options:
        """Raises ChangeError that names the option, what was found and what is allowed."""
        try:
            cpulist.parse(params["reserve"])
        except ValueError:
            raise ChangeError(f"reserve is {params['reserve']!r}; allowed is a list of processors such as 0-3,8") from None
        seconds = params.get("deadman") or 0
        if seconds and not 10 <= seconds <= 3600:
            raise ChangeError(f"deadman is {seconds}; allowed are 0 and 10 to 3600 seconds")
        rules = [_rule(at, given) for at, given in enumerate(params["nics"], 1)]
        return cls(rules, params["reserve"], params["interrupt"], params["persist"], seconds, folder)


def _rule(at: int, given: dict[str, Any]) -> nic_plan.Rule:
    wants: dict[str, str] = {}
    for group, known in ethtool_netlink.GROUPS.items():
        for name, value in (given.get(group) or {}).items():
            key = str(name).replace("_", "-")
            if key not in known.values:
                raise ChangeError(f"nics[{at}].{group}: {name} is not one of {', '.join(known.values)}")
            wants[f"{group}.{key}"] = _number(f"nics[{at}].{group}.{name}", value, group, key in known.flags)
    for name, value in (given.get("features") or {}).items():
        text = {"true": "on", "false": "off", "on": "on", "off": "off"}.get(str(value).lower())
        if text is None:
            raise ChangeError(f"nics[{at}].features.{name} is {value!r}; allowed are true and false")
        wants[f"features.{ethtool_netlink.FEATURES.get(str(name), str(name))}"] = text
    length = given.get("txqueuelen")
    if length is not None:
        if not 0 <= length <= nic_plan.MAX_QUEUE_LENGTH:
            raise ChangeError(f"nics[{at}].txqueuelen is {length}; allowed are 0 to {nic_plan.MAX_QUEUE_LENGTH}")
        wants["txqueuelen"] = str(length)
    return nic_plan.Rule(tuple(given.get("match") or ["*"]), wants)


def _number(where: str, value: Any, group: str, flag: bool) -> str:
    words = {"channels": ("auto", "max"), "rings": ("max",)}.get(group, ())
    if flag:
        if isinstance(value, bool) or str(value).lower() in ("true", "false", "0", "1"):
            return "1" if str(value).lower() in ("true", "1") else "0"
        raise ChangeError(f"{where} is {value!r}; allowed are true and false")
    text = str(value)
    if not isinstance(value, bool) and (text in words or (text.isdigit() and int(text) < 1 << 32)):
        return text if text in words else str(int(text))
    raise ChangeError(f"{where} is {value!r}; allowed are numbers{' and ' if words else ''}{' and '.join(words)}")


# --- read


def read(shape: Topology, reserve: tuple[int, ...] = ()) -> list[nic_plan.Nic]:
    """Every NIC with its settings and what it takes. A group that cannot be read is named with the reason."""
    try:
        with ethtool_netlink.Link() as tool:
            return [_nic(shape, device, reserve, tool, "") for device in shape.nics()]
    except OSError as error:
        why = f"this kernel has no ethtool netlink (Linux 5.6): {procfs.reason(error)}"
        return [_nic(shape, device, reserve, None, why) for device in shape.nics()]


def _nic(shape: Topology, device: Device, reserve: tuple[int, ...], tool: ethtool_netlink.Link | None, why: str) -> nic_plan.Nic:
    values: dict[str, str] = {}
    limits: dict[str, int] = {}
    missing: dict[str, str] = {}
    fixed: set[str] = set()
    length = procfs.integer(f"/sys/class/net/{device.name}/tx_queue_len")
    if length is not None:
        values["txqueuelen"] = str(length)
    for group in (*ethtool_netlink.GROUPS, "features"):
        if tool is None:
            missing[group] = why
            continue
        try:
            if group == "features":
                for name, feature in tool.features(device.name).items():
                    values[f"features.{name}"] = "on" if feature.on else "off"
                    if not feature.movable:
                        fixed.add(name)
                continue
            values.update({f"{group}.{name}": str(value) for name, value in tool.get(device.name, group).items()})
            limits.update({f"{group}.{name}": value for name, value in tool.limits(device.name, group).items()})
        except OSError as error:
            none = error.errno == errno.EOPNOTSUPP
            missing[group] = f"driver {device.driver} has no {group}" if none else f"{group}: {procfs.reason(error)}"
    free = [cpu for cpu in device.cpus if cpu not in shape.set_aside() and cpu not in reserve]
    return nic_plan.Nic(device.name, device.driver, values, limits, frozenset(fixed), missing, max(1, len(shape.cores(free))))


# --- study and run


def study(options: Options, found: journal.Journal, boot: bool = False) -> Work:
    """What change.run asks for. boot: asked by the unit. Raises reapply.Withdrawn."""
    shape = topology.read()
    nics = read(shape, cpulist.parse(options.reserve))
    items = nic_plan.make(nics, options.rules, options.interrupt)
    differences: list[Difference] = []
    keep: set[Object] = set()
    for item in items:
        target = Object("nic", item.name)
        # What may not be changed now is not given back either: that would stop traffic too.
        if item.action in ("set", "none") or item.interrupts:
            keep.add(target)
        if item.action == "set":
            # A NIC that does not come back from a restart of its queues takes the way to the host with it.
            after = {"value": item.wanted}
            differences.append(Difference(target, {"value": item.present}, after, cuts=item.interrupts))
    notes = [f"{gap.what}: {gap.why}" for gap in shape.gaps]
    for rule in options.rules:
        if not any(nic_plan.chosen(nic.name, nic.driver, rule.match) for nic in nics):
            notes.append(f"no NIC with a device behind it matches {', '.join(rule.match)}")
    if options.persist and options.rules and objects.systemd():
        differences += AGAIN.changes(options.folder, boot)
        keep.update(AGAIN.targets())
    elif options.persist and options.rules:
        notes.append("systemd does not run this host: nothing sets this again at the next boot")
    drivers = {nic.name: nic.driver for nic in nics}

    def cuts(target: Object) -> bool:
        name, _space, setting = target.name.partition(" ")
        return target.kind == "nic" and nic_plan.interrupts(drivers.get(name), setting)

    differences += change.released(found, OWNER, keep, cuts=cuts)
    skipped = {item.name: item.why for item in items if item.action == "skip"}
    waiting = [f"{item.name} stays {item.present}: {item.why}" for item in items if item.action == "skip" and item.interrupts]
    result = {
        "plan": [item.to_dict() for item in items],
        "skipped_settings": skipped,
        "interrupted": sorted({item.nic for item in items if item.action == "set" and item.interrupts}),
        "notes": notes,
        "warnings": waiting,
    }
    return Work(differences, [item.why for item in items if item.action == "refuse"], result)


def run(
    options: Options, given: dict[str, Any], state: str, check: bool, force: bool = False, boot: bool = False
) -> dict[str, Any]:
    """What the module returns. given: the module's options, kept for the boot. boot: it is the unit that runs.

    Raises ChangeError, lock.Busy, journal.JournalError, objects.ObjectError, and reapply.Withdrawn at boot.
    """
    kept = {"options": {name: given[name] for name in ("nics", "reserve", "interrupt", "persist")}}

    def prepare() -> None:
        reapply.save(options.folder, _MEMORY, kept)
        if options.persist and objects.systemd():
            portable.install(options.folder, AGAIN.program, __name__)

    changer = Changer(OWNER, lambda found: study(options, found, boot), options.folder, prepare=prepare, deadman=options.deadman)
    result = change.run(changer, state, check, force)
    if state == "present" and not check:
        reapply.save(options.folder, _MEMORY, kept)
    elif state == "absent" and not check:
        reapply.forget(options.folder, _MEMORY)
    return result


def main(arguments: list[str]) -> int:
    """What the unit runs: the settings, where the driver lost them."""
    parser = argparse.ArgumentParser(prog=AGAIN.program, description="Set what NICs lost with their driver, once.")
    parser.add_argument("--folder", default=journal.FOLDER)
    folder = parser.parse_args(arguments).folder
    kept = reapply.load(folder, _MEMORY).get("options")
    return reapply.run(
        os.path.join(folder, _MEMORY),
        kept,
        lambda given: run(Options.from_params(given, folder), given, "present", False, boot=True),
    )
