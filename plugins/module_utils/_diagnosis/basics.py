# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""What a host needs before any service works: links, addresses, neighbours, names, clock. (D07, D08, D19, D22)"""

from __future__ import annotations

import ipaddress
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import nat
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import STACKED, Facts
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.module_utils._firewall.fixes import word

#: Seconds a clock may be off (D22).
CLOCK_LIMIT = 5.0

_DEAD = ("timeout", "unreachable")


def find(facts: Facts) -> list[Finding]:
    return links(facts) + duplicates(facts) + neighbours(facts) + resolvers(facts) + clock(facts)


def links(facts: Facts) -> list[Finding]:
    """A card that is switched on but has no carrier, or has carrier and no address."""
    out = []
    addressed = {one["link"] for one in facts.items("addresses") if one.get("scope") in ("global", "site")}
    # A bridge port, a bond member or the lower device of a VLAN needs no address of its own.
    lower = {one.get("peer_index") for one in facts.items("links") if one.get("kind") in STACKED}
    used = {one.get("dev") for one in facts.default_routes()}
    silent = {one["name"]: one.get("down_because") for one in facts.items("physical")}
    for link in facts.items("links"):
        if not link.get("up") or not (link.get("physical") or link["name"] in used):
            continue
        name = link["name"]
        if link.get("carrier") is False:
            out.append(
                Finding(
                    id="interface-no-carrier",
                    grade="proven",
                    severity="warning",
                    subject=name,
                    summary=f"{name} is switched on but has no carrier: cable, transceiver or switch port.",
                    evidence=[
                        f"{name}: admin up, carrier 0, operstate {link.get('operstate')}",
                        f"{link.get('carrier_changes', 'not known how many')} carrier changes since boot",
                        *(f"the card says: {why}" for why in [silent.get(name)] if why),
                    ],
                    fix=[f"ethtool {word(name)}", f"# if the port is not meant to be used: ip link set dev {word(name)} down"],
                    requirement=["D08", "D23"],
                    data={"link": name},
                )
            )
        elif (
            facts.known("addresses")
            and name not in addressed
            and not link.get("master")
            and link.get("index") not in lower
            and not _unnumbered(facts, name)
        ):
            out.append(
                Finding(
                    id="interface-no-address",
                    grade="likely",
                    severity="warning",
                    subject=name,
                    summary=f"{name} is up and has carrier but no address.",
                    evidence=[f"{name}: carrier 1, no global IPv4 or IPv6 address, member of no bridge or bond"],
                    fix=[
                        "# was it forgotten in netplan, ifupdown or NetworkManager, or did DHCP fail?",
                        "journalctl -u systemd-networkd -u NetworkManager -n 50",
                    ],
                    requirement=["D08"],
                    data={"link": name},
                )
            )
    return out


def _unnumbered(facts: Facts, name: str) -> bool:
    """Routes lead through the link and the host's address is kept on lo, as on hosts that speak BGP to their switches."""
    if not any(one["link"] == "lo" for one in facts.global_addresses()):
        return False
    return any(
        one.get("table") == 254 and one.get("type") in (None, "unicast") and name in {hop.get("dev") for hop in facts.hops(one)}
        for one in facts.items("routes")
        if not str(one.get("dst")).startswith(("fe80:", "ff00:", "169.254."))
    )


def duplicates(facts: Facts) -> list[Finding]:
    """IPv6 addresses that another host of the segment has: the kernel asked before it used them. IPv4 is left to the fleet."""
    return [
        Finding(
            id="address-duplicate",
            grade="proven",
            severity="critical",
            subject=one["address"],
            summary=f"{one['address']} on {one['link']} is not used: another host of the segment has it.",
            evidence=[f"{one['address']} dev {one['link']}: dadfailed"],
            fix=[
                "# give it another address, then:",
                f"ip -6 addr del {_plain(one['address'])}/{one['prefix']} dev {word(one['link'])}",
            ],
            requirement=["D19", "D25"],
            data={"address": one["address"], "dev": one["link"]},
        )
        for one in facts.items("addresses")
        if "dadfailed" in (one.get("flags") or [])
    ]


def neighbours(facts: Facts) -> list[Finding]:
    """A gateway, resolver or peer in the subnet that does not answer ARP or neighbour discovery."""
    wanted: dict[str, str] = {}
    wanted.update({address: f"target of {rule.where()}" for address, rule in nat.translated_to(facts).items()})
    for peer in facts.evidence.get("peers") or []:
        wanted[peer["address"]] = f"peer {peer['host']}"
    for server in (facts.section("names") or {}).get("servers") or []:
        wanted[str(server)] = "resolver"
    if facts.target is not None and facts.target.address is not None:
        wanted[facts.target.address] = "target"
    for route in facts.default_routes():
        for hop in facts.hops(route):
            if hop.get("via"):
                wanted[hop["via"]] = "default gateway"
    out = []
    for one in facts.items("neighbours"):
        role = wanted.get(one["address"])
        if role is None or one.get("state") not in ("failed", "incomplete"):
            continue
        sure = one["state"] == "failed"
        asked = "ARP" if one.get("family") == 4 else "neighbour discovery"
        out.append(
            Finding(
                id="neighbour-failed",
                grade="proven" if sure else "likely",
                severity="critical" if role == "default gateway" else "warning",
                subject=f"{one['address']} on {one['dev']}",
                summary=f"The {role} {one['address']} does not answer {asked} on {one['dev']}.",
                evidence=[f"neighbour {one['address']} dev {one['dev']} state {one['state']}"],
                fix=[
                    f"ip neigh show dev {word(one['dev'])}",
                    "# same segment and VLAN? is the address right? once mended, forget the failure:",
                    f"ip neigh flush dev {word(one['dev'])} to {_plain(one['address'])}",
                ],
                requirement=["D19"],
                data={"address": one["address"], "dev": one["dev"], "role": role},
            )
        )
    return out


def resolvers(facts: Facts) -> list[Finding]:
    """A configured name server that answers nothing at all."""
    names: dict[str, Any] | None = facts.section("names")
    if not names:
        return []
    asked: dict[str, list[dict[str, Any]]] = {}
    for one in names.get("lookups") or []:
        asked.setdefault(str(one["server"]), []).append(one)
    dead = sorted(server for server, answers in asked.items() if all(one["status"] in _DEAD for one in answers))
    out = []
    source = names.get("source") or "/etc/resolv.conf"
    for server in dead:
        alone = len(dead) == len(asked)
        out.append(
            Finding(
                id="resolver-dead",
                grade="proven",
                severity="critical" if alone else "warning",
                subject=server,
                summary=f"The resolver {server} does not answer"
                + (": no name can be resolved." if alone else ", every lookup that tries it first waits."),
                evidence=[
                    f"{one['name'] or '.'} {one['type']}: {one['status']} after {one.get('ms', '?')} ms"
                    for one in asked[server][:4]
                ]
                + [f"configured in {source}, {len(asked)} server(s) in all"],
                fix=[f"# is {server} up and reachable on 53/udp? otherwise take it out of {source}"],
                requirement=["D07"],
                data={"server": server, "address": server},
            )
        )
    failing: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for one in names.get("lookups") or []:
        if one["status"] in ("wrong", "servfail") and one.get("name") not in ("", ".", None):
            failing.setdefault((str(one["server"]), str(one["name"])), []).append(one)
    return out + [_fails(server, name, answers) for (server, name), answers in failing.items()]


def _fails(server: str, name: str, answers: list[dict[str, Any]]) -> Finding:
    said = ", ".join(f"{one['status']} ({one['type']})" for one in answers)
    return Finding(
        id="resolver-fails",
        grade="proven",
        severity="warning",
        subject=f"{name} at {server}",
        summary=f"The resolver {server} answers {said} for {name}.",
        evidence=[f"{name} {one['type']} at {server}: {one['status']} after {one.get('ms', '?')} ms" for one in answers],
        fix=[f"# ask the resolver's owner; compare: dig @{_plain(server)} {answers[0]['type']} NAME"],
        requirement=["D07"],
        data={"server": server, "name": name},
    )


def _plain(server: object) -> str:
    """A server only ever goes into a command as an address."""
    try:
        return str(ipaddress.ip_address(str(server).split("%", 1)[0]))
    except ValueError:
        return "SERVER"


def clock(facts: Facts) -> list[Finding]:
    """The host's clock against time servers it asked; the controller adds its own comparison."""
    found: dict[str, Any] | None = facts.section("clock")
    if not found:
        return []
    off = [
        one for one in found.get("servers") or [] if one.get("offset_s") is not None and abs(float(one["offset_s"])) > CLOCK_LIMIT
    ]
    if not off:
        return []
    return [
        Finding(
            id="clock-offset",
            grade="proven",
            severity="warning",
            subject="clock",
            # offset_s is server minus host; what is said is host minus server, as the controller's comparison says it.
            summary=f"The clock is {-float(off[0]['offset_s']):+.1f} s off: certificates, tokens and log order go wrong.",
            evidence=[f"host minus {one['server']}: {-float(one['offset_s']):+.3f} s" for one in off[:4]]
            + [f"synchronised according to the kernel: {found.get('synchronised')}"],
            fix=["timedatectl set-ntp true", "# with chrony: chronyc makestep"],
            requirement=["D22"],
        )
    ]
