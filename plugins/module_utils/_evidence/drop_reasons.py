# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Which packets the kernel freed as dropped during a window: its reason, the function, the protocol."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence import tracing
from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Section
from ansible_collections.netops.fleet.plugins.module_utils._kernel import tracefs

EVENT = "skb/kfree_skb"
#: The tracer's buffer for all CPUs together, in KiB; about 20 events fit into one. What finds no room is counted as lost.
BUFFER_KIB = 4096
#: Different (reason, location, protocol) reported, most first.
LIMIT = 500

_LINE = re.compile(r"protocol=(\d+) location=(.*?)(?: reason: (\S+))?$")
_PROTOCOLS = {0: "none", 0x0800: "ipv4", 0x86DD: "ipv6", 0x0806: "arp", 0x8100: "vlan", 0x88CC: "lldp", 0x8847: "mpls"}


class DropReasons:
    """``begin`` starts to count, ``end`` stops and tells; between them the caller does what it likes."""

    def begin(self) -> tracing.Running:
        return tracing.begin("drop_reasons", _count)

    def end(self, running: tracing.Running) -> Section:
        """Data: ``{seconds, scope, total, lost, reasons: [{reason, location, protocol, count}]}``; null when not counted.

        scope: ``host``, or ``machine`` when this process sees a container of it only: the tracer cannot be narrowed to one
        network namespace, so drops of other containers are in it. reason: the kernel's name, null before 5.17. location: the
        function that freed the packet. protocol: by Ethernet type, ``none`` for packets that have none. total: without the
        lost. Some reasons are no fault (a closing socket, a packet for another host): names are given, judging is not done here.
        """
        section = Section(None, list(running.gaps))
        if running.channel is None:
            return section
        answer = tracing.end(running)
        if "error" in answer:
            section.gap("drop_reasons", str(answer["error"]))
            return section
        section.data = answer
        if answer["scope"] == "machine":
            section.gap(
                "drop_reasons.scope", "the tracer counts the whole machine, not this container or network namespace alone"
            )
        if answer["reasons"] and all(entry["reason"] is None for entry in answer["reasons"]):
            section.gap("drop_reasons.reason", "this kernel gives no drop reasons (they came with 5.17): functions only")
        if answer["lost"]:
            section.gap("drop_reasons.lost", f"{answer['lost']} more drops found no room in the buffer")
        return section


def _count(told: tracing.Signal) -> dict[str, Any] | None:
    """In the child: count until the parent wants the answer."""
    root = tracing.root()
    tracefs.remove_stale(root)
    if not os.path.isdir(f"{root}/events/{EVENT}"):
        raise OSError(2, f"the kernel has no event {EVENT}")
    instance = tracefs.Instance(root, tracefs.own_name())
    try:
        instance.open([EVENT], BUFFER_KIB)
        told.ready()
        if not told.wait():
            return None
        instance.stop()
        seconds = time.monotonic() - told.started
        with open(f"{instance.path}/trace", encoding="ascii", errors="replace") as lines:
            counts = count_lines(lines)
        return summary(counts, seconds, instance.lost())
    finally:
        instance.remove()


def protocol_name(ethertype: int) -> str:
    return _PROTOCOLS.get(ethertype, f"0x{ethertype:04x}")


def count_lines(lines: Any) -> Counter[tuple[str | None, str, int]]:
    """Count the events of a trace by (reason, function, protocol). Lines of other forms are passed over."""
    counts: Counter[tuple[str | None, str, int]] = Counter()
    for line in lines:
        found = _LINE.search(line)
        if found is not None:
            function = found[2].split("+", 1)[0].split(" ", 1)[0]
            counts[found[3], function, int(found[1])] += 1
    return counts


def summary(counts: Counter[tuple[str | None, str, int]], seconds: float, lost: int) -> dict[str, Any]:
    return {
        "seconds": round(seconds, 3),
        "scope": tracing.scope(),
        "total": sum(counts.values()),
        "lost": lost,
        "reasons": [
            {"reason": reason, "location": function, "protocol": protocol_name(protocol), "count": count}
            for (reason, function, protocol), count in counts.most_common(LIMIT)
        ],
    }
