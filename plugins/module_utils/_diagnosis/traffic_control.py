# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Does an action of a traffic control filter take the target's packets, or the answers? (D09, D14)

tcpdump sees such packets come in, and neither a rule nor a socket does: the filter is named, with its match and its counters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts, shown_address
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.firewall import Flow, Verdicts, whole_family
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.target import Target
from ansible_collections.netops.fleet.plugins.module_utils._firewall import filters
from ansible_collections.netops.fleet.plugins.module_utils._firewall.packet import ACK, SYN, TCP, Packet

Hook = dict[str, Any]

_PART = "part"


@dataclass
class _Passing:
    """A packet of the target's traffic, and where it passes filters. what: packets or answers."""

    flow: Flow
    packet: Packet
    direction: str
    links: tuple[str, ...]
    what: str


def find(facts: Facts, walked: Verdicts) -> list[Finding]:
    """One finding per filter that takes the packets of a flow, or a part of them."""
    # A shaper may have thousands that only classify.
    hooks = [one for one in facts.items("hooks") if one.get("hook") == "tc" and one.get("kind") != "bpf" and _takes_some(one)]
    if not hooks or facts.target is None or _answered(facts):
        return []
    beside = [one for one in facts.items("hooks") if one.get("hook") in ("tc", "tcx")]
    every = [one for flow in walked.flows for one in _passings(facts, flow)]
    found = []
    for hook in hooks:
        met: dict[str, list[_Passing]] = {}
        for passing in every:
            if (hook.get("interface") or {}).get("name") in passing.links and hook.get("direction") == passing.direction:
                met.setdefault(_does(facts, hook, beside, passing.packet), []).append(passing)
        for said in (filters.DROP, filters.AWAY, _PART):
            if said in met:
                sure = said == filters.DROP and all(filters.decides(hook, beside, one.packet) == said for one in met[said])
                found.append(_finding(facts.asked, hook, said, sure, met[said], walked.flows))
                break
    return found


def _takes_some(hook: Hook) -> bool:
    return hook.get("can_drop") != "no" or hook.get("can_divert") != "no"


def _does(facts: Facts, hook: Hook, beside: list[Hook], packet: Packet) -> str:
    """As filters.decides; _PART for one that matches for certain and drops some of it, PASS for a detour that leads back.

    Behind programs of tcx, which may keep packets from it, a filter that has counted some is taken to be reached.
    """
    said = filters.decides(hook, beside, packet)
    if said == filters.MAY and _counted(hook):
        said = filters.decides(hook, [one for one in beside if one.get("hook") == "tc"], packet)
    if said == filters.AWAY and _shaped(facts, hook):
        return filters.PASS
    return _PART if said == filters.MAY and _takes_a_part(hook, beside, packet) else said


def _counted(hook: Hook) -> list[dict[str, Any]]:
    """Actions that have seen packets."""
    actions = hook["tc"].get("actions") or []
    return [one for one in actions if isinstance(one.get("packets"), int) and one["packets"] > 0]


def _answered(facts: Facts) -> bool:
    """Did a probe get to a target elsewhere? Then nothing here takes its packets."""
    target = facts.asked
    if target.address is None:
        return False
    place = shown_address(target.address, target.port)
    return any(
        one.get("target") == place and one.get("status") == "ok" and not one.get("peer") for one in facts.probes(target.proto)
    )


def _passings(facts: Facts, flow: Flow) -> list[_Passing]:
    """The packet on its way and the first answer on its own. An answer that NAT would change is left out."""
    sent = (flow.decision.packet if flow.packet.own else None) or flow.packet
    back = sent.changed(
        saddr=sent.daddr, daddr=sent.saddr, sport=sent.dport, dport=sent.sport, ct_state="established", own=not sent.own,
        tcp_flags=SYN | ACK if sent.proto == TCP else None,
    )  # fmt: skip
    if not sent.own:
        way_back = (facts.way_out(sent.saddr) if sent.saddr else None) or sent.iif
        return [
            _Passing(flow, sent, "ingress", _devices(facts, sent.iif), "packets"),
            _Passing(flow, back.changed(iif="", oif=way_back), "egress", _devices(facts, way_back), "answers"),
        ]
    link = sent.oif or facts.way_out(str(sent.daddr))
    links = _devices(facts, link)
    found = [_Passing(flow, sent, "egress", links, "packets")]
    if sent.original in (None, (sent.saddr, sent.daddr, sent.sport, sent.dport)):
        found.append(_Passing(flow, back.changed(iif=link, oif=""), "ingress", links, "answers"))
    return found


def _devices(facts: Facts, link: str | None) -> tuple[str, ...]:
    """The interface and those below it, as far down as packets have no tag: below a VLAN, a filter sees another protocol."""
    if not link:
        return ()
    if facts.links.get(link, {}).get("kind") == "vlan":
        return (link,)
    below = facts.under(link)
    return (link, *below) if not any(facts.links.get(one, {}).get("kind") == "vlan" for one in below) else (link,)


def _takes_a_part(hook: Hook, beside: list[Hook], packet: Packet) -> bool:
    """A filter that matches for certain, after others that have no say, and drops some of it."""
    whole = {**hook, "tc": {**hook["tc"], "actions": [{"kind": "gact", "verdict": "drop", "else": None}]}}
    return filters.partly(hook) is not None and filters.decides(whole, beside, packet) == filters.DROP


def _shaped(facts: Facts, hook: Hook) -> bool:
    """Redirected to a device that hands packets back once it has shaped them (ifb)?"""
    names = [action.get("to") for action in hook["tc"].get("actions") or [] if action.get("verdict") == "redirect"]
    return any(facts.links.get(str(name), {}).get("kind") == "ifb" for name in names)


def _finding(target: Target, hook: Hook, said: str, sure: bool, passings: list[_Passing], every: list[Flow]) -> Finding:
    tc, link = hook["tc"], hook["interface"]["name"]
    subject = f"tc filter {link} {tc['place']} pref {tc['priority']} {hook['kind']} {tc['handle']}"
    what = "answers of" if all(one.what == "answers" for one in passings) else "packets for"
    if said == filters.AWAY:
        details = [str(one.get("detail")) for one in tc["actions"] if one.get("verdict") == "redirect"]
        does = f"sends {what} {target} elsewhere ({details[0]})"
    elif said == _PART:
        does = f"drops a part of the {what} {target} ({filters.partly(hook)})"
    else:
        does = f"drops {what} {target}"
    evidence = [
        f"it matches: {filters.shown(tc['conditions'])} (protocol {tc['protocol']})",
        *(str(line) for line in (hook.get("drop_evidence") or [])[:3]),
        *(f"the {one.what[:-1]} {one.packet.saddr or 'of this host'} → {one.packet.daddr} passes it" for one in passings[:4]),
    ]
    evidence += [f"its action {one['kind']} counted {one['packets']} packets" for one in _counted(hook)[:3]]
    commands = [line for line in hook.get("detach") or [] if isinstance(line, str)]
    return Finding(
        id="tc-filter-drops-target",
        grade="proven" if sure else "likely",
        severity="critical" if said != _PART and whole_family(every, [one.flow for one in passings]) else "warning",
        subject=subject,
        summary=f"{subject} {does}.",
        evidence=evidence,
        fix=["# where it is not meant to be there; what made it may make it again:", *commands[:1]],
        requirement=["D09", "D14"],
        data={"link": link, "objects": [str(hook["key"])] if hook.get("key") else [], "action": said},
    )
