# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Routers passed where there should be none, or not always as many: what the time to live of answers says. (D25)"""

from __future__ import annotations

import ipaddress
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.module_utils._firewall.fixes import word

#: What systems start with: Linux and BSD 64, Windows 128, routers and some phones 255, old ones 32.
_STARTS = (32, 64, 128, 255)
#: Routers a packet may have to pass; the longest ways through the internet are below it.
_FAR = 32


def find(facts: Facts) -> list[Finding]:
    return _own(facts) + [one for probe in facts.probes("ping") for one in _answers(facts, probe)]


def passed(ttl: int) -> int:
    """Routers that an answer passed, if it started with the nearest usual number."""
    return min(start for start in _STARTS if start >= ttl) - ttl


def _own(facts: Facts) -> list[Finding]:
    name = "net.ipv4.ip_default_ttl"
    value = str((facts.section("sysctls") or {}).get(name) or "")
    if not value.isdigit() or int(value) >= _FAR:
        return []
    return [
        _finding(
            name,
            "proven",
            "warning",
            f"Packets of this host end after {int(value)} routers: far hosts are never reached.",
            [f"{name} is {value}; 64 is usual"],
            [f"sysctl -w {name}=64", f"# and where it is set: grep -r {name} /etc/sysctl.conf /etc/sysctl.d"],
            {"name": name},
        )
    ]


def _answers(facts: Facts, probe: dict[str, Any]) -> list[Finding]:
    given = [one for one in probe.get("ttl") or [] if isinstance(one, int) and 0 < one <= 255]
    address = str(probe.get("address") or probe["target"])
    if not given:
        return []
    said = f"answers of {address} came with a TTL of {', '.join(str(one) for one in given)}"
    if len(given) > 1:
        return [
            _finding(
                address,
                "likely",
                "info",
                f"Answers of {address} passed different numbers of routers: two ways back, or two hosts with the address.",
                [said],
                [f"# compare: ip neigh show to {word(address)}; and the path, several times (net_probe with kind path)"],
                {"address": address},
            )
        ]
    routers = passed(given[0])
    within = near(facts, address)
    if not within or not routers or facts.own(address):
        return []
    return [
        _finding(
            address,
            "likely",
            "info",
            f"{address} is in the subnet of {within}, yet its answers passed {routers} router(s): somebody else answers for it.",
            [said, f"{address} is in the subnet of {within}"],
            [
                f"ip neigh show to {word(address)}",
                "# whose link-layer address is that? proxy ARP, or a wrong prefix",
            ],
            {"address": address, "dev": within},
        )
    ]


def near(facts: Facts, address: str) -> str | None:
    """The link in whose subnet the address is; None for one behind a router, and for a name."""
    try:
        number = ipaddress.ip_address(address)
    except ValueError:
        return None
    for one in facts.global_addresses():
        network = ipaddress.ip_network(f"{one['address']}/{one['prefix']}", strict=False)
        if number in network and network.num_addresses > 2:
            return str(one["link"])
    return None


def _finding(
    subject: str, grade: str, severity: str, summary: str, evidence: list[str], fix: list[str], data: dict[str, Any]
) -> Finding:
    return Finding("hop-count-odd", grade, severity, subject, summary, evidence, fix, ["D25"], data)
