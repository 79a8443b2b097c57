# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Does a packet-filter rule stop the target? The rule is named by handle or line, with the command that removes it. (D09, D15)"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts, neighbour_of
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.ports import Moved, covered
from ansible_collections.netops.fleet.plugins.module_utils._firewall import fixes, model, walk
from ansible_collections.netops.fleet.plugins.module_utils._firewall.packet import Packet

REQUIREMENT = ["D09", "D10", "D15"]

#: A port a client would choose: outside every service range.
_CLIENT_PORT = 49152

#: More stopping rules in a row than this are not named one by one.
_MAX_RULES = 8


@dataclass
class Flow:
    """One packet to the target, and what the walk says of it."""

    packet: Packet
    source: str
    decision: walk.Decision


@dataclass
class Verdicts:
    """All flows of a target; empty when there is nothing to walk. unread: why the rules could not be read."""

    flows: list[Flow] = field(default_factory=list)
    walker: walk.Walker | None = None
    unread: str | None = None

    def moved(self) -> list[Moved]:
        """Where rules send the target's packets instead of to its port here."""
        found: dict[tuple[object, ...], Moved] = {}
        for flow in self.flows:
            for one in flow.decision.moved:
                there = one.packet
                if (there.daddr, there.dport) != (flow.packet.daddr, flow.packet.dport):
                    key = (id(one.rule), there.daddr, there.dport)
                    sure = one.sure or (key in found and found[key].sure)
                    found[key] = Moved(one.rule.where(), there.daddr, there.dport, there.local is True, sure)
        return list(found.values())


def verdicts(facts: Facts) -> Verdicts:
    """Walk one packet per own address (and family) from a peer or a neighbour to the target."""
    target = facts.target
    if target is None or target.address is not None:
        return Verdicts()
    ruleset = facts.ruleset()
    if ruleset is None:
        return Verdicts(unread="the packet filter was not read")
    walker = walk.Walker(ruleset, frozenset(one["address"] for one in facts.items("addresses")), facts.way_out)
    listeners = facts.listeners(target.proto, target.port)
    served = [address for family in (4, 6) for address in covered(facts, listeners, family)]
    out = Verdicts(walker=walker)
    for own in facts.global_addresses()[:16]:
        if served and own["address"] not in served:
            continue  # nobody listens there: a rule is not what stops it
        link = facts.way_in(own)
        lower = facts.under(link)
        for sender, label in _senders(facts, own):
            packet = Packet(
                family=own["family"],
                proto=target.number,
                saddr=sender,
                daddr=own["address"],
                sport=_CLIENT_PORT,
                dport=target.port,
                iif=link,
                oif="",
                lower=lower,
                bridge=facts.links.get(link or "", {}).get("kind") == "bridge",
                reverse=facts.leads_back(sender, own, link),
            )
            out.flows.append(Flow(packet, label, walker.incoming(packet)))
    return out


def _senders(facts: Facts, own: dict[str, Any]) -> list[tuple[str, str]]:
    """Peers named by the caller with an address of that family, else a neighbour in the subnet."""
    peers = [peer for peer in facts.evidence.get("peers") or [] if (":" in peer["address"]) == (own["family"] == 6)]
    if peers:
        return [(peer["address"], f"peer {peer['host']}") for peer in peers[:4]]
    return [(neighbour_of(own["address"], own["prefix"]), "a neighbour in the subnet")]


def find(facts: Facts, found: Verdicts) -> list[Finding]:
    """One finding per stopping rule (or policy), however many addresses it stops."""
    grouped: dict[int, list[Flow]] = {}
    for flow in found.flows:
        if flow.decision.verdict in (walk.DROP, walk.REJECT):
            grouped.setdefault(id(flow.decision.rule or flow.decision.chain), []).append(flow)
    if found.walker is None:
        return []
    return [_finding(facts, found.flows, found.walker, flows) for flows in grouped.values()]


def _whole_family(every: list[Flow], stopped: list[Flow]) -> bool:
    """Is all of IPv4 stopped, or all there is? IPv6 alone leaves the way that clients fall back to."""
    families = {flow.packet.family for flow in every}
    for family in (4, 6):
        count = sum(1 for flow in every if flow.packet.family == family)
        if count and count == sum(1 for flow in stopped if flow.packet.family == family):
            return family == 4 or families == {6}
    return False


def _finding(facts: Facts, every: list[Flow], walker: walk.Walker, flows: list[Flow]) -> Finding:
    target = facts.asked
    decision, packet = flows[0].decision, flows[0].packet
    verb = "rejects" if decision.verdict == walk.REJECT else "drops"
    everything = len(flows) == len(every)
    stopped = sorted({flow.packet.daddr or "?" for flow in flows})
    rule, chain = decision.rule, decision.chain
    evidence = [
        f"the packet {flow.packet.saddr} → {flow.packet.daddr} {target} on {flow.packet.iif}: {flow.decision.verdict}"
        for flow in flows[:4]
    ]
    data: dict[str, Any] = {"verdict": decision.verdict, "addresses": stopped}
    subject, summary = "the packet filter", f"The packet filter {verb} {target}."
    if rule is not None:
        subject = rule.where()
        summary = f"{subject} {verb} {target}: {rule.text}"
        evidence.append(f"rule: {rule.text}")
        if rule.packets is not None:
            evidence.append(f"its counter stands at {rule.packets} packets")
        else:
            evidence.append("it has no counter: how often it hit cannot be told")
        if rule.comment:
            evidence.append(f"its comment: {rule.comment}")
        if rule.owner != "user":
            evidence.append(f"it belongs to {rule.owner}")
        data.update(rule={key: value for key, value in rule.to_dict().items() if key != "parts"})
    elif chain is not None:
        place = f"{chain.backend} {chain.family} {chain.table} {chain.name}"
        subject = f"{place} policy {chain.policy}"
        summary = f"No rule of {place} accepts {target}, and its policy drops the rest."
        evidence.append(f"policy of {chain.name} ({chain.hook}, priority {chain.priority}): {chain.policy}")
        data.update(chain=chain.to_dict())
    evidence += [f"way: {step}" for step in decision.path[-4:]]
    return Finding(
        id="firewall-drops-target",
        grade="proven",
        severity="critical" if _whole_family(every, flows) else "warning",
        subject=subject,
        summary=summary if everything else f"{summary} (for {', '.join(stopped)})",
        evidence=evidence,
        fix=_fix(walker, packet, decision),
        requirement=REQUIREMENT,
        data=data,
    )


def _fix(walker: walk.Walker, packet: Packet, decision: walk.Decision) -> list[str]:
    """Commands after which the packet passes: one for each rule that stands behind the first as well."""
    commands: list[str] = []
    without: set[int] = set()
    for _turn in range(_MAX_RULES):
        rule, chain = decision.rule, decision.chain
        owner = rule.owner if rule is not None else chain.owner if chain is not None else "user"
        command = fixes.through_owner(owner, packet)
        if command is not None:
            return commands + [command]
        if rule is None:
            if chain is not None:
                commands.append(fixes.allow(chain, decision.packet or packet))
            return commands
        if owner != "user" and rule.chain != "DOCKER-USER":  # docker makes that chain, and leaves its rules to the operator
            commands.append(f"# {owner} wrote this rule and may write it again: change it there")
        if _wider(rule):
            commands.append("# this rule covers more than this port; what else it covers passes too once it is gone")
        commands.append(fixes.delete(rule))
        without.add(id(rule))
        decision = walker.incoming(packet, frozenset(without))
        if decision.verdict not in (walk.DROP, walk.REJECT):
            return commands
    return commands + [f"# more than {_MAX_RULES} rules stop this packet; diagnose again after these"]


def _wider(rule: model.Rule) -> bool:
    """The rule names more than one port, or none."""
    ports = [part for part in rule.parts if isinstance(part, model.Match) and part.left.endswith("dport")]
    if not ports:
        return True
    return any(
        part.values is None or len(part.values) != 1 or isinstance(part.values[0], list) or part.op != "in" for part in ports
    )
