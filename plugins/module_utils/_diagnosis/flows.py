# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""What the flows of Open vSwitch do to packets. (D32)"""

from __future__ import annotations

import ipaddress
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.target import Target
from ansible_collections.netops.fleet.plugins.module_utils._firewall.fixes import word

#: A bridge may speak any of them only; the highest that both speak is taken.
_SPEAK = "-O OpenFlow10,OpenFlow13,OpenFlow14,OpenFlow15"


def find(facts: Facts) -> list[Finding]:
    switch: dict[str, Any] = (facts.section("installed") or {}).get("ovs") or {}
    out = []
    for bridge in switch.get("bridges", ()):
        flows = bridge.get("flows")
        if flows is None:
            continue
        if bridge["fail_mode"] == "secure" and not flows["count"]:
            out.append(_empty(bridge))
        if facts.target is not None:
            own = [one["address"] for one in facts.items("addresses")] if facts.known("addresses") else []
            out += [_drop(bridge["name"], one, facts.target) for one in flows["drops"] if meets(one["match"], facts.target, own)]
    return out


def _empty(bridge: dict[str, Any]) -> Finding:
    name = bridge["name"]
    return Finding(
        "ovs-bridge-empty",
        "proven",
        "critical",
        name,
        f"Bridge {name} forwards nothing: it has no flow, and fail_mode secure makes none of its own.",
        [f"{name}: fail_mode secure, 0 flows, controllers {', '.join(one['target'] for one in bridge['controllers']) or 'none'}"],
        [
            f"# its controller is to make them: ovs-vsctl get-controller {word(name)}",
            f"# or, without one, as a plain switch: ovs-vsctl set-fail-mode {word(name)} standalone",
        ],
        ["D32"],
    )


def _drop(bridge: str, flow: dict[str, Any], target: Target) -> Finding:
    where = f"table={flow['table']},priority={flow['priority']},{flow['match']}"
    return Finding(
        "ovs-flow-drops",
        "likely",
        "critical",
        bridge,
        f"A flow of bridge {bridge} drops {target}: {where} has dropped {flow['packets']} packets.",
        [f"{bridge}: {where},actions=drop, n_packets={flow['packets']}"],
        [
            f"ovs-ofctl {_SPEAK} --strict del-flows {word(bridge)} {word(where)}",
            "# a controller that made it makes it again: change it there",
        ],
        ["D32"],
        {"bridge": bridge, "table": flow["table"], "priority": flow["priority"], "match": flow["match"]},
    )


def meets(match: str, target: Target, own: list[str]) -> bool:
    """Does the match name the target, by its port or address? What catches everything names nobody."""
    fields = dict(one.strip().partition("=")[::2] for one in match.split(","))
    protocols = {name for name in fields if name.rstrip("6") in ("tcp", "udp", "sctp", "icmp", "arp")}
    if protocols and not protocols & {target.proto, f"{target.proto}6"}:
        return False
    port = fields.get("tp_dst")
    where = fields.get("nw_dst") or fields.get("ipv6_dst")
    if "tp_src" in fields or (port is None and where is None):
        return False
    return (port is None or _port(port, target.port)) and (
        where is None or any(_inside(one, where) for one in ([target.address] if target.address else own))
    )


def _port(text: str, port: int) -> bool:
    """``1678``, or value and mask: ``0x10/0xfff0``."""
    value, masked, mask = text.partition("/")
    try:
        bits = int(mask, 0) if masked else 0xFFFF
        return port & bits == int(value, 0) & bits
    except ValueError:
        return False


def _inside(address: str, where: str) -> bool:
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(where, strict=False)
    except ValueError:
        return False
