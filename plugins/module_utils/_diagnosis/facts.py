# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Evidence as findings read it: sections by name, gaps by section, and a few questions asked again and again."""

from __future__ import annotations

import ipaddress
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.target import Target
from ansible_collections.netops.fleet.plugins.module_utils._firewall import model

#: Kinds of links that lie on another one (its index is their peer_index).
STACKED = ("vlan", "macvlan", "ipvlan", "macsec")


class Facts:
    """One host's evidence. A section that was not read is None: a finding must not read that as "nothing there"."""

    def __init__(self, evidence: dict[str, Any], ruleset: model.Ruleset | None = None) -> None:
        self.evidence = evidence
        self._ruleset = ruleset
        self._sections: dict[str, Any] = evidence.get("sections") or {}
        raw = evidence.get("target")
        self.target = Target(raw["proto"], raw["port"], raw.get("address")) if raw else None

    def section(self, name: str) -> Any:
        return self._sections.get(name)

    @property
    def asked(self) -> Target:
        """The target, for findings that are only made when there is one."""
        if self.target is None:
            raise ValueError("this evidence is about no target")
        return self.target

    def ruleset(self) -> model.Ruleset | None:
        """The packet filter; built once from its section unless the reader's own object was handed in."""
        raw = self._sections.get("firewall")
        if self._ruleset is None and raw is not None:
            self._ruleset = model.Ruleset.from_dict(raw)
        return self._ruleset

    def items(self, name: str) -> list[dict[str, Any]]:
        """A section that is a list; empty when it was not read (check ``known`` where that matters)."""
        found = self._sections.get(name)
        return found if isinstance(found, list) else []

    def known(self, name: str) -> bool:
        return self._sections.get(name) is not None

    def gaps(self, section: str) -> list[dict[str, str]]:
        for entry in self.evidence.get("coverage") or []:
            if entry["section"] == section:
                return list(entry.get("gaps") or [])
        return []

    @property
    def links(self) -> dict[str, dict[str, Any]]:
        return {link["name"]: link for link in self.items("links")}

    def way_in(self, own: dict[str, Any]) -> str | None:
        """The interface by which packets for an own address come: its own; for one kept on lo that of the default route."""
        if own["link"] != "lo":
            return str(own["link"])
        ways = {one.get("dev") for one in self.default_routes() if one.get("family") == own["family"]}
        return ways.pop() if len(ways) == 1 else None

    def under(self, link: str | None) -> tuple[str, ...]:
        """Interfaces that a packet passes before this one: ports of a bridge, members of a bond, what a VLAN lies on."""
        found: list[str] = []
        todo = [link]
        links = self.links
        by_index = {one.get("index"): name for name, one in links.items()}
        while todo and len(found) < 64:
            name = todo.pop()
            below = [one["name"] for one in self.items("links") if name and one.get("master") == name]
            this = links.get(name or "", {})
            if this.get("kind") in STACKED and not this.get("peer_elsewhere") and this.get("peer_index") in by_index:
                below.append(by_index[this["peer_index"]])
            new = [one for one in below if one not in found]
            found += new
            todo += new
        return tuple(found)

    def way_out(self, address: str) -> str | None:
        """The interface of the main table's most specific route to an address; None where policy rules may say otherwise."""
        number = ipaddress.ip_address(address)
        if self.policy(6 if number.version == 6 else 4):
            return None
        best: tuple[int, int] | None = None
        found: str | None = None
        for one in self.items("routes"):
            if one.get("family") != number.version or one.get("table") != 254:
                continue
            network = ipaddress.ip_network("::/0" if number.version == 6 else "0.0.0.0/0") if one["dst"] == "default" else None
            network = network or ipaddress.ip_network(one["dst"], strict=False)
            rank = (network.prefixlen, -int(one.get("metric") or 0))
            if number in network and (best is None or rank > best):
                best, found = rank, one.get("dev") if one.get("type") in (None, "unicast") else None
        return found

    def policy(self, family: int) -> bool:
        """Policy rules beyond the three that every host has."""
        return any(one.get("table") not in (253, 254, 255) for one in self.items("policy_rules") if one.get("family") == family)

    def leads_back(self, sender: str, own: dict[str, Any], link: str | None) -> bool | None:
        """True when a route through ``link`` leads to the sender; None when that is not certain (policy rules, other routes)."""
        family = own["family"]
        if self.policy(family):
            return None
        hops = [hop for route in self.default_routes() if route.get("family") == family for hop in self.hops(route)]
        if link is not None and link in {hop.get("dev") for hop in hops}:
            return True
        near = ipaddress.ip_network(f"{own['address']}/{own['prefix']}", strict=False)
        return True if link == own["link"] and ipaddress.ip_address(sender.split("%", 1)[0]) in near else None

    def global_addresses(self) -> list[dict[str, Any]]:
        """Addresses others can reach: global scope, link up, usable."""
        links = self.links
        inner = self._inner()
        return [
            one
            for one in self.items("addresses")
            if one.get("scope") == "global"
            and not is_loopback(one["address"])
            and not {"tentative", "dadfailed"} & set(one.get("flags") or [])
            and links.get(one["link"], {}).get("up", True)
            and one["link"] not in inner
        ]

    def _inner(self) -> set[str]:
        """Bridges that only this host's containers and guests hang on: no hardware under them, and no route to elsewhere."""
        routed = {hop.get("dev") for route in self.default_routes() for hop in self.hops(route)}
        outward = {one.get("master") for one in self.items("links") if one.get("kind") not in ("veth", "tun")}
        bridges = {one["name"] for one in self.items("links") if one.get("kind") == "bridge"}
        return bridges - routed - outward if routed else set()

    def own(self, address: str) -> bool:
        return any(one["address"] == address for one in self.items("addresses"))

    def default_routes(self) -> list[dict[str, Any]]:
        return [one for one in self.items("routes") if one.get("dst") == "default" and one.get("type") in (None, "unicast")]

    @staticmethod
    def hops(route: dict[str, Any]) -> list[dict[str, Any]]:
        """The next hops of a route: itself, or those of a multipath route as well."""
        return [route, *(route.get("nexthops") or [])]

    def listeners(self, proto: str, port: int) -> list[dict[str, Any]]:
        sockets = self.section("sockets") or {}
        return [one for one in sockets.get("listeners") or [] if one["proto"] == proto and one["port"] == port]

    def probes(self, kind: str) -> list[dict[str, Any]]:
        return [one for one in self.items("probes") if one.get("kind") == kind]


def is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address.split("%", 1)[0]).is_loopback
    except ValueError:
        return False


def is_wildcard(address: str) -> bool:
    return address in ("0.0.0.0", "::", "*")


def neighbour_of(address: str, prefix: int) -> str:
    """Another address of the same subnet: the sender a walk assumes when no peer is named."""
    network = ipaddress.ip_network(f"{address}/{prefix}", strict=False)
    own = ipaddress.ip_address(address)
    first = network.network_address + (1 if network.num_addresses > 2 else 0)
    if first == own:
        first = own + 1 if (own + 1) in network else own - 1
    return str(first)


def shown_process(listener: dict[str, Any]) -> str:
    """``python3 (pid 812, model-server.service)``"""
    if listener.get("pid") is None:
        return "a process that could not be told"
    unit = f", {listener['unit']}" if listener.get("unit") else ""
    return f"{listener.get('process') or '?'} (pid {listener['pid']}{unit})"


def shown_address(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
