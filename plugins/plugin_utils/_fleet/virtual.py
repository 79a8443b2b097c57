# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This plugin util is PRIVATE to the collection. It can change at any time.
"""Virtual addresses that keepalived moves between hosts of the run, and that none of them has. (D31)"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet.text import clean

_MOST, _PER_HOST = 100_000, 256


@dataclass
class _Seat:
    """A host that may have an address. has: it does. why: what keeps it from having it, as far as can be seen."""

    host: str
    has: bool
    why: str


class VirtualAddresses:
    """First pass: who may have which address, and who has it. Second pass: addresses that nobody has."""

    def __init__(self) -> None:
        self._seats: dict[tuple[int, str], list[_Seat]] = {}

    def count(self, host: str, evidence: dict[str, Any]) -> None:
        facts = Facts(evidence)
        keepalived = (facts.section("installed") or {}).get("keepalived")
        if not keepalived or not facts.known("addresses") or not facts.known("links"):
            return
        for one in keepalived["instances"][:_PER_HOST]:
            link = facts.links.get(str(one.get("interface")))
            why = "keepalived runs"
            if not keepalived["running"]:
                why = "keepalived does not run"
            elif one.get("interface") and (link is None or not link.get("up") or link.get("carrier") is False):
                why = f"its interface {one['interface']} is down, or not there"
            for address in one["addresses"][:_PER_HOST]:
                key = (int(one.get("router") or 0), str(address))
                if key in self._seats or len(self._seats) < _MOST:
                    self._seats.setdefault(key, []).append(_Seat(host, facts.own(str(address)), why))

    def findings(self, host: str, _evidence: dict[str, Any]) -> list[Finding]:
        out = []
        for (router, address), seats in sorted(self._seats.items()):
            # With one seat in the run the address may be on the other one.
            if len(seats) < 2 or any(one.has for one in seats) or all(one.host != host for one in seats):
                continue
            shown = ", ".join(clean(one.host, 60) for one in seats[:5])
            out.append(
                Finding(
                    "virtual-address-lost",
                    "proven",
                    "critical",
                    address,
                    f"None of {shown} has the virtual address {clean(address, 60)}: nobody answers for it.",
                    [f"{clean(one.host, 60)}: {clean(one.why, 100)}, without the address" for one in seats[:10]]
                    + [f"virtual router {router}"],
                    ["journalctl -u keepalived -n 50", "systemctl restart keepalived"],
                    ["D31"],
                    {"address": address, "router": router},
                )
            )
        return out[:20]
