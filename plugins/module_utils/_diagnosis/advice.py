# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Advice about the packet filter, where no target was asked for: what is likely to bite later, though nothing fails now. (F03)"""

from __future__ import annotations

from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts, neighbour_of
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.world import router_of
from ansible_collections.netops.fleet.plugins.module_utils._firewall import walk
from ansible_collections.netops.fleet.plugins.module_utils._firewall.fixes import delete
from ansible_collections.netops.fleet.plugins.module_utils._firewall.model import IPTABLES_LEGACY, Match, Rule, Ruleset
from ansible_collections.netops.fleet.plugins.module_utils._firewall.packet import Packet

REQUIREMENT = ["F03"]
_ACK = 0x10
_ENDS = ("accept", "drop", "reject")
#: Rules behind which others are looked for; a longer chain is a list of addresses, see firewall_consolidate.
_MOST_RULES = 2000


def find(facts: Facts) -> list[Finding]:
    """Nothing where a target was asked for: the answer comes first."""
    ruleset = facts.ruleset() if facts.target is None else None
    if ruleset is None:
        return []
    return _walked(facts, ruleset) + _mixed(ruleset) + _chains(ruleset)


def _walked(facts: Facts, ruleset: Ruleset) -> list[Finding]:
    """What happens to an answer, and to the message that says a packet was too big; one finding for what decides."""
    if not any(chain.hook in ("prerouting", "input") for chain in ruleset.chains):
        return []
    own_addresses = frozenset(one["address"] for one in facts.items("addresses"))
    walker = walk.Walker(ruleset, router_of(facts), own=own_addresses, way_out=facts.way_out)
    found: dict[int, Finding] = {}
    for own in facts.global_addresses()[:16]:
        sender, link = neighbour_of(own["address"], own["prefix"]), facts.way_in(own)
        common: dict[str, Any] = {"family": own["family"], "saddr": sender, "daddr": own["address"], "iif": link, "oif": ""}
        answer = Packet(proto=6, sport=443, dport=49152, tcp_flags=_ACK, ct_state="established", **common)
        big = Packet(
            proto=1 if own["family"] == 4 else 58,
            icmp_type=3 if own["family"] == 4 else 2,
            icmp_code=4 if own["family"] == 4 else 0,
            tcp_flags=None,
            ct_state="related",
            **common,
        )
        for packet, make in ((answer, _stateless), (big, _too_big)):
            decision = walker.incoming(packet)
            if decision.verdict in (walk.DROP, walk.REJECT) and not _for_this_sender(decision.rule):
                found.setdefault(id(decision.rule or decision.chain), make(packet, decision))
    return list(found.values())


def _for_this_sender(rule: Rule | None) -> bool:
    """Does the rule look at addresses? Then it is about the neighbour that stands for all others here."""
    return rule is not None and any("addr" in getattr(part, "left", "addr") for part in rule.parts)


def _place(decision: walk.Decision) -> str:
    if decision.rule is not None:
        return decision.rule.where()
    chain = decision.chain
    return (
        f"{chain.backend} {chain.family} {chain.table} {chain.name} policy {chain.policy}" if chain is not None else "the filter"
    )


def _stateless(packet: Packet, decision: walk.Decision) -> Finding:
    place = _place(decision)
    return Finding(
        "firewall-not-stateful",
        "proven",
        "warning",
        place,
        f"{place} drops the answers to connections that this host opens: nothing accepts what is established.",
        [f"an established tcp packet {packet.saddr} port 443 → {packet.daddr} port 49152: {decision.verdict}"],
        ["# put first in the chain: nft insert rule FAMILY TABLE CHAIN ct state established,related accept",
         "# with iptables: iptables -I INPUT 1 -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT"],
        REQUIREMENT,
    )  # fmt: skip


def _too_big(packet: Packet, decision: walk.Decision) -> Finding:
    place = _place(decision)
    name = "icmp fragmentation needed" if packet.family == 4 else "icmpv6 packet too big"
    accept = "icmp type destination-unreachable" if packet.family == 4 else "icmpv6 type packet-too-big"
    return Finding(
        "firewall-blocks-path-mtu",
        "proven",
        "warning",
        place,
        f"{place} drops {name}: connections over a path with a smaller MTU will hang.",
        [f"{name} {packet.saddr} → {packet.daddr}, of a connection that is established: {decision.verdict}"],
        [f"# put first in the chain: nft insert rule FAMILY TABLE CHAIN {accept} accept"],
        REQUIREMENT,
    )


def _mixed(ruleset: Ruleset) -> list[Finding]:
    """Rules of iptables-legacy beside rules of nf_tables: each tool shows half, and a packet meets both."""
    counts: dict[str, int] = {}
    for rule in ruleset.rules:
        counts[rule.backend] = counts.get(rule.backend, 0) + 1
    legacy, others = counts.get(IPTABLES_LEGACY, 0), {name: count for name, count in counts.items() if name != IPTABLES_LEGACY}
    if not legacy or not others:
        return []
    return [
        Finding(
            "firewall-mixed-backends",
            "proven",
            "info",
            "iptables-legacy and nf_tables",
            f"Rules stand in iptables-legacy ({legacy}) and in nf_tables ({sum(others.values())}): no tool shows both.",
            [f"{name}: {count} rules" for name, count in sorted(counts.items())],
            ["# move the older ones: iptables-legacy-save | iptables-nft-restore, then iptables-legacy -F"],
            REQUIREMENT,
        )
    ]


def _chains(ruleset: Ruleset) -> list[Finding]:
    by_chain: dict[tuple[str, str, str, str], list[Rule]] = {}
    for rule in ruleset.rules:
        by_chain.setdefault((rule.backend, rule.family, rule.table, rule.chain), []).append(rule)
    base = {
        (chain.backend, chain.family, chain.table, chain.name): chain.policy
        for chain in ruleset.chains
        if chain.hook == "input" and chain.type == "filter"
    }
    found = []
    for place, rules in by_chain.items():
        # Others write what they need anew; advice about it is for them.
        if len(rules) > _MOST_RULES or any(rule.owner != "user" for rule in rules):
            continue
        wide = next((rule for rule in rules if place in base and _takes_all(rule)), None)
        behind = [rule for rule in rules if wide is not None and rule.line > wide.line]
        if wide is not None and (behind or base[place] == "drop"):
            found.append(_wide(wide, behind, base[place]))
        shadowed = [(rule, over) for rule in rules if rule not in behind for over in [_over(rule, rules)] if over is not None]
        found += [_shadowed(rule, over) for rule, over in shadowed[:10]]
    return found


def _takes_all(rule: Rule) -> bool:
    """Accepts whatever comes: no condition at all."""
    return rule.verdict is not None and rule.verdict.kind == "accept" and not rule.parts


def _conditions(rule: Rule) -> list[dict[str, Any]] | None:
    """What a packet must be; None where the rule says more than conditions that are understood."""
    found = []
    for part in rule.parts:
        if isinstance(part, Match):
            found.append(part.to_dict())
        elif getattr(part, "name", "") != "counter":
            return None
    return found


def _over(rule: Rule, rules: list[Rule]) -> Rule | None:
    """An earlier rule that decides every packet which this one matches: it asks for nothing that this one does not ask for."""
    wanted = [part.to_dict() for part in rule.parts if isinstance(part, Match)]
    for other in rules:
        if other.line >= rule.line:
            return None
        if other.verdict is None or other.verdict.kind not in _ENDS:
            continue
        asked = _conditions(other)
        if asked and all(one in wanted for one in asked):
            return other
    return None


def _wide(rule: Rule, behind: list[Rule], policy: str | None) -> Finding:
    lost = f"{len(behind)} rules behind it" if behind else f"the policy ({policy})"
    return Finding(
        "firewall-accepts-all",
        "proven",
        "warning",
        rule.where(),
        f"{rule.where()} accepts every packet: {lost} never decide.",
        [f"rule: {rule.text}", *(f"never reached: {one.where()}: {one.text}" for one in behind[:5])],
        [f"# if it is not meant: {delete(rule)}"],
        REQUIREMENT,
    )


def _shadowed(rule: Rule, over: Rule) -> Finding:
    return Finding(
        "firewall-rule-shadowed",
        "proven",
        "info",
        rule.where(),
        f"{rule.where()} can never decide: {over.where()} stands before it and matches all that it matches.",
        [f"rule: {rule.text}", f"before it: {over.text}"],
        [f"# if the earlier one is meant: {delete(rule)}"],
        REQUIREMENT,
    )
