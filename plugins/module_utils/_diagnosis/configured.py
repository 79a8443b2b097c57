# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Links as their configuration wants them, against the kernel. What is there beyond it is no fault: virtual addresses. (D08)"""

from __future__ import annotations

import ipaddress
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.module_utils._firewall.fixes import word

#: How each service is made to do what its files say.
APPLY = {
    "systemd-networkd": "networkctl reload && networkctl reconfigure {link}",
    "NetworkManager": "nmcli connection reload && nmcli device reapply {link}",
    "ifupdown": "ifdown --force {link}; ifup {link}",
    "initscripts": "ifdown {link}; ifup {link}",
    "wicked": "wicked ifreload {link}",
}
CAUTION = "# this interrupts the link: not over the connection you work on"


def find(facts: Facts) -> list[Finding]:
    found: dict[str, Any] | None = facts.section("configured")
    if not found or not facts.known("links") or not facts.known("addresses"):
        return []
    return [one for entry in found["links"] for one in _link(facts, entry)] + [_unapplied(entry) for entry in found["unapplied"]]


def _link(facts: Facts, entry: dict[str, Any]) -> list[Finding]:
    name, where = entry["link"], f"{entry['file']} ({entry['manager']})"
    link = facts.links.get(name)
    if link is None:
        why = f"{where} is to bring up {name}, and there is no such link: was the card renamed or taken out?"
        return [_finding(entry, why, [f"links that are there: {', '.join(sorted(facts.links)[:12])}"], ["ip -br link"])]
    if not link.get("up"):
        # ifupdown's links may have been taken down by hand; the file still wants them up at the next boot.
        return [_finding(entry, f"{where} configures {name}, and {name} is switched off.", [f"{name}: admin down"], None)]
    if link.get("carrier") is False:
        return []  # nobody configures a link without a cable; interface-no-carrier says so
    own = [one for one in facts.items("addresses") if one["link"] == name]
    have = {(str(ipaddress.ip_address(one["address"])), one["prefix"]) for one in own}
    missing, other = [], []
    for value in entry["addresses"]:
        wanted = ipaddress.ip_interface(value)
        prefixes = [prefix for address, prefix in have if address == str(wanted.ip)]
        if not prefixes:
            missing.append(value)
        elif wanted.network.prefixlen not in prefixes:
            other.append(f"{value}, in the kernel /{prefixes[0]}")
    lines = [f"{name} has {', '.join(sorted(f'{address}/{prefix}' for address, prefix in have)) or 'no address'}"]
    if entry.get("state") not in (None, "configured"):
        lines.append(f"{entry['manager']} says: {entry['state']}")
    if missing or other:
        said = ", ".join([*missing, *other])
        return [_finding(entry, f"{where} gives {name} {said}: the kernel does not have it so.", lines, None)]
    if entry["dhcp4"] and not entry["addresses"] and not any(one["family"] == 4 and one["scope"] == "global" for one in own):
        return [_finding(entry, f"{where} lets {name} ask DHCP, and {name} has no IPv4 address: nobody answered.", lines, None)]
    return []


def _finding(entry: dict[str, Any], summary: str, evidence: list[str], fix: list[str] | None) -> Finding:
    asked = f"addresses {', '.join(entry['addresses']) or 'none'}, DHCP {'yes' if entry['dhcp4'] else 'no'}"
    apply = APPLY[entry["manager"]].format(link=word(entry["link"]))
    return Finding(
        "interface-config-differs",
        "likely",
        "warning",
        entry["link"],
        summary,
        [f"{entry['file']}: {asked}", *evidence],
        fix or [apply, CAUTION],
        ["D08"],
        {"link": entry["link"], "file": entry["file"], "manager": entry["manager"]},
    )


def _unapplied(entry: dict[str, Any]) -> Finding:
    return Finding(
        "interface-config-differs",
        "likely",
        "info",
        entry["file"],
        f"{entry['file']} was changed after netplan last ran: what it says is not in force yet.",
        [f"{entry['file']} is {entry['newer_s']:.0f} s newer than what netplan wrote for networkd or NetworkManager"],
        ["netplan try", CAUTION],
        ["D08"],
        {"file": entry["file"], "manager": "netplan"},
    )
