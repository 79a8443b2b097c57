# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Does a packet-filter rule stop the target? The rule is named by handle or line, with the command that removes it. (D09, D15)"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import letpass
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts, neighbour_of
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.ports import Moved, covered
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.world import router_of
from ansible_collections.netops.fleet.plugins.module_utils._firewall import walk
from ansible_collections.netops.fleet.plugins.module_utils._firewall.packet import Packet

REQUIREMENT = ["D09", "D10", "D15"]

#: A port a client would choose: outside every service range.
CLIENT_PORT = 49152


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
    if target is None:
        return Verdicts()
    ruleset = facts.ruleset()
    if ruleset is None:
        return Verdicts(unread="the packet filter was not read")
    own_addresses = frozenset(one["address"] for one in facts.items("addresses"))
    walker = walk.Walker(ruleset, router_of(facts), own=own_addresses, way_out=facts.way_out)
    if target.address is not None:
        return _leaving(facts, walker)
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
                sport=CLIENT_PORT,
                dport=target.port,
                iif=link,
                oif="",
                lower=lower,
                bridge=facts.links.get(link or "", {}).get("kind") == "bridge",
                reverse=facts.leads_back(sender, own, link),
            )
            out.flows.append(Flow(packet, label, walker.incoming(packet)))
    return out


def _leaving(facts: Facts, walker: walk.Walker) -> Verdicts:
    """The packet this host sends to a target elsewhere; its routes must be known."""
    out = Verdicts(walker=walker)
    target = facts.asked
    if walker.router is None or target.address is None:
        return out
    family = 6 if ":" in target.address else 4
    tcp = target.proto == "tcp"
    packet = Packet(
        family=family, proto=target.number, daddr=target.address, sport=CLIENT_PORT, dport=target.port, iif="", own=True,
        tcp_flags=2 if tcp else None,
    )  # fmt: skip
    out.flows.append(Flow(packet, "this host", walker.outgoing(packet)))
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


def whole_family(every: list[Flow], stopped: list[Flow]) -> bool:
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
        f"the packet {flow.packet.saddr or 'of this host'} → {flow.packet.daddr} {target} on "
        f"{flow.packet.iif or (flow.decision.packet or flow.packet).oif or '?'}: {flow.decision.verdict}"
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
    elif decision.object is not None:
        subject = str(decision.object["text"])
        summary = f"The routing of this host {verb} {target}: {subject}"
        data.update(object=decision.object["kind"])
    evidence += [f"may stop it instead: {one.name()}: {one.why}" for one in decision.possible[:4]]
    evidence += [f"way: {step}" for step in decision.path[-4:]]
    return Finding(
        id="firewall-drops-target",
        grade="proven",
        severity="critical" if whole_family(every, flows) else "warning",
        subject=subject,
        summary=summary if everything else f"{summary} (for {', '.join(stopped)})",
        evidence=evidence,
        fix=letpass.commands(
            lambda without: (walker.outgoing if packet.own else walker.incoming)(packet, without), packet, decision
        ),
        requirement=REQUIREMENT,
        data=data,
    )
