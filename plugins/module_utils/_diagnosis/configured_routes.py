# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Static routes of configuration files that the kernel does not have. What it has beyond them is no fault. (D08, D18)"""

from __future__ import annotations

import ipaddress
import os
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import configured
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.module_utils._firewall.fixes import word

Route = dict[str, Any]

_MAIN, _MOST_LINES = 254, 12
#: What the kernel takes for IPv6 where no metric is said.
_USUAL_METRIC6 = 1024
#: networkd is still at work on these links.
_UNDER_WAY = ("pending", "initialized", "configuring")
#: Services that put a default route in the place of another link's: which of them came last is not told.
_REPLACING = ("ifupdown", "initscripts", "wicked")


class _Kernel:
    """What the kernel has; built once, as a host may have many routes."""

    def __init__(self, facts: Facts) -> None:
        self.links = facts.links
        self.addresses = facts.items("addresses")
        self._routes: dict[str, list[Route]] = {}
        for one in facts.items("routes"):
            self._routes.setdefault(_network(one), []).append(one)

    def to(self, one: Route) -> list[Route]:
        """Routes to the same destination, of all tables."""
        return self._routes.get(_network(one), [])

    def link(self, one: Route) -> str | None:
        """The link that a route of a file is about; where that names none, the one in whose subnet its gateway is."""
        if one["link"] or one["dev"]:
            return str(one["link"] or one["dev"])
        via = [address for address in map(ipaddress.ip_address, one["via"]) if not address.is_link_local]
        for own in self.addresses:
            network = ipaddress.ip_network(f"{own['address']}/{own['prefix']}", strict=False)
            if any(address in network for address in via):
                return str(own["link"])
        return None

    def ready(self, link: str, one: Route) -> bool:
        """Could it be there? A link that is off or has no cable or no address has no routes, and a finding of its own."""
        for name in (link, one["dev"] or link):
            found = self.links.get(name)
            if found is None or not found.get("up") or found.get("carrier") is False:
                return False
        if one["state"] in _UNDER_WAY:
            return False
        return one["onlink"] or any(own["link"] == link and own["family"] == one["family"] for own in self.addresses)

    def has(self, link: str, one: Route) -> bool:
        master = self.links.get(self.links.get(link, {}).get("master") or "", {})
        # Routes of a link in a VRF are in the table of that, where none is said.
        anywhere = master.get("kind") == "vrf" and one["table"] == _MAIN
        same = [each for each in self.to(one) if anywhere or each["table"] == one["table"]]
        if one["type"] != "unicast":
            return any(each["type"] == one["type"] for each in same)
        # NetworkManager makes the metric of a default route larger while it sees no way out.
        free = not one["metric"] or (one["manager"] == "NetworkManager" and one["dst"] == "default")
        same = [each for each in same if each["type"] in (None, "unicast") and (free or each["metric"] == one["metric"])]
        if one.get("nexthop"):
            return bool(same)
        ways = {_address(hop["via"]) for each in same for hop in Facts.hops(each) if one["dev"] in (None, hop["dev"])}
        return {_address(via) for via in one["via"] or [None]} <= ways


def find(facts: Facts) -> list[Finding]:
    routes: list[Route] = (facts.section("configured") or {}).get("routes") or []
    # A table that was read in part lacks routes that are there.
    if not routes or not all(map(facts.known, ("links", "addresses", "routes"))) or facts.gaps("routes"):
        return []
    kernel = _Kernel(facts)
    taken = _taken(kernel, routes)
    lost: dict[tuple[str, str, str], list[Route]] = {}
    for one in routes:
        link = kernel.link(one)
        if link and kernel.ready(link, one) and not kernel.has(link, one) and _place(one) not in taken:
            lost.setdefault((link, one["manager"], one["file"]), []).append(one)
    return [_finding(kernel, *key, found) for key, found in sorted(lost.items(), key=lambda item: item[0])]


def _place(one: Route) -> tuple[Any, ...]:
    return (one["manager"], _network(one), one["table"], one["metric"] or 0)


def _taken(kernel: _Kernel, routes: list[Route]) -> set[tuple[Any, ...]]:
    """Places in the tables that two files want, where one of them has it."""
    found = set()
    for one in routes:
        link = kernel.link(one)
        if one["manager"] in _REPLACING and link and kernel.has(link, one):
            found.add(_place(one))
    return found


def _network(one: Route) -> str:
    if one["dst"] == "default":
        return "0.0.0.0/0" if one["family"] == 4 else "::/0"
    return str(ipaddress.ip_network(one["dst"], strict=False))


def _address(text: str | None) -> str | None:
    return None if text is None else str(ipaddress.ip_address(text.partition("%")[0]))


def _finding(kernel: _Kernel, link: str, manager: str, file: str, lost: list[Route]) -> Finding:
    texts = [_text(one) for one in lost]
    alone = len(lost) == 1
    where = f"{file}:{lost[0]['line']} ({manager})" if alone else f"{file} ({manager})"
    what = f"the route {texts[0]}" if alone else f"{len(lost)} routes ({', '.join(texts[:3])}{', ...' if len(lost) > 3 else ''})"
    evidence, fix = [], []
    for one, text in list(zip(lost, texts))[:_MOST_LINES]:
        same = [each for each in kernel.to(one) if each["table"] == one["table"]]
        table = "the main table" if one["table"] == _MAIN else f"table {one['table']}"
        has = "; ".join(_text(each) for each in same[:3]) or f"no route to {one['dst']} in {table}"
        evidence.append(f"{file}:{one['line']}: {text}; in the kernel: {has}")
        if not one.get("nexthop"):
            usual = 0 if one["family"] == 4 else _USUAL_METRIC6
            there = any((each["metric"] or usual) == (one["metric"] or usual) for each in same)
            fix.append(_command(one, "replace" if there else "add"))
    by_netplan = os.path.basename(file).startswith(("10-netplan-", "netplan-"))
    apply = "netplan apply" if by_netplan else configured.APPLY[manager].format(link=word(link))
    return Finding(
        "route-config-differs",
        "likely",
        "warning",
        link,
        f"{where} gives {link} {what}: the kernel does not have {'it' if alone else 'them'}.",
        evidence,
        [*fix, f"# or all of the file anew: {apply}", configured.CAUTION],
        ["D08", "D18"],
        {"link": link, "file": file, "manager": manager, "routes": sorted({_network(one) for one in lost})},
    )


def _text(one: Route) -> str:
    """A route of a file or of the kernel, as ``ip route`` takes and prints it."""
    vias = one["via"] if isinstance(one["via"], list) else [hop["via"] for hop in Facts.hops(one) if hop.get("via")]
    words = [one["type"]] if one["type"] not in (None, "unicast") else []
    words += [one["dst"], *(_via(one, vias[0]) if len(vias) == 1 else [])]
    words += ["dev", one["dev"]] if one["dev"] else []
    words += ["table", str(one["table"])] if one["table"] != _MAIN else []
    words += ["metric", str(one["metric"])] if one["metric"] else []
    words += ["onlink"] if one.get("onlink") else []
    return " ".join([*words, *one.get("more", []), *(part for via in vias[1:] and vias for part in ("nexthop", *_via(one, via)))])


def _via(one: Route, via: str) -> list[str]:
    """A gateway of the other family is written with that."""
    other = (":" in via) != (one["family"] == 6)
    return ["via", *(["inet6" if ":" in via else "inet"] if other else []), via]


def _command(one: Route, verb: str) -> str:
    return f"ip {'-6 ' if one['family'] == 6 else ''}route {verb} " + " ".join(word(part) for part in _text(one).split())
