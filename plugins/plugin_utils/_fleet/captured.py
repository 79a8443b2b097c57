# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This plugin util is PRIVATE to the collection. It can change at any time.
"""What a capture shows, in a few lines: connections nobody answers, what is sent again, who resets, who objects. (D05, D11)"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._kernel.icmp import NAMES4, NAMES6
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import pcap
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet.text import clean

MAX_FLOWS, MAX_LINES = 50_000, 20
_PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6", 47: "GRE", 50: "ESP", 132: "SCTP"}
_HALF = 1 << 31
#: Packets remembered, and seconds within which one is taken for itself: with the same identification, and where there is none.
_RECENT, _SAME_IDENT, _SAME = 4096, 0.15, 0.002
#: Starting TTLs; the next one above is how many hops the packet came.
_TTLS = (32, 64, 128, 255)

_End = tuple[str, int]


@dataclass
class _Flow:
    """One TCP connection. The side that sent the first SYN, where it was seen, is ``first``."""

    first: _End
    other: _End
    syns: int = 0
    syn_seq: int | None = None
    answered: bool = False
    data: int = 0
    again: dict[_End, int] = field(default_factory=dict)
    sent: dict[_End, int] = field(default_factory=dict)
    upto: dict[_End, int] = field(default_factory=dict)
    ttls: dict[_End, Counter[int]] = field(default_factory=dict)
    resets: list[tuple[_End, int, bool]] = field(default_factory=list)
    objected: Counter[str] = field(default_factory=Counter)


def summary(data: bytes) -> dict[str, Any]:
    """``{packets, other, seconds, protocols, connections, unanswered, retransmits, resets, errors, problems, lines}``.

    unanswered: ``[{from, to, port, syns, why}]``. retransmits: ``[{from, to, port, again, sent}]``. resets: ``[{by, to, port,
    after, ttl, usual_ttl, count}]``, after: syn or data. errors: ``[{by, name, about, count}]`` ICMP. lines: all of it, for
    people. A packet that was seen on two interfaces counts once. Never raises.
    """
    out: dict[str, Any] = {"packets": 0, "other": 0, "seconds": 0.0, "protocols": {}, "connections": 0, "problems": []}
    flows: dict[tuple[_End, _End], _Flow] = {}
    errors: Counter[tuple[str, str, str]] = Counter()
    protocols: Counter[str] = Counter()
    times: list[float] = []
    seen: dict[tuple[Any, ...], float] = {}
    try:
        for packet in pcap.packets(data):
            out["packets"] += 1
            if packet is None:
                out["other"] += 1
                continue
            if _again_on_another_interface(packet, seen):
                out["packets"] -= 1
                continue
            times = [min([packet.time, *times]), max([packet.time, *times])]
            protocols[_PROTOCOLS.get(packet.protocol, f"protocol {packet.protocol}")] += 1
            if packet.about is not None and packet.icmp is not None:
                _error(packet, flows, errors)
            elif packet.protocol == 6 and not packet.fragment:
                _segment(packet, flows)
    except pcap.NotPcap as error:
        out["problems"].append(str(error))
    if out["packets"] >= pcap.MAX_PACKETS:
        out["problems"].append(f"only the first {pcap.MAX_PACKETS} packets were looked at")
    if len(flows) >= MAX_FLOWS:
        out["problems"].append(f"only the first {MAX_FLOWS} connections were looked at")
    out["seconds"] = round(times[1] - times[0], 3) if times else 0.0
    out["protocols"] = dict(protocols.most_common(12))
    out["connections"] = len(flows)
    out["unanswered"] = _unanswered(flows)
    out["retransmits"] = _retransmits(flows)
    out["resets"] = _resets(flows)
    out["errors"] = [
        {"by": by, "name": name, "about": about, "count": count} for (by, name, about), count in errors.most_common(200)
    ]
    out["lines"] = _lines(out)
    return out


def _again_on_another_interface(packet: pcap.Packet, seen: dict[tuple[Any, ...], float]) -> bool:
    """The same packet, not the same segment sent again: that has another identification, or comes later (IPv6 has none)."""
    ends = (packet.source, packet.target, packet.protocol, packet.sport, packet.dport)
    key = (*ends, packet.seq, packet.ack, packet.flags, packet.length, packet.ident, packet.icmp)
    before = seen.pop(key, None)
    if len(seen) >= _RECENT:
        del seen[next(iter(seen))]
    seen[key] = packet.time
    return before is not None and abs(packet.time - before) < (_SAME_IDENT if packet.ident else _SAME)


def _flow(packet: pcap.Packet, flows: dict[tuple[_End, _End], _Flow]) -> tuple[_Flow, _End] | None:
    source, target = (packet.source, packet.sport), (packet.target, packet.dport)
    key = (min(source, target), max(source, target))
    flow = flows.get(key)
    if flow is None:
        if len(flows) >= MAX_FLOWS:
            return None
        flow = flows[key] = _Flow(source, target)
    return flow, source


def _segment(packet: pcap.Packet, flows: dict[tuple[_End, _End], _Flow]) -> None:
    found = _flow(packet, flows)
    if found is None:
        return
    flow, source = found
    flags = packet.flags
    if flags & pcap.RST:
        after_syn = flow.data == 0 and flow.syns > 0 and not flow.answered
        flow.resets.append((source, packet.ttl, after_syn)) if len(flow.resets) < 100 else None
        if source != flow.first:
            flow.answered = True
        return
    flow.ttls.setdefault(source, Counter())[packet.ttl] += 1
    if flags & pcap.SYN and not flags & pcap.ACK:
        if packet.seq != flow.syn_seq:  # a new connection between the same ports
            flow.first, flow.other = source, (packet.target, packet.dport)
            flow.syns, flow.syn_seq, flow.answered = 0, packet.seq, False
            flow.upto.clear()
        flow.syns += 1
        return
    if source != flow.first and flow.syns:
        flow.answered = True
    size = packet.length + (1 if flags & (pcap.SYN | pcap.FIN) else 0)
    if not size:
        return
    flow.data += packet.length
    flow.sent[source] = flow.sent.get(source, 0) + 1
    end = (packet.seq + size) & 0xFFFFFFFF
    upto = flow.upto.get(source)
    if upto is not None and packet.length <= 1 and packet.seq == (upto - 1) & 0xFFFFFFFF and not flags & (pcap.SYN | pcap.FIN):
        return  # a keep-alive probe repeats the last byte on purpose
    if upto is not None and (upto - end) & 0xFFFFFFFF < _HALF:
        flow.again[source] = flow.again.get(source, 0) + 1
    else:
        flow.upto[source] = end


def _error(packet: pcap.Packet, flows: dict[tuple[_End, _End], _Flow], errors: Counter[tuple[str, str, str]]) -> None:
    about = packet.about
    if about is None or packet.icmp is None:
        return
    names = NAMES4 if packet.protocol == 1 else NAMES6
    name = names.get(packet.icmp, f"type {packet.icmp[0]} code {packet.icmp[1]}")
    shown = _PROTOCOLS.get(about.protocol, str(about.protocol)).lower()
    if len(errors) < 10_000:
        port = f":{about.dport}" if about.dport else ""
        errors[packet.source, name, f"{shown} to {_bracket(about.target)}{port}"] += 1
    flow = flows.get(
        (
            min((about.source, about.sport), (about.target, about.dport)),
            max((about.source, about.sport), (about.target, about.dport)),
        )
    )
    if flow is not None and about.protocol == 6:
        flow.objected[f"{name}, says {packet.source}"] += 1


def _unanswered(flows: dict[tuple[_End, _End], _Flow]) -> list[dict[str, Any]]:
    found: dict[tuple[str, str, int, str], int] = {}
    for flow in flows.values():
        if flow.syns and not flow.answered:
            why = flow.objected.most_common(1)[0][0] if flow.objected else ""
            key = (flow.first[0], flow.other[0], flow.other[1], why)
            found[key] = found.get(key, 0) + flow.syns
    ranked = sorted(found.items(), key=lambda item: (-item[1], item[0]))[:200]
    return [{"from": key[0], "to": key[1], "port": key[2], "syns": count, "why": key[3]} for key, count in ranked]


def _retransmits(flows: dict[tuple[_End, _End], _Flow]) -> list[dict[str, Any]]:
    found: dict[tuple[str, str, int], list[int]] = {}
    for flow in flows.values():
        for source, again in flow.again.items():
            target = flow.other if source == flow.first else flow.first
            # The port that says which service it is: that of the side the connection was made to.
            tally = found.setdefault((source[0], target[0], flow.other[1]), [0, 0])
            tally[0] += again
            tally[1] += flow.sent.get(source, 0)
    ranked = sorted(found.items(), key=lambda item: (-item[1][0], item[0]))[:200]
    return [{"from": key[0], "to": key[1], "port": key[2], "again": tally[0], "sent": tally[1]} for key, tally in ranked]


def _resets(flows: dict[tuple[_End, _End], _Flow]) -> list[dict[str, Any]]:
    """By whom, when, and whether it came from as far as the rest of that side's packets: a device on the way is nearer."""
    found: Counter[tuple[str, str, int, str, int, int]] = Counter()
    for flow in flows.values():
        for source, ttl, after_syn in flow.resets:
            usual = flow.ttls.get(source, Counter()).most_common(1)
            target = flow.other if source == flow.first else flow.first
            found[source[0], target[0], flow.other[1], "syn" if after_syn else "data", ttl, usual[0][0] if usual else 0] += 1
    return [
        {"by": key[0], "to": key[1], "port": key[2], "after": key[3], "ttl": key[4], "usual_ttl": key[5] or None, "count": count}
        for key, count in found.most_common(200)
    ]


def hops(ttl: int) -> int:
    """How many routers a packet passed, taking the usual starting values."""
    return next(one for one in _TTLS if one >= min(ttl, 255)) - min(ttl, 255)


def _bracket(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _lines(out: dict[str, Any]) -> list[str]:
    """The summary for people; what is worth a look first."""
    kinds = ", ".join(f"{count} {name}" for name, count in out["protocols"].items())
    lines = [
        f"{out['packets']} packets in {out['seconds']:g} s{f': {kinds}' if kinds else ''}; {out['connections']} TCP connections"
    ]
    lines += [f"could not tell: {clean(one, 200)}" for one in out["problems"]]
    told: list[str] = []
    for one in out["unanswered"]:
        why = f" ({one['why']})" if one["why"] else ""
        told.append(f"no answer: {one['syns']} SYN from {one['from']} to {_bracket(one['to'])}:{one['port']}{why}")
    for one in out["resets"]:
        after = "the SYN: nothing listens there, or a rule rejects" if one["after"] == "syn" else "it was open"
        far = ""
        if one["usual_ttl"] is not None and abs(one["usual_ttl"] - one["ttl"]) > 1:
            far = f"; TTL {one['ttl']}, its other packets have {one['usual_ttl']}: it may come from a device on the way"
        elif one["ttl"]:
            far = f"; {hops(one['ttl'])} hops away by its TTL"
        told.append(f"reset: {one['count']} RST by {one['by']} (port {one['port']}, to {one['to']}) after {after}{far}")
    for one in out["retransmits"]:
        told.append(
            f"sent again: {one['again']} of {one['sent']} segments from {one['from']} to {one['to']} (port {one['port']})"
        )
    for one in out["errors"]:
        told.append(f"ICMP: {one['count']} {one['name']} by {one['by']}, about {one['about']}")
    if not told and out["packets"]:
        told = ["nothing unusual: every SYN was answered, no reset, no segment sent again, no ICMP error"]
    if not out["packets"] and not out["problems"]:
        told = ["no packet passed that fits the filter"]
    return lines + told[:MAX_LINES] + ([f"and {len(told) - MAX_LINES} more"] if len(told) > MAX_LINES else [])
