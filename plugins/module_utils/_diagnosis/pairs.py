# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""One end of a pair: the target's packet as it leaves the sender, or as it comes to the receiver. Pure. (D10, D33)

The other end is another host's evidence; the controller joins both with the probe that the sender makes.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import letpass
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.verdict import decider
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.world import router_of
from ansible_collections.netops.fleet.plugins.module_utils._firewall import walk
from ansible_collections.netops.fleet.plugins.module_utils._firewall.packet import Packet

SENDER, RECEIVER = "sender", "receiver"
ROLES = (SENDER, RECEIVER)
_CLIENT_PORT = 49152
_MAX_ADDRESSES = 8


def table(facts: Facts) -> list[dict[str, Any]]:
    """``[{peer, way: out | in, address, source, verdict, by, why, text, fix, to}]``; address: the receiver's. to: where
    rules of the sender send it instead.

    Unlike in the findings of one host, programs on the way are looked at: what they may do is settled by the probe.
    """
    target, role, ruleset = facts.target, facts.evidence.get("pair"), facts.ruleset()
    if target is None or target.address is not None or role not in ROLES or ruleset is None:
        return []
    own = frozenset(one["address"] for one in facts.items("addresses"))
    walker = walk.Walker(ruleset, router_of(facts), facts.items("hooks"), own=own, way_out=facts.way_out)
    flags = 2 if target.proto == "tcp" else None
    found: list[dict[str, Any]] = []
    for peer in facts.evidence.get("peers") or []:
        there = str(peer["address"])
        family = 6 if ":" in there else 4
        packet = Packet(family, target.number, sport=_CLIENT_PORT, dport=target.port, tcp_flags=flags)
        if role == SENDER:
            if walker.router is None:
                continue
            packet = packet.changed(daddr=there, iif="", own=True)
            found.append({"peer": peer["host"], "way": "out", "address": there, **_told(walker, packet)})
            continue
        for one in [one for one in facts.global_addresses() if one["family"] == family][:_MAX_ADDRESSES]:
            link = facts.way_in(one)
            into = packet.changed(
                saddr=there,
                daddr=one["address"],
                iif=link,
                oif="",
                lower=facts.under(link),
                bridge=facts.links.get(link or "", {}).get("kind") == "bridge",
                reverse=facts.leads_back(there, one, link),
            )
            found.append({"peer": peer["host"], "way": "in", "address": one["address"], **_told(walker, into)})
    return found


def _told(walker: walk.Walker, packet: Packet) -> dict[str, Any]:
    follow = walker.outgoing if packet.own else walker.incoming
    decision = follow(packet)
    by = decider(decision)
    end = decision.packet
    # A sender's packet that goes elsewhere never meets the receiver's rules.
    moved = packet.own and end is not None and (end.daddr, end.dport) != (packet.daddr, packet.dport)
    return {
        "to": f"{end.daddr or '?'} port {end.dport or '?'}" if moved and end is not None else None,
        "source": packet.saddr if packet.saddr is not None or end is None else end.saddr,
        "verdict": decision.verdict,
        "by": None if by is None else by["where"],
        "text": None if by is None else by["text"],
        "why": decision.why,
        "fix": letpass.commands(lambda without: follow(packet, without), packet, decision),
    }


def find(facts: Facts) -> list[Finding]:
    """What on the sender stops its packets; one finding for each object, however many peers it cuts off."""
    grouped: dict[str, list[dict[str, Any]]] = {}
    for one in facts.items("pairs"):
        if one.get("way") == "out" and one.get("verdict") in (walk.DROP, walk.REJECT) and one.get("by"):
            grouped.setdefault(str(one["by"]), []).append(one)
    return [_stopped(facts, by, some) for by, some in grouped.items()]


def _stopped(facts: Facts, by: str, some: list[dict[str, Any]]) -> Finding:
    verb = "rejects" if some[0]["verdict"] == walk.REJECT else "drops"
    goals = ", ".join(f"{one['peer']} ({one['address']})" for one in some[:8])
    text = f": {some[0]['text']}" if some[0]["text"] != by else ""
    return Finding(
        id="firewall-drops-target",
        grade="proven",
        severity="critical",
        subject=by,
        summary=f"On the way out, {by} {verb} {facts.asked} to {goals}{text}",
        evidence=[f"the packet of this host → {one['address']} {facts.asked}: {one['verdict']}" for one in some[:8]],
        fix=[str(line) for line in some[0]["fix"]],
        requirement=["D10", "D33"],
        data={"way": "out", "peers": [one["peer"] for one in some]},
    )
