# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Ways out and back: routes and policy rules that refuse or divert, answers that are dropped, the reverse path check. (D18)"""

from __future__ import annotations

import ipaddress
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import letpass
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.firewall import Flow, Verdicts
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.queues import delta, window
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.world import router_of
from ansible_collections.netops.fleet.plugins.module_utils._firewall import routing, walk
from ansible_collections.netops.fleet.plugins.module_utils._firewall.fixes import delete
from ansible_collections.netops.fleet.plugins.module_utils._firewall.packet import Packet

#: Words of rules that let some packets pass and stop others of the same kind.
_LIMITS = ("limit", "ct count", "quota", "recent", "meter", "random")
_SYN_ACK = 0x12
_MOST_WANTED = 64


def find(facts: Facts, walked: Verdicts) -> list[Finding]:
    return [
        *routes(facts, walked),
        *reverse_path(facts),
        *answers(facts, walked),
        *limits(facts, walked),
        *outgoing(facts),
    ]


def wanted(facts: Facts) -> dict[str, str]:
    """Addresses this host must reach, with what each is to it."""
    found: dict[str, str] = {}
    for route in facts.default_routes():
        for hop in facts.hops(route):
            if hop.get("via"):
                found[hop["via"]] = "default gateway"
    for server in (facts.section("names") or {}).get("servers") or []:
        found[str(server)] = "resolver"
    for one in (facts.section("clock") or {}).get("servers") or []:
        found[str(one.get("server"))] = "time server"
    for one in facts.probes("ping"):
        found[str(one.get("target"))] = "address"
    for peer in facts.evidence.get("peers") or []:
        found[peer["address"]] = f"peer {peer['host']}"
    if facts.target is not None and facts.target.address is not None:
        found[facts.target.address] = "target"
    return {one: role for one, role in found.items() if _outside(facts, one)}


def _outside(facts: Facts, address: str) -> bool:
    try:
        number = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not (number.is_loopback or number.is_link_local or number.is_unspecified or facts.own(address))


def routes(facts: Facts, walked: Verdicts) -> list[Finding]:
    """How a packet to each of them would leave: refused, without a route, or by another link than its subnet's."""
    router = router_of(facts)
    if router is None:
        return []
    if any(flow.decision.verdict in (walk.DROP, walk.REJECT) and flow.packet.own for flow in walked.flows):
        return []  # the target's own walk names what stops it
    grouped: dict[tuple[str, str], tuple[routing.Found, dict[str, str]]] = {}
    for address, role in list(wanted(facts).items())[:_MOST_WANTED]:
        packet = Packet(6 if ":" in address else 4, 17 if role == "resolver" else 6, daddr=address, own=True, iif="", dport=53)
        found = router.leaving(packet)
        if found.kind in routing.REFUSING or found.kind == "none":
            name = found.text() if found.kind != "none" else address
            grouped.setdefault((found.kind, name), (found, {}))[1][address] = role
        elif found.kind == "unicast" and _diverted(facts, address, found.devs):
            grouped.setdefault(("detour", found.text()), (found, {}))[1][address] = role
    return [_route(kind, name, found, hit) for (kind, name), (found, hit) in grouped.items()]


def _diverted(facts: Facts, address: str, devs: list[str]) -> bool:
    """Is the address in a subnet of one link that works, and the packet leaves by another that is in no such subnet?"""
    number = ipaddress.ip_address(address)
    near = {
        one["link"]
        for one in facts.global_addresses()
        if number in ipaddress.ip_network(f"{one['address']}/{one['prefix']}", strict=False)
    }
    return bool(near and devs) and not near & set(devs)


def _route(kind: str, name: str, found: routing.Found, hit: dict[str, str]) -> Finding:
    who = ", ".join(f"{role} {address}" for address, role in list(hit.items())[:6])
    family = 6 if ":" in next(iter(hit)) else 4
    data = {"addresses": sorted(hit), "kind": kind}
    if kind == "none":
        return Finding(
            "route-missing",
            "proven",
            "critical",
            name,
            f"No route leads to {who}.",
            [f"no policy rule and no table has a route to {address}" for address in hit],
            [
                f"ip -{family} route get {name}",
                "# was the default route lost? see how the link is configured, and its DHCP lease",
            ],
            ["D18"],
            data,
        )
    if kind == "detour":
        return Finding(
            "route-detour",
            "likely",
            "warning",
            name,
            f"Packets to {who}, in a subnet of this host, leave by {', '.join(found.devs)} instead.",
            [f"the most specific route: {name}"],
            [f"ip -{family} route del {name}"],
            ["D18", "D19"],
            data,
        )
    by_route = found.route is not None
    return Finding(
        "route-refuses",
        "proven",
        "critical",
        name,
        f"{'A route' if by_route else 'A policy rule'} refuses packets to {who} ({kind}): {name}",
        [f"the packet to {address} ({role}) ends at: {name}" for address, role in hit.items()],
        [f"ip -{family} {'route' if by_route else 'rule'} del {name}"],
        ["D18"],
        data,
    )


def reverse_path(facts: Facts) -> list[Finding]:
    """The kernel's own count of what the reverse path check dropped; which sender it was, only a walk can tell."""
    dropped = delta(facts, "ip", "IPReversePathFilter")
    if dropped <= 0:
        return []
    switches = (facts.section("switches") or {}).get("ipv4") or {}
    strict = sorted(name for name, values in switches.items() if values.get("rp_filter") == 1)
    return [
        Finding(
            "reverse-path-drops",
            "proven",
            "warning",
            "rp_filter",
            f"The reverse path check dropped {dropped} packets {window(facts)}: the way back to their senders leads elsewhere.",
            [f"IPReversePathFilter grew by {dropped} {window(facts)}", f"strict (1) on: {', '.join(strict) or 'no link'}"],
            [
                "# is the asymmetry meant (several uplinks)? then the loose check is enough:",
                "sysctl -w net.ipv4.conf.all.rp_filter=2",
            ],
            ["D18", "D30"],
        )
    ]


def answers(facts: Facts, walked: Verdicts) -> list[Finding]:
    """The request comes in; does the answer get out?"""
    if walked.walker is None:
        return []
    grouped: dict[int, list[tuple[Flow, Packet, walk.Decision]]] = {}
    for flow in walked.flows:
        asked = flow.packet
        if asked.own or flow.decision.verdict != walk.ACCEPT or flow.decision.moved or asked.saddr is None:
            continue
        answer = Packet(
            family=asked.family, proto=asked.proto, saddr=asked.daddr, daddr=asked.saddr, sport=asked.dport, dport=asked.sport,
            iif="", own=True, ct_state="established", ct_status=None, ct_mark=None, mark=None,
            tcp_flags=_SYN_ACK if asked.proto == 6 else None,
        )  # fmt: skip
        decision = walked.walker.outgoing(answer)
        if decision.verdict in (walk.DROP, walk.REJECT):
            grouped.setdefault(id(decision.rule or decision.chain), []).append((flow, answer, decision))
    return [_answers(facts, walked.walker, hit) for hit in grouped.values()]


def _answers(facts: Facts, walker: walk.Walker, hit: list[tuple[Flow, Packet, walk.Decision]]) -> Finding:
    _flow, packet, decision = hit[0]
    rule, chain = decision.rule, decision.chain
    if rule is not None:
        subject, said = rule.where(), f": {rule.text}"
    elif chain is not None:
        subject, said = f"{chain.backend} {chain.family} {chain.table} {chain.name} policy {chain.policy}", ""
    else:
        subject, said = str((decision.object or {}).get("text") or "the routing"), ""
    data: dict[str, Any] = {"verdict": decision.verdict}
    if rule is not None:
        data.update(rule={key: value for key, value in rule.to_dict().items() if key != "parts"})
    return Finding(
        "firewall-drops-answers",
        "proven",
        "critical",
        subject,
        f"{subject} drops what this host answers for {facts.asked}{said}",
        [f"the answer {one.saddr} → {one.daddr} port {one.dport}: {end.verdict}" for _flow, one, end in hit[:4]]
        + ["the request itself is accepted: the loss is one-way"],
        letpass.commands(lambda without: walker.outgoing(packet, without), packet, decision),
        ["D10", "D15", "D33"],
        data,
    )


def outgoing(facts: Facts) -> list[Finding]:
    """Services elsewhere that give no answer: is it a rule of this host that drops what it sends to them?"""
    silent: dict[tuple[str, str, int], str] = {}
    asked: dict[str, list[str]] = {}
    for one in (facts.section("names") or {}).get("lookups") or []:
        asked.setdefault(str(one["server"]), []).append(str(one["status"]))
    for server, statuses in asked.items():
        if all(status in ("timeout", "unreachable") for status in statuses):
            silent["udp", server, 53] = "resolver"
    for one in (facts.section("clock") or {}).get("servers") or []:
        if one.get("offset_s") is None:
            silent["udp", str(one.get("server")), 123] = "time server"
    for one in facts.probes("http"):
        port = _port_of(str(one.get("target")))
        if one.get("status") in ("timeout", "unreachable", "prohibited") and one.get("address") and port:
            silent["tcp", str(one["address"]), port] = "endpoint"
    silent = {key: role for key, role in silent.items() if _outside(facts, key[1])}
    ruleset = facts.ruleset() if silent else None
    if ruleset is None:
        return []
    walker = walk.Walker(ruleset, router_of(facts), way_out=facts.way_out)
    grouped: dict[int, tuple[Packet, walk.Decision, list[str]]] = {}
    for (proto, address, port), role in list(silent.items())[:_MOST_WANTED]:
        packet = Packet(
            family=6 if ":" in address else 4, proto=17 if proto == "udp" else 6, daddr=address, sport=49152, dport=port,
            iif="", own=True, tcp_flags=2 if proto == "tcp" else None,
        )  # fmt: skip
        decision = walker.outgoing(packet)
        if decision.verdict in (walk.DROP, walk.REJECT) and decision.object is None:
            one = grouped.setdefault(id(decision.rule or decision.chain), (packet, decision, []))
            one[2].append(f"{role} {address} ({proto}/{port})")
    return [_outgoing(walker, packet, decision, who) for packet, decision, who in grouped.values()]


def _port_of(url: str) -> int | None:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        return parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return None


def _outgoing(walker: walk.Walker, packet: Packet, decision: walk.Decision, who: list[str]) -> Finding:
    rule, chain = decision.rule, decision.chain
    data: dict[str, Any] = {"addresses": [one.split()[-2] for one in who], "verdict": decision.verdict}
    if rule is not None:
        subject, said = rule.where(), f": {rule.text}"
        data.update(rule={key: value for key, value in rule.to_dict().items() if key != "parts"})
    else:
        subject, said = (f"{chain.backend} {chain.family} {chain.table} {chain.name} policy {chain.policy}" if chain else "?"), ""
    return Finding(
        "firewall-drops-outgoing",
        "proven",
        "critical",
        subject,
        f"{subject} drops what this host sends to the {who[0]}{said}",
        [f"gives no answer, and its packets end here: {one}" for one in who[:8]],
        letpass.commands(lambda without: walker.outgoing(packet, without), packet, decision),
        ["D09", "D15"],
        data,
    )


def limits(facts: Facts, walked: Verdicts) -> list[Finding]:
    """Rules that stop the target's packets above a rate, a number or by chance, and did so."""
    seen: dict[int, Any] = {}
    for flow in walked.flows:
        if flow.decision.verdict == walk.UNKNOWN:
            for one in flow.decision.possible:
                if one.rule is not None and one.verdict in (walk.DROP, walk.REJECT) and _limits(one.rule.text):
                    seen[id(one.rule)] = one.rule
    found = []
    for rule in seen.values():
        if not rule.packets:
            continue  # without a counter, or with one that never hit, nothing says that it stopped anything
        found.append(
            Finding(
                "firewall-limits-target",
                "likely",
                "warning",
                rule.where(),
                f"{rule.where()} drops a part of the packets for {facts.asked}: {rule.text}",
                [f"rule: {rule.text}", f"its counter stands at {rule.packets} packets"],
                [f"# raise the limit if it is meant, else: {delete(rule)}"],
                ["D09", "D15"],
                {"rule": {key: value for key, value in rule.to_dict().items() if key != "parts"}},
            )
        )
    return found


def _limits(text: str) -> bool:
    return any(word in text for word in _LIMITS)
