# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""What traffic control filters with actions do to a packet. Pure: entries of the hook census in.

A packet is offered to the filters of a place in their order, until the actions of one that matches end it: what is known of the
packet is compared bit by bit with the conditions of the filter, and a bit that is not known makes it "may".
Sources: net/sched/cls_api.c (tcf_classify, tcf_exts_exec), act_api.c (tcf_action_exec), cls_u32.c; tc-actions(8).
"""

from __future__ import annotations

import socket
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._firewall.packet import SCTP, TCP, UDP, Packet

Entry = dict[str, Any]

#: What a filter does to a packet: it has no say, ends the way of the packet here, lets it pass, sends it elsewhere; or may.
NEXT, DROP, PASS, AWAY, MAY = "next", "drop", "pass", "away", "may"

_GONE = ("drop", "stolen", "queued", "trap")
#: These change the packet, or what is known of it.
_CHANGING = frozenset(("pedit", "nat", "ct", "vlan", "mpls", "skbmod", "csum", "tunnel_key", "skbedit", "bpf", "gate", "ife"))
_ETHERTYPES = {4: 0x0800, 6: 0x86DD}
_PROTOCOLS = {4: "ip", 6: "ipv6"}
_WITH_PORTS = (TCP, UDP, SCTP)

#: Bytes and a mask of the bits that are known.
Known = tuple[int, int]


def says(entry: Entry, packet: Packet) -> str:
    """What this filter does to a packet that gets to it: one of NEXT, DROP, PASS, AWAY, MAY."""
    tc = entry.get("tc") or {}
    if tc.get("reached") is False or tc.get("protocol") not in ("all", _PROTOCOLS[packet.family]):
        return NEXT
    if entry.get("kind") == "bpf" or tc.get("direct_action") or tc.get("chain"):
        return MAY
    matched = matches(tc.get("conditions"), packet)
    if matched is False:
        return NEXT
    done, changed = _acted(tc.get("actions") or [])
    if matched is None:
        return NEXT if done == NEXT and not changed else MAY
    return MAY if done == NEXT and changed else done


def _acted(actions: list[dict[str, Any]]) -> tuple[str, bool]:
    """(what the actions do, whether one changes the packet); the last one's verdict holds, and none lets the packet pass."""
    changed = False
    for action in actions:
        verdict, other = action.get("verdict"), action.get("else")
        changed = changed or action.get("kind") in _CHANGING
        if other is not None and (other in _GONE or verdict in _GONE or other != verdict):
            return MAY, changed
        if verdict in _GONE:
            return DROP, changed
        if verdict == "redirect":
            return AWAY, changed
        if verdict == "continue":
            return NEXT, changed
        if verdict == "ok":
            return PASS, changed
        if verdict != "pipe":
            return MAY, changed
    return PASS, changed


def decides(entry: Entry, beside: list[Entry], packet: Packet) -> str:
    """As ``says``, for a packet that is offered to the filters of the place first that come before this one.

    beside: entries of the census, those of other places among them. Programs of tcx run before all filters, and one that
    passes a packet on for good keeps it from them: whether it does is not known.
    """
    said = says(entry, packet)
    if said == NEXT:
        return said
    for other in beside:
        if other.get("hook") == "tcx" and _same_side(other, entry):
            return MAY
        if _before(other, entry):
            earlier = says(other, packet)
            if earlier in (DROP, PASS, AWAY):
                return NEXT
            if earlier == MAY:
                return MAY
    return said


def _same_side(other: Entry, entry: Entry) -> bool:
    """Of the same interface, in the same direction?"""
    return other.get("direction") == entry.get("direction") and (other.get("interface") or {}).get("index") == (
        entry.get("interface") or {}
    ).get("index")


def _before(other: Entry, entry: Entry) -> bool:
    return (
        other.get("hook") == "tc"
        and _same_side(other, entry)
        and (other.get("tc") or {}).get("place") == (entry.get("tc") or {}).get("place")
        and other.get("order", 0) < entry.get("order", 0)
    )


def partly(entry: Entry) -> str | None:
    """How a filter drops only some of what it matches: ``one in about 3``, ``rate 125000 bytes/s``; None when it does not."""
    for action in (entry.get("tc") or {}).get("actions") or []:
        if action.get("else") in _GONE or (action.get("else") is not None and action.get("verdict") in _GONE):
            return str(action.get("detail") or "at random")
    return None


def matches(conditions: Any, packet: Packet) -> bool | None:
    """Do all conditions (those of tc_match) hold? None: it depends on what is not known of the packet, or of the filter."""
    if conditions is None:
        return None
    sure = True
    for one in conditions:
        held = _holds(one, packet)
        if held is False:
            return False
        sure = sure and held is True
    return True if sure else None


def _holds(condition: dict[str, Any], packet: Packet) -> bool | None:
    width = len(condition["value"]) // 2
    value, known = _field(condition, packet, width)
    full = (1 << 8 * width) - 1
    if "last" in condition:
        if known != full:
            return None
        return int(condition["value"], 16) <= value <= int(condition["last"], 16) if condition["last"] and width else None
    mask = int(condition["mask"], 16) if width else 0
    if (int(condition["value"] or "0", 16) ^ value) & mask & known:
        return False
    return True if mask & ~known & full == 0 else None


def _field(condition: dict[str, Any], packet: Packet, width: int) -> Known:
    """What is known of the field, as ``width`` bytes."""
    name, full = condition["field"], (1 << 8 * width) - 1
    if name == "header":
        return _header(packet, int(condition["at"]), width)
    if name in ("saddr", "daddr"):
        # A filter of addresses of the other family matches nothing; its ethertype says so.
        address = packet.saddr if name == "saddr" else packet.daddr
        return _address(packet.family, address) if width == (4 if packet.family == 4 else 16) else (0, 0)
    number = {
        "ethertype": _ETHERTYPES[packet.family],
        "ip_proto": packet.proto,
        "sport": packet.sport if packet.proto in _WITH_PORTS else None,
        "dport": packet.dport if packet.proto in _WITH_PORTS else None,
        "tcp_flags": packet.tcp_flags if packet.proto == TCP else None,
        "tos": packet.tos,
        "ttl": packet.ttl,
        "mark": packet.mark,
    }.get(name)
    return (0, 0) if number is None else (number & full, full)


def _address(family: int, address: str | None) -> Known:
    width = 4 if family == 4 else 16
    if address is None:
        return 0, 0
    packed = socket.inet_pton(socket.AF_INET if family == 4 else socket.AF_INET6, address)
    return int.from_bytes(packed, "big"), (1 << 8 * width) - 1


def _header(packet: Packet, at: int, width: int) -> Known:
    """Bytes from the start of the IP header, which has no options, of a packet that is no fragment."""
    value = known = 0
    total = 60
    for start, size, field, bits in _layout(packet):
        value |= field << 8 * (total - start - size)
        known |= bits << 8 * (total - start - size)
    if at < 0 or at + width > total:
        return 0, 0
    shift, full = 8 * (total - at - width), (1 << 8 * width) - 1
    return value >> shift & full, known >> shift & full


def _layout(packet: Packet) -> list[tuple[int, int, int, int]]:
    """(first byte, bytes, value, mask of known bits) of what is known of the headers."""

    def number(start: int, size: int, value: int | None, bits: int | None = None) -> tuple[int, int, int, int]:
        full = (1 << 8 * size) - 1 if bits is None else bits
        return (start, size, 0, 0) if value is None else (start, size, value & full, full)

    source, target = _address(packet.family, packet.saddr), _address(packet.family, packet.daddr)
    if packet.family == 4:
        found = [
            number(0, 1, 0x45), number(1, 1, packet.tos), number(2, 2, packet.length), number(6, 2, 0, 0xBFFF),
            number(8, 1, packet.ttl), number(9, 1, packet.proto), (12, 4, *source), (16, 4, *target),
        ]  # fmt: skip
        after = 20
    else:
        # The traffic class lies across two bytes.
        both = None if packet.tos is None else 0x6000 | packet.tos << 4
        found = [
            number(0, 2, both, 0xFFF0) if both is not None else number(0, 1, 0x60, 0xF0),
            number(4, 2, None if packet.length is None else packet.length - 40), number(6, 1, packet.proto),
            number(7, 1, packet.ttl), (8, 16, *source), (24, 16, *target),
        ]  # fmt: skip
        after = 40
    if packet.proto in _WITH_PORTS:
        found += [number(after, 2, packet.sport), number(after + 2, 2, packet.dport)]
    if packet.proto == TCP:
        found.append(number(after + 13, 1, packet.tcp_flags))
    return found


def shown(conditions: Any) -> str:
    """``ip_proto 6, dport 1678``; ``0000068e/0000ffff at byte 20 of the packet``; every packet; what is not understood."""
    if conditions is None:
        return "what it matches is not understood in full"
    words = []
    for one in conditions:
        if "last" in one:
            words.append(f"{one['field']} {_number(one['value'])} to {_number(one['last'])}")
        elif one["field"] == "header":
            words.append(f"{one['value']}/{one['mask']} at byte {one['at']} of the packet")
        elif one["field"] in ("saddr", "daddr"):
            words.append(f"{one['field']} {_text(one['value'])}{_prefix(one['mask'])}")
        else:
            whole = set(one["mask"]) <= {"f"}
            value = f"0x{one['value']}" if one["field"] in ("ethertype", "mark") else _number(one["value"])
            words.append(f"{one['field']} {value}" + ("" if whole else f"/0x{one['mask']}"))
    return ", ".join(words) or "every packet of its protocol"


def _number(value: str) -> str:
    return str(int(value, 16)) if value else "?"


def _text(value: str) -> str:
    return socket.inet_ntop(socket.AF_INET if len(value) == 8 else socket.AF_INET6, bytes.fromhex(value))


def _prefix(mask: str) -> str:
    bits = f"{int(mask, 16):0{len(mask) * 4}b}"
    if "01" in bits:
        return f"/0x{mask}"
    return "" if "0" not in bits else f"/{bits.count('1')}"
