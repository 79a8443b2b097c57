# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Programs and traffic control filters on a packet's way: which see it, and what they may do. Pure: the hook census in.

A program that cannot drop or divert anything is passed; a filter does to the packet what its conditions and actions say; of
programs the instructions tell where they can be followed (``run``), and otherwise they may drop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

from ansible_collections.netops.fleet.plugins.module_utils._firewall import filters
from ansible_collections.netops.fleet.plugins.module_utils._firewall.packet import TCP, UDP, Packet

#: place of the walk -> (hook, direction) of the census, in the order in which they run
_PLACES: dict[str, tuple[tuple[str, str | None], ...]] = {
    "xdp": (("xdp", "ingress"), ("xdp", None)),
    "tc ingress": (("tcx", "ingress"), ("netkit", "peer"), ("tc", "ingress")),
    "tc egress": (("tcx", "egress"), ("netkit", "primary"), ("tc", "egress")),
    "sk_lookup": (("sk_lookup", None),),
}
_LISTENING = {TCP: "tcp", UDP: "udp"}
_PROTOCOLS = {4: "ip", 6: "ipv6"}
Runner = Callable[["dict[str, Any]", Packet], Optional[bool]]


def name(entry: dict[str, Any]) -> str:
    """``tcx ingress eth0 syn_guard (program 142, agent pid 812)``"""
    place = (entry.get("interface") or {}).get("name") or (entry.get("cgroup") or {}).get("path") or ""
    what = entry.get("name") or entry.get("kind") or "?"
    words = [str(one) for one in (entry.get("hook"), entry.get("direction"), place, what) if one]
    details = [f"program {entry['id']}"] if entry.get("id") else []
    for owner in (entry.get("owners") or [])[:2]:
        unit = f", {owner['unit']}" if owner.get("unit") else ""
        details.append(f"{owner.get('process')} pid {owner.get('pid')}{unit}")
    return " ".join(words) + (f" ({'; '.join(details)})" if details else "")


def priority(entry: dict[str, Any]) -> int:
    """Of a netfilter program."""
    return int((entry.get("netfilter") or {}).get("priority") or 0)


class Programs:
    """Entries of the hook census by place. run: what a program does to a packet, where it can be told."""

    def __init__(self, entries: list[dict[str, Any]], run: Runner | None = None) -> None:
        self._entries = entries
        self._run = run

    def at(self, place: str, device: str | None, packet: Packet) -> list[dict[str, Any]]:
        """What runs at a place of the walk, in order. device: None when any interface may be meant."""
        found: list[dict[str, Any]] = []
        if place.startswith("cgroup "):
            return [
                one
                for one in self._entries
                if one.get("hook") == "cgroup" and one.get("direction") == place[7:] and _in_cgroup(one, packet)
            ]
        for hook, direction in _PLACES[place]:
            found += [
                one
                for one in self._entries
                if one.get("hook") == hook
                and one.get("direction") == direction
                and _on(one, device)
                and _of_family(one, packet.family)
            ]
        return found

    def netfilter(self, hook: str, family: int) -> list[dict[str, Any]]:
        """BPF programs at a hook of the packet filter, by priority."""
        wanted = {4: ("ipv4", 2), 6: ("ipv6", 10)}[family]
        found = [
            one
            for one in self._entries
            if one.get("hook") == "netfilter"
            and one.get("direction") == hook
            and (one.get("netfilter") or {}).get("family") in (*wanted, None)
        ]
        return sorted(found, key=priority)

    def judge(self, entry: dict[str, Any], packet: Packet) -> tuple[str, str]:
        """("accept" | "drop" | "may drop" | "unknown", how that is known). "unknown": it may also send the packet elsewhere."""
        drop, divert = entry.get("can_drop"), entry.get("can_divert")
        evidence = "; ".join(str(one) for one in (entry.get("drop_evidence") or [])[:2])
        if drop == "no" and divert == "no":
            return "accept", ""
        if entry.get("hook") == "tc":
            said = filters.decides(entry, self._entries, packet)
            if said in (filters.NEXT, filters.PASS):
                return "accept", "it does not match, or lets it pass"
            if said == filters.DROP:
                return "drop", f"it matches ({filters.shown(entry['tc']['conditions'])}), and its action drops"
        if self._run is not None and entry.get("id"):
            passes = self._run(entry, packet)
            if passes is not None:
                return ("accept" if passes else "drop"), "its instructions, followed for this packet"
        if drop == "no":
            return "unknown", f"it may send the packet elsewhere: {evidence}"
        kind = "may drop" if divert == "no" else "unknown"
        return kind, f"it may drop the packet: {evidence}" if evidence else "what it does to the packet is not known"


def _on(entry: dict[str, Any], device: str | None) -> bool:
    interface = entry.get("interface") or {}
    return device is None or not interface or interface.get("name") == device


def _in_cgroup(entry: dict[str, Any], packet: Packet) -> bool:
    """Can the socket that this packet is for be in the cgroup? A packet of the host is one that the reading process sends."""
    group = entry.get("cgroup") or {}
    listens, protocol = group.get("listens"), _LISTENING.get(packet.proto)
    if packet.own:
        return group.get("mine") is not False
    if group.get("here") is False:
        return False
    if listens is None or protocol is None or packet.dport is None or packet.ct_state != "new":
        return True
    return f"{protocol}/{packet.dport}" in listens


def _of_family(entry: dict[str, Any], family: int) -> bool:
    protocol = (entry.get("tc") or {}).get("protocol")
    return protocol in (None, "all", _PROTOCOLS[family])
