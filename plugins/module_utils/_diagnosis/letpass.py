# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""The commands after which a packet passes: one for each object that stops it, the first and those behind it. Pure text."""

from __future__ import annotations

import re
from collections.abc import Callable

from ansible_collections.netops.fleet.plugins.module_utils._firewall import fixes, model, routing, walk
from ansible_collections.netops.fleet.plugins.module_utils._firewall.packet import Packet

#: More stopping objects in a row than this are not named one by one.
MAX_OBJECTS = 8
_SYSCTL = re.compile(r"\bnet\.ipv[46]\.conf\.\S+\.(rp_filter|forwarding)\b")

#: Walks the packet again without some rules and hook entries, by their ``id()``.
Again = Callable[["frozenset[int]"], walk.Decision]


def commands(again: Again, packet: Packet, decision: walk.Decision) -> list[str]:
    """Commands, to be run as root in this order; sentences start with ``#``. Empty for a packet that passes."""
    found: list[str] = []
    without: set[int] = set()
    for _turn in range(MAX_OBJECTS):
        if decision.verdict not in (walk.DROP, walk.REJECT):
            return found
        rule, chain = decision.rule, decision.chain
        owner = rule.owner if rule is not None else chain.owner if chain is not None else "user"
        command = fixes.through_owner(owner, packet)
        if command is not None:
            return [*found, command]
        hook = (decision.object or {}).get("hook")
        if hook is not None:
            detach = [str(one) for one in hook.get("detach") or [] if not str(one).startswith("#")]
            found += detach[:1] or [f"# detach {(decision.object or {})['text']}"]
            without.add(id(hook))
        elif rule is not None:
            if owner != "user" and rule.chain != "DOCKER-USER":  # docker makes that chain, and leaves its rules to the operator
                found.append(f"# {owner} wrote this rule and may write it again: change it there")
            if wider(rule):
                found.append("# this rule covers more than this port; what else it covers passes too once it is gone")
            found.append(fixes.delete(rule))
            without.add(id(rule))
        elif chain is not None:
            return [*found, fixes.allow(chain, decision.packet or packet)]
        else:
            return found + _routing(decision)
        decision = again(frozenset(without))
    return [*found, f"# more than {MAX_OBJECTS} objects stop this packet; ask again after these"]


def _routing(decision: walk.Decision) -> list[str]:
    """For what the routing decided."""
    what = decision.object or {}
    packet = decision.packet
    family = f"-{packet.family} " if packet is not None else ""
    if what.get("kind") == "sysctl":
        found = _SYSCTL.search(str(what.get("text")))
        if found is not None:
            value = 1 if found[1] == "forwarding" else 2
            return [f"sysctl -w {found[0]}={value}"] + (
                ["# loose mode: senders need some way back, not the same interface"] if value == 2 else []
            )
    if what.get("kind") == "policy_rule" and what.get("rule"):
        return [f"ip {family}rule del {routing.rule_text(what['rule'])}"]
    route = what.get("route")
    if what.get("kind") == "route" and route and route.get("type") in routing.REFUSING:
        return [f"ip {family}route del {routing.route_text(route)}"]
    return [f"# {what.get('text') or 'no command is known'}"]


def wider(rule: model.Rule) -> bool:
    """The rule names more than one port, or none."""
    ports = [part for part in rule.parts if isinstance(part, model.Match) and part.left.endswith("dport")]
    if not ports:
        return True
    return any(
        part.values is None or len(part.values) != 1 or isinstance(part.values[0], list) or part.op != "in" for part in ports
    )
