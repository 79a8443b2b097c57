# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Every listener against a few classes of senders: what rules and routes do with the first packet. Pure. (D10, D15)"""

from __future__ import annotations

from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts, is_loopback, is_wildcard, neighbour_of
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.verdict import decider
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.world import router_of
from ansible_collections.netops.fleet.plugins.module_utils._firewall import walk
from ansible_collections.netops.fleet.plugins.module_utils._firewall.packet import Packet, first_state

#: Listeners and own addresses looked at; a host may have thousands of sockets.
MAX_LISTENERS = 48
_MAX_ADDRESSES = 4
_CLIENT_PORT = 49152
#: Senders beyond every router, from the ranges that no host has (RFC 5737, RFC 3849).
_FAR = {4: "203.0.113.9", 6: "2001:db8:ffff::9"}
_NUMBERS = {"tcp": 6, "udp": 17, "sctp": 132}


def table(facts: Facts) -> list[dict[str, Any]]:
    """``[{proto, port, address, source, from, verdict, by, why}]``.

    from: peer, neighbour or beyond the gateway. by: what decided, null for nothing.
    """
    ruleset, router = facts.ruleset(), router_of(facts)
    if ruleset is None or router is None:
        return []
    walker = walk.Walker(
        ruleset, router, own=frozenset(one["address"] for one in facts.items("addresses")), way_out=facts.way_out
    )
    found: list[dict[str, Any]] = []
    seen: set[tuple[object, ...]] = set()
    for listener in ((facts.section("sockets") or {}).get("listeners") or [])[:512]:
        proto = _NUMBERS.get(str(listener.get("proto")))
        address = str(listener.get("address"))
        if proto is None or is_loopback(address) or len(seen) >= MAX_LISTENERS:
            continue
        for own in _addresses(facts, address):
            key = (proto, listener["port"], own["address"])
            if key in seen or len(seen) >= MAX_LISTENERS:
                continue
            seen.add(key)
            link = facts.way_in(own)
            for sender, label in _senders(facts, own):
                packet = Packet(
                    family=own["family"],
                    proto=proto,
                    saddr=sender,
                    daddr=own["address"],
                    sport=_CLIENT_PORT,
                    dport=listener["port"],
                    iif=link,
                    oif="",
                    ct_state=first_state(proto, 2, None),
                    tcp_flags=2 if proto == 6 else None,
                    lower=facts.under(link),
                    bridge=facts.links.get(link or "", {}).get("kind") == "bridge",
                    reverse=facts.leads_back(sender, own, link),
                )
                decision = walker.incoming(packet)
                by = decider(decision)
                found.append(
                    {
                        "proto": listener["proto"],
                        "port": listener["port"],
                        "address": own["address"],
                        "source": sender,
                        "from": label,
                        "verdict": decision.verdict,
                        "by": by["where"] if by is not None else None,
                        "why": decision.why,
                    }
                )
    return found


def _addresses(facts: Facts, address: str) -> list[dict[str, Any]]:
    own = facts.global_addresses()
    if not is_wildcard(address):
        return [one for one in own if one["address"] == address]
    return [one for one in own if address != "0.0.0.0" or one["family"] == 4][:_MAX_ADDRESSES]


def _senders(facts: Facts, own: dict[str, Any]) -> list[tuple[str, str]]:
    found = [(neighbour_of(own["address"], own["prefix"]), "neighbour")]
    peer = next((one for one in facts.evidence.get("peers") or [] if (":" in one["address"]) == (own["family"] == 6)), None)
    if peer is not None:
        found.insert(0, (peer["address"], "peer"))
    if any(one.get("family") == own["family"] for one in facts.default_routes()):
        found.append((_FAR[own["family"]], "beyond the gateway"))
    return found
