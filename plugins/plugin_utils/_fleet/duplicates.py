# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This plugin util is PRIVATE to the collection. It can change at any time.
"""The same IP or link-layer address on two hosts of the fleet, and addresses that neighbours see elsewhere. (D19, D25)"""

from __future__ import annotations

import ipaddress
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet.text import clean

_MOST = 200_000
_PER_HOST, _NEIGHBOURS = 64, 512
#: Of several routers or for one service: VRRP, HSRP, multicast.
_SHARED_MACS = ("00:00:5e:00:", "00:00:0c:07:ac:", "01:00:5e:", "33:33:", "00:00:00:00:00:00")


class Duplicates:
    """First pass: who has which address, and what others see of it. Bounded."""

    def __init__(self) -> None:
        self._addresses: dict[str, list[tuple[str, str]]] = {}
        self._macs: dict[str, list[tuple[str, str]]] = {}
        self._seen: dict[str, dict[str, str]] = {}
        self._networks: dict[str, set[str]] = {}

    def count(self, host: str, evidence: dict[str, Any]) -> None:
        facts = Facts(evidence)
        links = facts.links
        # Addresses on lo are meant to be on several hosts: virtual addresses of a load balancer, anycast.
        own = [one for one in facts.global_addresses() if one["link"] != "lo" and not str(one["address"]).startswith("169.254.")]
        for one in own[:_PER_HOST]:
            mac = str(links.get(one["link"], {}).get("mac") or "")
            self._put(self._addresses, str(one["address"]), (host, mac))
            near = ipaddress.ip_network(f"{one['address']}/{one['prefix']}", strict=False)
            self._networks.setdefault(host, set()).add(str(near))
        for link in {str(one["link"]) for one in own[:_PER_HOST]}:
            mac = str(links.get(link, {}).get("mac") or "")
            if len(mac) == 17 and not mac.startswith(_SHARED_MACS):
                self._put(self._macs, mac, (host, link))
        for entry in facts.items("neighbours")[:_NEIGHBOURS]:
            mac = str(entry.get("mac") or "")
            if entry.get("state") in ("reachable", "stale", "delay", "probe") and mac and not mac.startswith(_SHARED_MACS):
                seen = self._seen.setdefault(str(entry["address"]), {}) if len(self._seen) < _MOST else {}
                if len(seen) < 4:
                    seen.setdefault(mac, host)

    @staticmethod
    def _put(table: dict[str, list[tuple[str, str]]], key: str, value: tuple[str, str]) -> None:
        if key in table or len(table) < _MOST:
            entries = table.setdefault(key, [])
            if len(entries) < 16 and value not in entries:
                entries.append(value)

    def findings(self, host: str, evidence: dict[str, Any]) -> list[Finding]:
        out = []
        facts = Facts(evidence)
        for address in sorted({str(one["address"]) for one in facts.global_addresses()}):
            owners = self._addresses.get(address, [])
            others = sorted({name for name, _mac in owners if name != host})
            if not any(name == host for name, _mac in owners):
                continue
            macs = {mac for _name, mac in owners}
            seen = self._seen.get(address, {})
            # Where everybody sees another one, a switch answers for the host; where some do, two answer.
            foreign = {mac: viewer for mac, viewer in seen.items() if mac not in macs} if macs & set(seen) else {}
            if others or foreign:
                out.append(_same_address(address, others, seen if others else foreign))
        shared = {mac: entries for mac, entries in self._macs.items() if len({name for name, _link in entries}) > 1}
        for mac, entries in sorted(shared.items()):
            mine = [link for name, link in entries if name == host]
            if mine:
                others = sorted({name for name, _link in entries if name != host})
                near = any(self._networks.get(host, set()) & self._networks.get(name, set()) for name in others)
                out.append(_same_mac(mac, mine[0], others, near))
        return out


def _same_address(address: str, others: list[str], seen: dict[str, str]) -> Finding:
    who = ", ".join(clean(one, 60) for one in others[:5]) or "a device that is not in this run"
    several = len(seen) > 1 or not others
    return Finding(
        "address-duplicate",
        "proven" if several else "likely",
        "critical",
        address,
        f"{address} is also on {who}: each of them gets a part of the packets.",
        [f"{clean(viewer, 60)} sees {address} at {clean(mac, 20)}" for mac, viewer in sorted(seen.items())]
        + [f"also configured on {clean(one, 60)}" for one in others[:10]],
        [
            "# give one of them another address; which one is meant to have it?",
            f"ip neigh flush to {address}   # on their neighbours, afterwards",
        ],
        ["D19", "D25"],
        {"address": address, "hosts": others},
    )


def _same_mac(mac: str, link: str, others: list[str], near: bool) -> Finding:
    """near: they share a subnet, so it is one segment."""
    who = ", ".join(clean(one, 60) for one in others[:5])
    return Finding(
        "mac-duplicate",
        "proven" if near else "likely",
        "critical" if near else "warning",
        f"{mac} on {link}",
        f"{link} has the same link-layer address as a link of {who}: in one segment the switch sends packets to either.",
        [f"{mac} is also on {clean(one, 60)}" for one in others[:10]],
        ["# cloned machines? let the network card, or the hypervisor, give each its own", f"ip link show dev {clean(link, 20)}"],
        ["D19"],
        {"mac": mac, "dev": link, "hosts": others},
    )
