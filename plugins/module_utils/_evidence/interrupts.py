# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Where NIC interrupts go, and who moves them: the machine's shape, NICs with their queues, irqbalance, units that bind. (T07)"""

from __future__ import annotations

import glob
import os
import re
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence import nic_queues, topology
from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Section
from ansible_collections.netops.fleet.plugins.module_utils._kernel import ethtool_netlink, procfs

#: Units that put interrupts on processors: ours, and those of vendors and databases.
_BINDER = re.compile(r"netops-fleet-irq|irq[-_]?affinity|mlnx[-_]affinity|perftune|set[-_]irq", re.IGNORECASE)


def read() -> Section:
    """Data: ``{topology, nics, channels: {nic: {now, most}}, irqbalance: {pid, policy} | null, binders: [unit]}``.

    topology, nics: as their to_dict gives them. channels: queue pairs, of NICs whose driver tells. policy: its policy script.
    """
    shape = topology.read()
    nics, gaps = nic_queues.read(shape)
    section = Section(
        {
            "topology": shape.to_dict(),
            "nics": [nic.to_dict() for nic in nics],
            "channels": {},
            "irqbalance": irqbalance(),
            "binders": binders(),
        },
        [*shape.gaps, *gaps],
    )
    if nics:
        _channels(section, [nic.name for nic in nics])
    return section


def _channels(section: Section, names: list[str]) -> None:
    try:
        with ethtool_netlink.Link() as tool:
            for name in names:
                try:
                    now, most = tool.get(name, "channels"), tool.limits(name, "channels")
                except OSError:
                    continue  # the driver has one queue, or does not tell
                # Drivers without combined channels count receive queues.
                key = "combined" if most.get("combined") else "rx"
                if most.get(key):
                    section.data["channels"][name] = {"now": now.get(key, 0), "most": most[key]}
    except OSError as error:
        section.gap("interrupts.channels", f"ethtool netlink (Linux 5.6): {procfs.reason(error)}")


def irqbalance() -> dict[str, Any] | None:
    """{pid, policy} of the running irqbalance, None when none runs in sight."""
    try:
        names = sorted((name for name in os.listdir("/proc") if name.isdigit()), key=int)
    except OSError:
        return None
    for name in names:
        if (procfs.text_or_none(f"/proc/{name}/comm", 64) or "").strip() == "irqbalance":
            words = (procfs.text_or_none(f"/proc/{name}/cmdline", 65536) or "").replace("\0", " ")
            return {"pid": int(name), "policy": policy_script(words)}
    return None


def policy_script(words: str) -> str | None:
    """The policy script among the words of a command."""
    match = re.search(r"(?:--policyscript[= ]|\s-l\s*)(\S+)", words)
    return match.group(1) if match else None


def binders() -> list[str]:
    """Units that are switched on and bind interrupts."""
    found = {os.path.basename(path) for path in glob.glob("/etc/systemd/system/*.wants/*.service")}
    return sorted(name for name in found if _BINDER.search(name))
