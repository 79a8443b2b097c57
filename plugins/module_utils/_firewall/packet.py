# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""The packet a walk follows, and what a match sees of it. A field that is not known (None) makes a match "may"."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Union

TCP, UDP, SCTP, ICMP, ICMPV6 = 6, 17, 132, 1, 58
SYN = 0x02
#: Bit of a connection's status: its destination was rewritten (IPS_DST_NAT).
DNAT = 0x20

_PROTOCOL_NAMES = {
    "icmp": 1,
    "igmp": 2,
    "tcp": 6,
    "udp": 17,
    "dccp": 33,
    "ipv6-frag": 44,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "ipv6-icmp": 58,
    "icmpv6": 58,
    "ospf": 89,
    "sctp": 132,
    "udplite": 136,
}
_ETHER_TYPES = {"ip": 0x0800, "arp": 0x0806, "vlan": 0x8100, "8021q": 0x8100, "ip6": 0x86DD}
_NFPROTO = {"ipv4": 2, "ipv6": 10}
_CT_STATUS = {"expected": 1, "seen-reply": 2, "assured": 4, "confirmed": 8, "snat": 16, "dnat": DNAT, "dying": 512}


@dataclass(frozen=True)
class Packet:
    """One packet. family: 4 or 6. proto: number. Addresses: text. iif, oif: interface names; "" where there is none.

    ct_state: new, established, related, invalid, untracked. ct_status: bits, of a new connection only. tcp_flags: bits (SYN 2).
    mark: the packet's mark. lower: interfaces under iif that it comes in by (ports, members); bridge: iif is a bridge.
    local: the destination is this host. reverse: the way back to the sender leads through iif (True), or that is not known.
    None anywhere: not known.
    """

    family: int
    proto: int
    saddr: str | None = None
    daddr: str | None = None
    sport: int | None = None
    dport: int | None = None
    iif: str | None = None
    oif: str | None = None
    ct_state: str | None = "new"
    tcp_flags: int | None = SYN
    icmp_type: int | None = None
    mark: int | None = 0
    local: bool | None = True
    ct_status: int | None = 0
    lower: tuple[str, ...] = ()
    bridge: bool = False
    reverse: bool | None = None

    def changed(self, **fields: Any) -> Packet:
        """The same packet with other fields (after NAT or a mark)."""
        return replace(self, **fields)


class _Absent:
    """The packet has no such field: every positive match fails."""


ABSENT = _Absent()
#: What a field may give: a number, a name, None for "not known", or ABSENT for "this packet has no such field".
FieldValue = Union[int, str, _Absent, None]
Reader = Callable[[Packet], FieldValue]


@lru_cache(maxsize=65536)
def address_number(text: str) -> int | None:
    """An IPv4 or IPv6 address as a number; None for anything else."""
    try:
        family = socket.AF_INET6 if ":" in text else socket.AF_INET
        return int.from_bytes(socket.inet_pton(family, text), "big")
    except (OSError, ValueError):
        return None


def field(packet: Packet, left: str) -> FieldValue:
    """The value a selector (one word pair of nft) has in this packet."""
    reader = _FIELDS.get(left)
    if reader is not None:
        return reader(packet)
    return None


def fields_of(left: str) -> list[str]:
    """The selectors of a concatenation; a fib lookup's keys are joined like one and are one selector."""
    return [left] if left.startswith("fib ") else left.split(" . ")


def _address(family: int, name: str) -> Reader:
    def read(packet: Packet) -> int | _Absent | None:
        if packet.family != family:
            return ABSENT
        text = getattr(packet, name)
        return None if text is None else address_number(text)

    return read


def _port(protocols: tuple[int, ...], name: str) -> Reader:
    def read(packet: Packet) -> int | _Absent | None:
        if packet.proto not in protocols:
            return ABSENT
        value: int | None = getattr(packet, name)
        return value

    return read


def _icmp(number: int, known: bool) -> Reader:
    def read(packet: Packet) -> int | _Absent | None:
        if packet.proto != number:
            return ABSENT
        return packet.icmp_type if known else None

    return read


def _status(packet: Packet) -> FieldValue:
    if packet.ct_state in ("invalid", "untracked"):
        return ABSENT
    return packet.ct_status if packet.ct_state == "new" else None


_WITH_PORTS = (TCP, UDP, SCTP, 33, 136)
_FIELDS: dict[str, Reader] = {
    "ip saddr": _address(4, "saddr"),
    "ip daddr": _address(4, "daddr"),
    "ip6 saddr": _address(6, "saddr"),
    "ip6 daddr": _address(6, "daddr"),
    "ip protocol": lambda packet: packet.proto if packet.family == 4 else ABSENT,
    "ip6 nexthdr": lambda packet: packet.proto if packet.family == 6 else ABSENT,
    "ip version": lambda packet: packet.family,
    "meta l4proto": lambda packet: packet.proto,
    "meta nfproto": lambda packet: 2 if packet.family == 4 else 10,
    "meta protocol": lambda packet: 0x0800 if packet.family == 4 else 0x86DD,
    "ether type": lambda packet: 0x0800 if packet.family == 4 else 0x86DD,
    "meta iifname": lambda packet: packet.iif,
    "meta iif": lambda packet: packet.iif,
    "meta oifname": lambda packet: packet.oif,
    "meta oif": lambda packet: packet.oif,
    "meta mark": lambda packet: packet.mark,
    "ct state": lambda packet: packet.ct_state,
    "ct direction": lambda packet: "original" if packet.ct_state == "new" else None,
    "tcp flags": lambda packet: packet.tcp_flags if packet.proto == TCP else ABSENT,
    "icmp type": _icmp(ICMP, True),
    "icmp code": _icmp(ICMP, False),
    "icmpv6 type": _icmp(ICMPV6, True),
    "icmpv6 code": _icmp(ICMPV6, False),
    "ct status": lambda packet: _status(packet),
    "fib daddr type": lambda packet: None if packet.local is None else ("local" if packet.local else "unicast"),
}
# With the packet's mark among the keys the lookup is the same unless a policy rule asks for marks; ``reverse`` knows.
for _keys in ("saddr . iif", "saddr . mark . iif"):
    _FIELDS[f"fib {_keys} oif"] = lambda packet: "exists" if packet.reverse else None
for _name, _numbers in (
    ("tcp", (TCP,)),
    ("udp", (UDP,)),
    ("sctp", (SCTP,)),
    ("dccp", (33,)),
    ("udplite", (136,)),
    ("th", _WITH_PORTS),
):
    for _end in ("sport", "dport"):
        _FIELDS[f"{_name} {_end}"] = _port(_numbers, _end)


def symbol(left: str, value: object) -> object:
    """A symbol of the rule as the number ``field`` gives for this selector; anything else as it is."""
    if not isinstance(value, str):
        return value
    if left in ("meta l4proto", "ip protocol", "ip6 nexthdr"):
        return _PROTOCOL_NAMES.get(value, value)
    if left in ("meta protocol", "ether type"):
        return _ETHER_TYPES.get(value, value)
    if left == "meta nfproto":
        return _NFPROTO.get(value, value)
    if left == "ct status":
        return _CT_STATUS.get(value, value)
    if left in ("ip saddr", "ip daddr", "ip6 saddr", "ip6 daddr"):
        return address_number(value)
    return value
