# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Channels, rings, coalescing, offloads and queue length of NICs: a pure function of what each has and takes, and rules."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

#: (driver, group) whose change does not stop traffic. All others restart the queues, and some drop the link.
_QUIET = frozenset((("virtio_net", "channels"),))
#: Features of the kernel's own code: switching them touches no hardware.
_SOFTWARE = frozenset(
    ("rx-gro", "rx-gro-list", "rx-udp-gro-forwarding", "tx-generic-segmentation", "tx-nocache-copy", "tx-gso-list")
)  # fmt: skip
MAX_QUEUE_LENGTH = 1_000_000


@dataclass(frozen=True)
class Nic:
    """What a NIC has. values: ``channels.combined`` → number as text, ``features.rx-gro`` → on or off, ``txqueuelen``.

    limits: most that it takes. fixed: features that cannot be switched. missing: group → why it has none of it.
    cores: usable cores of its node.
    """

    name: str
    driver: str | None
    values: dict[str, str] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    fixed: frozenset[str] = frozenset()
    missing: dict[str, str] = field(default_factory=dict)
    cores: int = 1


@dataclass(frozen=True)
class Rule:
    """match: patterns of NICs. wants: setting → number, ``max``, ``auto`` (channels), on or off."""

    match: tuple[str, ...]
    wants: dict[str, str]


@dataclass
class Item:
    """action: ``none``, ``set``, ``skip`` (it cannot be, or may not be) or ``refuse`` (it is out of range)."""

    nic: str
    setting: str
    present: str | None
    wanted: str
    action: str
    why: str = ""
    interrupts: bool = False

    @property
    def name(self) -> str:
        """As the journal calls it."""
        return f"{self.nic} {self.setting}"

    def to_dict(self) -> dict[str, Any]:
        return {
            "nic": self.nic,
            "setting": self.setting,
            "present": self.present,
            "wanted": self.wanted,
            "action": self.action,
            "why": self.why,
            "interrupts": self.interrupts,
        }


def chosen(name: str, driver: str | None, patterns: Collection[str]) -> bool:
    """Is this NIC meant by one of ``ens1``, ``ens*``, ``driver:mlx5_core``?"""
    for pattern in patterns:
        kind, _colon, of_driver = pattern.partition(":")
        if kind == "driver" and of_driver:
            if fnmatch.fnmatchcase(driver or "", of_driver):
                return True
        elif fnmatch.fnmatchcase(name, pattern):
            return True
    return False


def make(nics: list[Nic], rules: list[Rule], interrupt: bool) -> list[Item]:
    """Rules in order, a later one beats an earlier one. interrupt: changes that stop traffic may be made."""
    items = []
    for nic in nics:
        wants: dict[str, str] = {}
        for rule in rules:
            if chosen(nic.name, nic.driver, rule.match):
                wants.update(rule.wants)
        items += [_item(nic, setting, wanted, interrupt) for setting, wanted in sorted(wants.items())]
    return items


def interrupts(driver: str | None, setting: str) -> bool:
    """Does changing this stop the NIC's traffic for a moment?"""
    group, _dot, key = setting.partition(".")
    if group == "features":
        return key not in _SOFTWARE
    return group in ("channels", "rings") and (driver or "", group) not in _QUIET


def _item(nic: Nic, setting: str, wanted: str, interrupt: bool) -> Item:
    group, _dot, key = setting.partition(".")
    present, limit = nic.values.get(setting), nic.limits.get(setting)
    item = Item(nic.name, setting, present, wanted, "set")
    if present is None:
        item.action = "skip"
        item.why = nic.missing.get(group) or f"driver {nic.driver or 'unknown'} has no {setting}"
        return item
    if wanted in ("max", "auto") and limit is None:
        item.action, item.why = "skip", f"driver {nic.driver or 'unknown'} does not say how much it takes"
        return item
    if wanted == "max":
        item.wanted, item.why = str(limit), "the most that the driver takes"
    elif wanted == "auto":
        item.wanted = str(max(1, min(limit or 1, nic.cores)))
        item.why = f"one for each usable core of its node ({nic.cores}), the driver takes {limit}"
    elif limit is not None and wanted.isdigit() and int(wanted) > limit:
        item.action, item.why = "refuse", f"{item.name} is to be {wanted}; the driver takes at most {limit}"
        return item
    if item.wanted == present:
        item.action = "none"
        return item
    if group == "features" and key in nic.fixed:
        item.action, item.why = "skip", f"driver {nic.driver or 'unknown'} does not let {key} be switched"
        return item
    item.interrupts = interrupts(nic.driver, setting)
    if item.interrupts and not interrupt:
        item.action = "skip"
        item.why = f"changing it makes {nic.driver or 'the driver'} restart its queues, or drop the link: set interrupt: true"
    return item
