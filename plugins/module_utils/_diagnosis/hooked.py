# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Programs and filters on the target's way that may drop: in, for a service here; out and back, for one elsewhere. (D14, D16)"""

from __future__ import annotations

import os
import re
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts, is_loopback, shown_address
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.firewall import CLIENT_PORT, Verdicts
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.target import Target
from ansible_collections.netops.fleet.plugins.module_utils._firewall import filters, programs, walk
from ansible_collections.netops.fleet.plugins.module_utils._firewall.packet import ACK, SYN, Packet

Hook = dict[str, Any]

#: How a target fails whose packets, or the answers, may have been dropped by this host itself.
SILENT = ("timeout", "unreachable", "prohibited")
#: Where a hook sees packets that come in.
_INWARD = {
    "tc": ("ingress",),
    "tcx": ("ingress",),
    "xdp": ("ingress", None),
    "netkit": ("primary", "peer"),
    "netfilter": ("prerouting", "input"),
    "cgroup": ("inet_ingress",),
}
#: Where a hook sees what a process of this host sends, or keeps it from sending at all.
_OUTWARD = {
    "tc": ("egress",),
    "tcx": ("egress",),
    "netkit": ("primary",),
    "netfilter": ("output", "postrouting"),
    "cgroup": ("inet_egress",),
}
#: Hooks of the system calls: a program there that says no makes the call fail.
_CALLS = {"tcp": ("inet{0}_connect",), "udp": ("inet{0}_connect", "udp{0}_sendmsg")}
_FAMILIES = {4: ("ipv4", 2, None), 6: ("ipv6", 10, None)}


def suspects(facts: Facts) -> list[Hook]:
    """Hooks on the target's way that may drop its packets, or the answers."""
    found = [one for one in facts.items("hooks") if one.get("can_drop") != "no" and _on_the_way(facts, one)]
    before = [one for one in facts.items("hooks") if one.get("hook") in ("tc", "tcx")]
    return [one for one in found if _may_take(facts, one, before)]


def _may_take(facts: Facts, hook: Hook, before: list[Hook]) -> bool:
    """Not a filter that certainly does not match the target's packets, or lets them pass."""
    target = facts.target
    if target is None or hook.get("hook") != "tc" or hook.get("kind") == "bpf":
        return True
    packets = []
    for family in (4, 6) if target.address is None else (_family(target),):
        sent = Packet(family, target.number, None, target.address, CLIENT_PORT, target.port, mark=None, tcp_flags=SYN)
        back = Packet(family, target.number, target.address, None, target.port, CLIENT_PORT, mark=None, tcp_flags=SYN | ACK)
        packets.append(sent if (target.address is None) == (hook.get("direction") == "ingress") else back)
    return any(filters.decides(hook, before, one) not in (filters.NEXT, filters.PASS) for one in packets)


def refusers(facts: Facts) -> list[Hook]:
    """Those of the suspects that make the system call fail."""
    target = facts.target
    if target is None or target.address is None:
        return []
    calls = _calls(target)
    return [one for one in suspects(facts) if one.get("hook") == "cgroup" and one.get("direction") in calls]


def blamable(facts: Facts, status: str) -> list[Hook]:
    """Suspects that can make a probe fail in this way. A refusal or a reset is an answer: what was sent arrived."""
    if status not in SILENT:
        return []
    found, refusing = suspects(facts), refusers(facts)
    # A call that is refused fails at once: who waited in vain was let through there.
    return [one for one in found if status != "timeout" or one not in refusing]


def aside(facts: Facts) -> list[Hook]:
    """For a target elsewhere: hooks at cgroups of other processes of this host, which the probe does not pass."""
    target = facts.target
    if target is None or target.address is None:
        return []
    ways = (*_calls(target), "inet_egress", "inet_ingress")
    return [
        one
        for one in facts.items("hooks")
        if one.get("hook") == "cgroup"
        and one.get("direction") in ways
        and one.get("can_drop") != "no"
        and (one.get("cgroup") or {}).get("mine") is False
        and (one.get("cgroup") or {}).get("here") is True
    ]


def shown(found: list[Hook]) -> str:
    """``guard (tcx egress eth0), u32 (tc ingress eth0)``"""
    names = {f"{one.get('name') or one.get('kind') or '?'} ({one['hook']} {_direction(one)}{_place(one)})" for one in found}
    return ", ".join(sorted(names)[:6])


def detach(found: list[Hook]) -> list[str]:
    """The best command of each: it alone removes that attachment."""
    lines: dict[str, None] = {}
    for one in found[:8]:
        commands = [line for line in one.get("detach") or [] if isinstance(line, str)]
        best = next((line for line in commands if not line.startswith("#")), commands[0] if commands else None)
        if best is not None:
            lines[best] = None
    return list(lines)


def told(found: list[Hook]) -> list[str]:
    """Lines of evidence: which may drop, whose, and how that is known."""
    lines = []
    for one in found[:6]:
        how = "; ".join(str(line) for line in (one.get("drop_evidence") or [])[:2])
        sure = "can drop" if one.get("can_drop") == "yes" else "may drop"
        lines.append(f"on the way: {programs.name(one)}: {sure}{f' ({how})' if how else ''}")
    if len(found) > 6:
        lines.append(f"and {len(found) - 6} more on the way")
    return lines


def find(facts: Facts, walked: Verdicts) -> list[Finding]:
    """A program at the system call refuses the target: the call itself is not permitted, and no rule or route says so."""
    target = facts.target
    if target is None or target.address is None:
        return []
    place = shown_address(target.address, target.port)
    tried = next((one for one in facts.probes(target.proto) if one.get("target") == place and not one.get("peer")), None)
    found = refusers(facts)
    if tried is None or tried.get("status") != "prohibited" or not found or _stopped(walked, tried):
        return []
    first = found[0]
    return [
        Finding(
            id="bpf-program-refuses",
            grade="likely",
            severity="critical",
            subject=programs.name(first),
            summary=f"A program of a cgroup refuses connections of this host to {target}: {shown(found)}.",
            evidence=[f"probe to {target}: the system call fails: {tried.get('detail') or 'not permitted'}", *told(found)],
            fix=["# where it is not meant to be there; its owner may attach it again:", *detach(found)],
            requirement=["D10", "D14"],
            data={
                "address": target.address,
                "port": target.port,
                "objects": [str(one["key"]) for one in found if one.get("key")],
                "id": first.get("id"),
            },
        )
    ]


def _stopped(walked: Verdicts, tried: dict[str, Any]) -> bool:
    """Does a rule or a route of this host say no as well?"""
    if (tried.get("route") or {}).get("type") in ("blackhole", "unreachable", "prohibit"):
        return True
    return any(flow.decision.verdict in (walk.DROP, walk.REJECT) for flow in walked.flows)


def _on_the_way(facts: Facts, hook: Hook) -> bool:
    target = facts.target
    if target is None or target.address is None:
        return _link(hook) != "lo" and _in(hook) and (hook.get("hook") != "cgroup" or _serves(facts, hook))
    if not _of_family(hook, target):
        return False
    cgroup = hook.get("hook") == "cgroup"
    own = _own(facts, target.address)
    mine = (hook.get("cgroup") or {}).get("mine") is not False
    if _out(hook, target):
        return mine if cgroup else _on_link(facts, hook, target.address, own)
    if not _in(hook):
        return False
    if cgroup:
        # The answers come in to the probe; a connection to an own address also to the one who listens.
        return mine or (own and _serves(facts, hook))
    return _on_link(facts, hook, target.address, own)


def _in(hook: Hook) -> bool:
    return hook.get("direction") in _INWARD.get(str(hook.get("hook")), ())


def _out(hook: Hook, target: Target) -> bool:
    if hook.get("hook") == "cgroup" and hook.get("direction") in _calls(target):
        return True
    return hook.get("direction") in _OUTWARD.get(str(hook.get("hook")), ())


def _calls(target: Target) -> tuple[str, ...]:
    """Directions of the hooks at the system calls of a process that sends to the target."""
    ways = tuple(one.format(_family(target)) for one in _CALLS.get(target.proto, ()))
    return ("inet_sock_create", *ways)


def _family(target: Target) -> int:
    return 6 if ":" in (target.address or "") else 4


def _of_family(hook: Hook, target: Target) -> bool:
    family = _family(target)
    return (hook.get("netfilter") or {}).get("family") in _FAMILIES[family] and (hook.get("tc") or {}).get("protocol") in (
        "ip" if family == 4 else "ipv6", "all", None,
    )  # fmt: skip


def _own(facts: Facts, address: str) -> bool:
    """Is it an address of this host? What it sends there takes lo, out and in."""
    return facts.own(address) or is_loopback(address)


def _on_link(facts: Facts, hook: Hook, address: str, own: bool) -> bool:
    """Is the hook's interface one that packets to the address pass? One without is passed by all."""
    link = _link(hook)
    if link is None:
        return True
    if own or link == "lo":
        return own and link == "lo"
    way = facts.way_out(address)
    return way is None or link == way or link in facts.under(way)


def _link(hook: Hook) -> str | None:
    return (hook.get("interface") or {}).get("name")


def _serves(facts: Facts, hook: Hook) -> bool:
    """Is a process that listens on the target in the hook's cgroup or below it? One that could not be told may be."""
    group = hook.get("cgroup") or {}
    if group.get("here") is False:
        return False
    place = re.sub(r"\A/sys/fs/cgroup(?:/unified)?", "", str(group.get("path"))).rstrip("/")
    for listener in facts.listeners(facts.asked.proto, facts.asked.port):
        own = listener.get("cgroup")
        if own is None or own == place or own.startswith(f"{place}/"):
            return True
    return False


def _direction(hook: Hook) -> str:
    return f"{hook['direction']} " if hook.get("direction") and hook["direction"] not in _INWARD.get(hook["hook"], ()) else ""


def _place(hook: Hook) -> str:
    group = str((hook.get("cgroup") or {}).get("path") or "")
    return str(_link(hook) or os.path.basename(group.rstrip("/")) or "this namespace")
