# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Address translation that cannot work: forwarding off where rules need it, sources that nobody answers to. (D20)"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.module_utils._firewall.model import Action, Match, Rule

#: Kinds of links with somebody behind them whose packets this host passes on.
_INNER = ("bridge", "veth", "tun", "wireguard", "vxlan", "ipip", "gre", "ppp", "macvlan", "ipvlan")
_MOST_RULES = 20_000


def find(facts: Facts) -> list[Finding]:
    return _forwarding(facts) + _sources(facts)


def _actions(facts: Facts, *names: str) -> Iterator[tuple[Rule, Action]]:
    ruleset = facts.ruleset()
    for rule in (ruleset.rules if ruleset is not None else [])[:_MOST_RULES]:
        for part in rule.parts:
            if isinstance(part, Action) and part.name in names:
                yield rule, part


def _address(action: Action) -> str | None:
    """The one address that a rule translates to; None for ranges, maps and what is computed."""
    given = action.args.get("addr")
    try:
        return str(ipaddress.ip_address(given)) if isinstance(given, str) else None
    except ValueError:
        return None


def translated_to(facts: Facts) -> dict[str, Rule]:
    """Addresses elsewhere that rules send packets on to."""
    ruleset = facts.ruleset()
    chains = ruleset.chains if ruleset is not None else []
    hooked = {(one.backend, one.family, one.table, one.name) for one in chains if one.hook == "output"}
    found: dict[str, Rule] = {}
    for rule, action in _actions(facts, "dnat"):
        address = _address(action)
        if address is None or facts.own(address) or ipaddress.ip_address(address).is_loopback:
            continue
        if (rule.backend, rule.family, rule.table, rule.chain) not in hooked:
            found.setdefault(address, rule)
    return found


def _forwarding(facts: Facts) -> list[Finding]:
    if not facts.known("switches"):
        return []
    needed: dict[int, list[str]] = {4: [], 6: []}
    for address, rule in translated_to(facts).items():
        needed[6 if ":" in address else 4].append(f"{rule.where()} sends packets on to {address}: {rule.text}")
    for rule, _action in _actions(facts, "masquerade", "snat"):
        behind = _behind(facts, rule)
        if behind is not None:
            needed[behind[0]].append(f"{rule.where()} translates what comes from {behind[1]}: {rule.text}")
    out = []
    for family, why in needed.items():
        if why and _off(facts, family):
            name = "net.ipv4.ip_forward" if family == 4 else "net.ipv6.conf.all.forwarding"
            out.append(
                Finding(
                    "forwarding-off",
                    "likely",
                    "critical",
                    name,
                    f"{name} is 0, and rules translate packets that this host would have to pass on: it drops them.",
                    [f"{name} = 0, and no link of a default route forwards", *why[:8]],
                    [f"sysctl -w {name}=1", "# and keep it: a file in /etc/sysctl.d; which tool set it to 0?"],
                    ["D20"],
                    {"family": family},
                )
            )
    return out


def _off(facts: Facts, family: int) -> bool:
    switches: dict[str, dict[str, int]] = (facts.section("switches") or {}).get(f"ipv{family}") or {}
    if switches.get("all", {}).get("forwarding") != 0:
        return False
    # IPv4 looks at the link a packet comes by, whatever was said for all.
    return family == 6 or not any(one.get("forwarding") for link, one in switches.items() if link not in ("all", "default", "lo"))


def _behind(facts: Facts, rule: Rule) -> tuple[int, str] | None:
    """(family, whose packets) a rule translates on their way through: a network of an inner link with somebody on it."""
    matches = [part for part in rule.parts if isinstance(part, Match)]
    for part in matches:
        if part.left in ("ip saddr", "ip6 saddr") and part.op == "in":
            for one in part.values or []:
                network = _network(one)
                link = network and _inner(facts, network)
                if network is not None and link:
                    return network.version, f"{network} on {link}"
    return None


def _network(value: Any) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """A prefix of a rule, as ``["prefix", address, length]`` or as text."""
    text = f"{value[1]}/{value[2]}" if isinstance(value, list) and len(value) == 3 and value[0] == "prefix" else value
    try:
        return ipaddress.ip_network(text, strict=False) if isinstance(text, str) and "/" in text else None
    except ValueError:
        return None


def _inner(facts: Facts, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str | None:
    """The link that has an address of the network and somebody behind it."""
    links = facts.links
    ways = {hop.get("dev") for route in facts.default_routes() for hop in facts.hops(route)}
    for one in facts.items("addresses"):
        link = links.get(one["link"], {})
        if one["family"] != network.version or one["link"] in ways or link.get("kind") not in _INNER:
            continue
        if ipaddress.ip_address(one["address"]) not in network or not link.get("up") or not link.get("carrier"):
            continue
        # A bridge without ports may have carrier too.
        ports = [port for port in links.values() if port.get("master") == one["link"] and port.get("carrier")]
        if ports or link.get("kind") != "bridge":
            return str(one["link"])
    return None


def _sources(facts: Facts) -> list[Finding]:
    """Rules that let packets go out as an address of an own subnet that this host does not have: answers find nobody."""
    if (facts.section("sysctls") or {}).get("net.ipv4.ip_nonlocal_bind") == "1" or not facts.known("addresses"):
        return []  # an address that moves between hosts
    out = []
    told: set[str] = set()
    for rule, action in _actions(facts, "snat"):
        address = _address(action)
        if address is None or address in told or facts.own(address):
            continue
        near = _near(facts, address)
        alive = any(
            one["address"] == address and one.get("state") in ("reachable", "stale", "delay", "probe", "permanent")
            for one in facts.items("neighbours")
        )
        if near is None or _taken(facts, address) or alive:
            continue
        told.add(address)
        out.append(
            Finding(
                "nat-source-missing",
                "likely",
                "warning",
                rule.where(),
                f"{rule.where()} lets packets go out as {address}, which is no address of this host: answers find nobody.",
                [f"{rule.where()}: {rule.text}", f"{address} is in the subnet of {near}, on no link, and no neighbour has it"],
                [f"# did the host's address change? give the rule the present one, or: ip addr add {address}/PREFIX dev {near}"],
                ["D20"],
                {"address": address, "dev": near},
            )
        )
    return out


def _near(facts: Facts, address: str) -> str | None:
    number = ipaddress.ip_address(address)
    for one in facts.global_addresses():
        if number in ipaddress.ip_network(f"{one['address']}/{one['prefix']}", strict=False):
            return str(one["link"])
    return None


def _taken(facts: Facts, address: str) -> bool:
    """Is the address taken in without being on a link: a local route, or one that answers for it?"""
    number = ipaddress.ip_address(address)
    for one in facts.items("routes"):
        local = one.get("type") == "local" and one.get("dst") not in (None, "default")
        if local and number in ipaddress.ip_network(str(one["dst"]), strict=False):
            return True
    link = _near(facts, address) or ""
    answers = facts.section("sysctls") or {}
    return any(str(answers.get(f"net.ipv4.conf.{name}.proxy_arp")) == "1" for name in ("all", link))
