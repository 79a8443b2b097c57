# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""The routing decision: policy rules, tables, longest prefix, and the reverse path check. Pure: tables as read in, answer out.

Sources: net/ipv4/{route,fib_frontend,fib_trie,fib_rules}.c, net/ipv6/{route,fib6_rules,ip6_output}.c, ip-rule(8), ip-route(8),
Documentation/networking/ip-sysctl.rst.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._firewall.packet import Packet, address_number

#: Types of routes that end a lookup without a way: what they do to a packet.
REFUSING = {"blackhole": "drop", "unreachable": "reject", "prohibit": "reject"}
_LOCAL_TABLE, _MAIN, _DEFAULT = 255, 254, 253
_MOST_GOTOS = 100


@dataclass
class Found:
    """kind: local, unicast, broadcast, multicast, blackhole, unreachable, prohibit, none (no route), or unknown.

    devs: interfaces the packet may leave by, more than one for several next hops. route, rule: what decided. why: for unknown.
    """

    kind: str
    devs: list[str] = field(default_factory=list)
    route: dict[str, Any] | None = None
    rule: dict[str, Any] | None = None
    why: str = ""

    def text(self) -> str:
        """``10.0.0.0/8 via 192.0.2.1 dev eth0 table 254`` or what stands for it."""
        if self.route is not None:
            return route_text(self.route)
        if self.rule is not None:
            return rule_text(self.rule)
        return self.why or "no route"


def route_text(route: dict[str, Any]) -> str:
    """A route as ``ip route`` prints it, with its table."""
    words = [] if route.get("type") in (None, "unicast") else [str(route["type"])]
    words.append(str(route.get("dst")))
    for key in ("via", "dev"):
        if route.get(key):
            words += [key, str(route[key])]
    for hop in route.get("nexthops") or ():
        words += ["nexthop", *(f"{key} {hop[key]}" for key in ("via", "dev") if hop.get(key))]
    words += ["table", {254: "main", 255: "local", 253: "default"}.get(int(route["table"]), str(route["table"]))]
    if route.get("metric"):
        words += ["metric", str(route["metric"])]
    return " ".join(words)


def rule_text(rule: dict[str, Any]) -> str:
    """A policy rule as ``ip rule add`` takes it."""
    words = ["pref", str(rule["priority"])]
    if rule.get("not"):
        words.append("not")
    for key in ("from", "to", "iif", "oif"):
        if rule.get(key):
            words += [key, str(rule[key])]
    if rule.get("fwmark") is not None:
        mask = rule.get("fwmask")
        words += ["fwmark", f"{rule['fwmark']:#x}" + (f"/{mask:#x}" if mask not in (None, 0xFFFFFFFF) else "")]
    for key, word in (("ip_proto", "ipproto"),):
        if rule.get(key):
            words += [word, str(rule[key])]
    for key, word in (("uid_range", "uidrange"), ("sport_range", "sport"), ("dport_range", "dport")):
        if rule.get(key):
            words += [word, f"{rule[key][0]}-{rule[key][1]}"]
    if rule.get("action") == "lookup":
        words += ["lookup", {254: "main", 255: "local", 253: "default"}.get(rule.get("table") or 0, str(rule.get("table")))]
    else:
        words.append(str(rule.get("action")))
    return " ".join(words)


def prefix(text: str | None) -> tuple[int, int] | None:
    """(network as a number, length) of ``10.0.0.0/8`` or one address; (0, 0) for "default"; None for anything else."""
    if text in (None, "default", "all"):
        return (0, 0)
    address, _slash, length = str(text).partition("/")
    number = address_number(address)
    if number is None or (length and not length.isdigit()):
        return None
    return number, int(length) if length else (128 if ":" in address else 32)


def inside(address: str | None, text: str | None) -> bool | None:
    """Is an address in a prefix? None when either is not known."""
    if text is None or text == "default":
        return True
    found = prefix(text)
    number = address_number(address) if address else None
    if found is None or number is None:
        return None
    bits = (128 if ":" in text else 32) - found[1]
    return (":" in text) == (":" in str(address)) and number >> bits == found[0] >> bits


class Router:
    """One network namespace's addresses, routes, policy rules and switches. Lists as in evidence sections of these names.

    switches: {"ipv4": {link: {"forwarding", "rp_filter", "accept_local", "route_localnet", "src_valid_mark": int}},
    "ipv6": {link: {"forwarding": int}}}. incomplete: families whose tables were not read to their end, with why.
    """

    def __init__(
        self,
        links: Iterable[dict[str, Any]],
        addresses: Iterable[dict[str, Any]],
        routes: Iterable[dict[str, Any]],
        rules: Iterable[dict[str, Any]],
        switches: dict[str, dict[str, dict[str, int]]],
        incomplete: dict[int, str] | None = None,
        kernel: tuple[int, int] | None = None,
    ) -> None:
        self.links = {str(link["name"]): link for link in links}
        self.addresses = list(addresses)
        self.switches = switches
        self.incomplete = incomplete or {}
        self.kernel = kernel
        self._own = {(int(one["family"]), address_number(str(one["address"]))) for one in self.addresses}
        self._routes = list(routes)
        self._tables: dict[tuple[int, int], dict[int, dict[int, list[dict[str, Any]]]]] = {}
        for route in self._routes:
            found = prefix(route.get("dst"))
            if found is None:
                continue
            number, length = found
            bits = (128 if route["family"] == 6 else 32) - length
            table = self._tables.setdefault((int(route["family"]), int(route["table"])), {})
            table.setdefault(length, {}).setdefault(number >> bits, []).append(route)
        for table in self._tables.values():
            for networks in table.values():
                for same in networks.values():
                    same.sort(key=lambda one: (-int(one.get("tos") or 0), int(one.get("metric") or 0)))
        self._rules: dict[int, list[dict[str, Any]]] = {4: [], 6: []}
        for rule in rules:
            self._rules.setdefault(int(rule["family"]), []).append(rule)
        for chosen in self._rules.values():
            chosen.sort(key=lambda one: int(one.get("priority") or 0))

    def switch(self, family: int, link: str, name: str) -> int | None:
        """A per-link switch; None when it was not read."""
        return self.switches.get(f"ipv{family}", {}).get(link, {}).get(name)

    # --- lookups

    def lookup(
        self, packet: Packet, daddr: str | None, saddr: str | None, iif: str, oif: str | None, mark: int | None, own: bool = False
    ) -> Found:
        """Ask the rules and tables. iif: "lo" for packets of this host. oif: only by this interface."""
        family = packet.family
        if daddr is None:
            return Found("unknown", why="the destination is not known")
        rules = self._rules.get(family) or []
        if not rules:
            return Found("unknown", why="policy rules were not read")
        at = turns = 0
        while at < len(rules):
            rule = rules[at]
            at += 1
            answer = self._rule_matches(rule, packet, daddr, saddr, iif, oif, mark, own)
            if answer is None:
                return Found("unknown", rule=rule, why=f"whether the policy rule {rule_text(rule)} holds is not known")
            if not answer:
                continue
            action = rule.get("action")
            if action == "lookup":
                found = self._table(family, int(rule.get("table") or 0), daddr, saddr, oif, packet)
                if found is None:
                    continue
                suppress = rule.get("suppress_prefixlength")
                if suppress is not None and found.route is not None:
                    length = (prefix(found.route.get("dst")) or (0, 0))[1]
                    if length <= int(suppress):
                        continue
                found.rule = found.rule or rule
                return found
            if action == "goto":
                turns += 1
                goal = int(rule.get("goto") or 0)
                at = next((place for place, one in enumerate(rules) if int(one.get("priority") or 0) >= goal), len(rules))
                if turns > _MOST_GOTOS:
                    return Found("unknown", rule=rule, why="policy rules that go in a circle")
            elif action in REFUSING:
                return Found(str(action), rule=rule)
            elif action != "nop":
                return Found("unknown", rule=rule, why=f"policy rule with action {action}")
        if family in self.incomplete:
            return Found("unknown", why=f"routes were not all read: {self.incomplete[family]}")
        return Found("none")

    def _rule_matches(
        self,
        rule: dict[str, Any],
        packet: Packet,
        daddr: str,
        saddr: str | None,
        iif: str,
        oif: str | None,
        mark: int | None,
        own: bool,
    ) -> bool | None:
        answers: list[bool | None] = []
        if rule.get("l3mdev"):
            return None if any((self.links.get(one) or {}).get("kind") == "vrf" for one in self.links) else False
        answers.append(inside(daddr, rule.get("to")))
        if rule.get("from"):
            # A sender that is still to be chosen is 0.0.0.0 or :: to the rules.
            answers.append(inside(saddr, rule["from"]) if saddr is not None else None if not own else False)
        if rule.get("iif"):
            answers.append(rule["iif"] == iif)
        if rule.get("oif"):
            answers.append(rule["oif"] == oif if oif else False)
        if rule.get("fwmark") is not None or rule.get("fwmask") is not None:
            mask = rule.get("fwmask")
            mask = 0xFFFFFFFF if mask is None else int(mask)
            answers.append(None if mark is None else (mark ^ int(rule.get("fwmark") or 0)) & mask == 0)
        if rule.get("tos"):
            answers.append(None if packet.tos is None else packet.tos & 0x1C == int(rule["tos"]))
        if rule.get("ip_proto"):
            answers.append(int(rule["ip_proto"]) == packet.proto)
        if rule.get("uid_range"):
            uid = packet.uid if own else 0
            answers.append(None if uid is None else rule["uid_range"][0] <= uid <= rule["uid_range"][1])
        for key, port in (("sport_range", packet.sport), ("dport_range", packet.dport)):
            if rule.get(key):
                answers.append(None if port is None else rule[key][0] <= port <= rule[key][1])
        result: bool | None = False if False in answers else None if None in answers else True
        if rule.get("not"):
            return None if result is None else not result
        return result

    def _table(self, family: int, number: int, daddr: str, saddr: str | None, oif: str | None, packet: Packet) -> Found | None:
        """Longest prefix in one table; None when it has no route (or says "throw")."""
        table = self._tables.get((family, number))
        address = address_number(daddr)
        if table is None or address is None:
            return None
        width = 128 if family == 6 else 32
        for length in sorted(table, reverse=True):
            for route in table[length].get(address >> (width - length), ()):
                found = self._route(route, saddr, oif, packet)
                if found is not None:
                    return None if found.kind == "throw" else found
        return None

    def _route(self, route: dict[str, Any], saddr: str | None, oif: str | None, packet: Packet) -> Found | None:
        """None: this route is passed over."""
        kind = str(route.get("type") or "unicast")
        if route.get("tos") and packet.tos is not None and packet.tos & 0x1C != int(route["tos"]):
            return None
        if route.get("src"):
            fits = inside(saddr, route["src"])
            if fits is None:
                return Found("unknown", route=route, why="a route for some senders only")
            if not fits:
                return None
        if kind in REFUSING or kind == "throw":
            return Found(kind, route=route)
        hops = route.get("nexthops") or [route]
        devs: list[str] = []
        for hop in hops:
            flags = set(hop.get("flags") or ())
            dev = str(hop.get("dev") or "")
            if "dead" in flags or ("linkdown" in flags and self._ignores_linkdown(packet.family, dev)):
                continue
            if oif and dev != oif:
                continue
            if dev not in devs:
                devs.append(dev)
        return Found(kind, devs, route) if devs else None

    def _ignores_linkdown(self, family: int, dev: str) -> bool:
        return bool(self.switch(family, dev, "ignore_routes_with_linkdown"))

    # --- what rules of the packet filter ask

    def own(self, family: int, address: str) -> bool:
        return (family, address_number(address)) in self._own

    def address_type(self, family: int, address: str, dev: str | None, other: str | None = None) -> str | None:
        """As ``fib ... type`` and ``-m addrtype`` see an address: from the local table only (IPv4)."""
        number = address_number(address)
        if number is None:
            return None
        if family == 4:
            if number >> 28 == 0xE:
                return "multicast"
            if number == 0xFFFFFFFF or number >> 24 == 0:
                return "broadcast"
            if (4, _LOCAL_TABLE) not in self._tables:
                return None
            probe = Packet(4, 0)
            found = self._table(4, _LOCAL_TABLE, address, None, None, probe)
            if found is None or (dev is not None and dev not in found.devs):
                return "unicast"
            return found.kind if found.kind != "unknown" else None
        if number >> 120 == 0xFF:
            return "multicast"
        if self.own(6, address):
            here = dev is None or any(one["address"] == address and one["link"] == dev for one in self.addresses)
            return "local" if here else None
        # nft looks up with the packet's other address, iptables without one.
        kinds = {
            self.lookup(Packet(6, 0), address, saddr, "lo", None, 0, own=True).kind for saddr in dict.fromkeys((other, None))
        }
        if len(kinds) > 1:
            return None
        (kind,) = kinds
        if kind in REFUSING or kind == "anycast":
            return kind
        return None if kind == "unknown" else "unreachable" if kind == "none" else "unicast"

    def way_to(self, packet: Packet, address: str, other: str | None, dev: str | None, mark: int | None) -> str | None:
        """``fib ... oif``: interface of the route to ``address``; "" for none. dev: it must be one of the route's."""
        found = self.lookup(packet, address, other, "lo", None, mark)
        if found.kind == "unknown":
            return None
        if found.kind != "unicast":
            return ""
        if dev is not None:
            return dev if dev in found.devs else ""
        return found.devs[0] if len(found.devs) == 1 else None

    def first_address(self, family: int, dev: str, other: str | None) -> str | None:
        """The address the kernel takes for packets of its own on ``dev``: in the other's subnet, else the first."""
        own = [one for one in self.addresses if one["link"] == dev and int(one["family"]) == family]
        if family == 6:
            number = address_number(other) if other else None
            wanted = "link" if number is not None and number >> 118 == 0x3FA else "global"
            own = [
                one for one in own if one.get("scope") == wanted and not {"tentative", "dadfailed"} & set(one.get("flags") or ())
            ]
            return str(own[0]["address"]) if len(own) == 1 else None
        return self._selected(own, other) or self._selected(self._of_family(4), None)

    def redirected(self, family: int, dev: str, other: str | None) -> str | None:
        """Where ``redirect`` sends a packet that came in by ``dev``: the interface's first address."""
        if family == 6:
            return self.first_address(6, dev, other)
        own = [one for one in self._of_family(4) if one["link"] == dev]
        return str(own[0]["address"]) if own else None

    def _of_family(self, family: int) -> list[dict[str, Any]]:
        return [one for one in self.addresses if int(one["family"]) == family]

    @staticmethod
    def _selected(own: list[dict[str, Any]], other: str | None) -> str | None:
        """inet_select_addr of the kernel: primary addresses others may use, best the one in the other's subnet."""
        usable = [one for one in own if one.get("scope") == "global" and "secondary" not in (one.get("flags") or ())]
        for one in usable:
            if other and inside(other, f"{one['address']}/{one['prefix']}"):
                return str(one["address"])
        return str(usable[0]["address"]) if usable else None

    def source_for(self, packet: Packet, found: Found) -> str | None:
        """The sender's address the kernel chooses for a packet of its own; None when it cannot be told."""
        if found.route is not None and found.route.get("prefsrc"):
            return str(found.route["prefsrc"])
        if found.kind == "local":
            return packet.daddr
        if len(found.devs) != 1:
            return None
        hop = (found.route or {}).get("via") or packet.daddr
        return self.first_address(packet.family, found.devs[0], hop)

    # --- the decisions

    def arriving(self, packet: Packet) -> tuple[str, Found, str]:
        """What routing makes of a packet from the wire: ("local" | "forward" | "drop" | "reject" | "unknown", route, why).

        why: what stopped it, in words an administrator can act on.
        """
        iif, daddr, saddr = packet.iif, packet.daddr, packet.saddr
        if daddr is None or iif is None:
            return "unknown", Found("unknown"), "the destination or the interface is not known"
        if iif == "lo":
            # What comes over lo was routed when it was sent, and is not looked at again.
            return "local", Found("local"), ""
        link = self.links.get(iif) or {}
        master = link.get("master")
        if master and (self.links.get(str(master)) or {}).get("kind") == "vrf":
            return "unknown", Found("unknown"), f"{iif} belongs to the VRF {master}, which is not followed"
        if packet.family == 6:
            return self._arriving6(packet, iif, daddr)
        number = address_number(daddr) or 0
        source = address_number(saddr) if saddr else None
        if source is not None and (source >> 28 == 0xE or source == 0xFFFFFFFF or source >> 24 == 0):
            return "drop", Found("none"), f"no host may send as {saddr} (martian source)"
        for end, value in (("source", source), ("destination", number)):
            if value is not None and value >> 24 == 127:
                permitted = self.switch(4, iif, "route_localnet") or self.switch(4, "all", "route_localnet")
                if not permitted:
                    return "drop", Found("none"), f"a loopback address as {end} on {iif} (martian; route_localnet is 0)"
        if number >> 28 == 0xE:
            return "unknown", Found("multicast"), "multicast groups that are joined are not followed"
        if number == 0xFFFFFFFF:
            return "local", Found("broadcast"), ""
        if number >> 24 == 0:
            return "drop", Found("none"), "0.0.0.0/8 as destination (martian)"
        found = self.lookup(packet, daddr, saddr, iif, None, packet.mark)
        if found.kind == "unknown":
            return "unknown", found, found.why
        forwarding = self.switch(4, iif, "forwarding")
        if found.kind in ("local", "broadcast"):
            return self._checked(packet, found, "local", None)
        if forwarding is None:
            return "unknown", found, f"whether {iif} forwards was not read"
        if not forwarding:
            why = f"{daddr} is no address of this host, and net.ipv4.conf.{_dotted(iif)}.forwarding is 0"
            return "drop", found, why
        if found.kind == "none":
            return "reject", found, f"no route to {daddr}"
        if found.kind in REFUSING:
            return REFUSING[found.kind], found, f"{found.kind} by {'route' if found.route else 'policy rule'} {found.text()}"
        if found.kind != "unicast":
            return "drop", found, f"a {found.kind} destination is not forwarded"
        if packet.ttl is not None and packet.ttl <= 1:
            return "reject", found, "its time to live ends here"
        return self._checked(packet, found, "forward", found.devs[0] if len(found.devs) == 1 else None)

    def _arriving6(self, packet: Packet, iif: str, daddr: str) -> tuple[str, Found, str]:
        number = address_number(daddr) or 0
        source = address_number(packet.saddr) if packet.saddr else None
        if source is not None and (source == 1 or source >> 120 == 0xFF):
            return "drop", Found("none"), f"no host may send as {packet.saddr}"
        if number >> 120 == 0xFF:
            return "unknown", Found("multicast"), "multicast groups that are joined are not followed"
        if number == 1:
            return "drop", Found("none"), "the loopback address from outside"
        if number >> 118 == 0x3FA and self.own(6, daddr):
            return "local", Found("local"), ""
        found = self.lookup(packet, daddr, packet.saddr, iif, None, packet.mark)
        if found.kind == "unknown":
            return "unknown", found, found.why
        if found.kind in ("local", "anycast"):
            return "local", found, ""
        if found.kind == "none":
            return "reject", found, f"no route to {daddr}"
        if found.kind in REFUSING:
            return REFUSING[found.kind], found, f"{found.kind} by {'route' if found.route else 'policy rule'} {found.text()}"
        forwarding = self.switch(6, "all", "forwarding")
        if forwarding is None:
            return "unknown", found, "whether this host forwards IPv6 was not read"
        if not forwarding:
            if self.switch(6, iif, "force_forwarding"):
                return "forward", found, ""
            return "drop", found, f"{daddr} is no address of this host, and net.ipv6.conf.all.forwarding is 0"
        return "forward", found, ""

    def _checked(self, packet: Packet, found: Found, goal: str, oif: str | None) -> tuple[str, Found, str]:
        """The sender's address against the routes (fib_validate_source)."""
        iif, saddr = str(packet.iif), packet.saddr
        if saddr is None:
            return "unknown", found, "the sender is not known, and the reverse path check looks at it"
        values = [self.switch(4, link, "rp_filter") for link in ("all", iif)]
        local = self.switch(4, iif, "accept_local") or self.switch(4, "all", "accept_local")
        if self.own(4, saddr) and not local:
            return "drop", found, f"{saddr} is an address of this host (martian source; accept_local is 0)"
        if None in values:
            return "unknown", found, f"rp_filter of {iif} was not read"
        mode = max(one for one in values if one is not None)
        if mode == 0:
            return goal, found, ""
        vmark = self.switch(4, iif, "src_valid_mark") or self.switch(4, "all", "src_valid_mark")
        back = self.lookup(packet, saddr, packet.daddr, oif or "lo", None, packet.mark if vmark else 0)
        if back.kind == "unknown":
            return "unknown", found, back.why
        name = f"net.ipv4.conf.{_dotted(iif)}.rp_filter" if values[1] == mode else "net.ipv4.conf.all.rp_filter"
        if back.kind == "none" or back.kind in REFUSING:
            return "drop", found, f"{name} is {mode}: no way back to {saddr}"
        if back.kind != "unicast" and not (back.kind == "local" and local):
            return "drop", found, f"{name} is {mode}: {saddr} is a {back.kind} address"
        if iif in back.devs or back.kind == "local" or mode == 2:
            return goal, found, ""
        return "drop", found, f"{name} is {mode}: the way back to {saddr} is {back.text()}, not {iif}"

    def leaving(self, packet: Packet, again: bool = False) -> Found:
        """The route of a packet this host sends. again: after its mark or destination was changed on the way out."""
        bound = packet.oif if packet.oif and not again else None
        return self.lookup(packet, packet.daddr, packet.saddr, "lo", bound, packet.mark, own=True)


def _dotted(link: str) -> str:
    return link.replace(".", "/")
