# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""The packet a walk follows, and what a match sees of it. A field that is not known (None) makes a match "may"."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, Union

TCP, UDP, SCTP, ICMP, ICMPV6 = 6, 17, 132, 1, 58
SYN, ACK = 0x02, 0x10

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
#: From here on it is seen that ``fib ... oif`` gives lo for whatever came over lo, on every hook.
_NO_LOOKUP_OVER_LO = (6, 16)
_NFPROTO = {"ipv4": 2, "ipv6": 10}


class World(Protocol):
    """What a rule can ask the host about a packet's addresses (routing.Router answers)."""

    kernel: tuple[int, int] | None

    def address_type(self, family: int, address: str, dev: str | None, other: str | None = None) -> str | None:
        """local, unicast, broadcast, multicast ...; None when it cannot be told. dev: only on this interface. other: the
        packet's other address."""

    def way_to(self, packet: Packet, address: str, other: str | None, dev: str | None, mark: int | None) -> str | None:
        """Interface of the route to ``address``; "" for none; None when it cannot be told. dev: it must be this one."""

    def redirected(self, family: int, dev: str, other: str | None) -> str | None:
        """Where ``redirect`` sends a packet that came in by ``dev``."""

    def first_address(self, family: int, dev: str, other: str | None) -> str | None:
        """The address the kernel takes for packets of its own on ``dev``; other: whom it talks to. None: cannot be told."""


@dataclass(frozen=True)
class Packet:
    """One packet. family: 4 or 6. proto: number. Addresses: text. iif, oif: interface names; "" where there is none.

    ct_state: new, established, related, invalid, untracked. ct_status: what is known of its connection (snat, dnat, confirmed,
    seen-reply ...). original: (saddr, daddr, sport, dport) before any mapping. tcp_flags: bits (SYN 2). mark: the packet's mark.
    local: whether the destination is the host's, where no routes are given. tos: the whole byte. length: of the IP packet, bytes.
    lower: interfaces under iif that it comes in by (ports, members); bridge: iif is a bridge. reverse: the way back to the sender
    leads through iif (True), or that is not known; asked only where no routes are given.
    smac, dmac: of the frame it came in, lower case. uid, gid: of the sending process. own: sent by this host.
    touched: sets (family, table, name) that its rules changed. pkttype: host, broadcast, multicast. None anywhere: not known.
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
    icmp_code: int | None = None
    mark: int | None = 0
    local: bool | None = True
    ct_mark: int | None = 0
    ct_status: frozenset[str] | None = frozenset()
    original: tuple[str | None, str | None, int | None, int | None] | None = None
    tos: int | None = None
    ttl: int | None = None
    length: int | None = None
    uid: int | None = None
    gid: int | None = None
    own: bool = False
    touched: frozenset[tuple[str, str, str]] | None = frozenset()
    smac: str | None = None
    dmac: str | None = None
    lower: tuple[str, ...] = ()
    bridge: bool = False
    reverse: bool | None = None
    world: World | None = None

    def changed(self, **fields: Any) -> Packet:
        """The same packet with other fields (after NAT or a mark). As dataclasses.replace, which takes ten times as long."""
        made = object.__new__(Packet)
        made.__dict__.update(self.__dict__)
        made.__dict__.update(fields)
        return made


_MERGED = tuple(
    one for one in Packet.__dataclass_fields__ if one not in ("family", "proto", "world", "own", "lower", "bridge", "reverse")
)


def merged(packets: list[Packet]) -> Packet:
    """What is known of a packet that is one of these: a field they do not agree on is not known."""
    first = packets[0]
    if all(one is first for one in packets):
        return first
    lost: dict[str, Any] = {
        name: None for name in _MERGED if any(getattr(one, name) != getattr(first, name) for one in packets[1:])
    }
    return first.changed(**lost) if lost else first


def first_state(proto: int, tcp_flags: int | None, icmp_type: int | None) -> str | None:
    """What connection tracking calls a packet that belongs to no connection it knows (net.netfilter.nf_conntrack_tcp_loose 1)."""
    if proto == TCP:
        if tcp_flags is None:
            return None
        flags = tcp_flags & 0x17
        if flags == SYN or flags == 0x10:
            return "new"  # a lone ACK is taken for a connection that began before tracking did
        return "invalid"
    if proto == ICMP:
        return None if icmp_type is None else "new" if icmp_type in (8, 13, 15, 17) else "invalid"
    if proto == ICMPV6:
        if icmp_type is None:
            return None
        # Neighbour discovery and multicast listener messages are not tracked.
        return "untracked" if 130 <= icmp_type <= 137 or icmp_type == 143 else "new" if icmp_type in (128, 139) else "invalid"
    return "new"


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


@lru_cache(maxsize=4096)
def fields_of(left: str) -> tuple[str, ...]:
    """The selectors of a concatenation; ``fib saddr . iif oif`` is one of its own."""
    found: list[str] = []
    for part in left.split(" . "):
        if found and found[-1][:4] == "fib " and not found[-1].endswith((" type", " oif", " oifname")):
            found[-1] += f" . {part}"
        else:
            found.append(part)
    return tuple(found)


def field(packet: Packet, left: str) -> FieldValue:
    """The value a selector (one word pair of nft) has in this packet."""
    reader = _FIELDS.get(left)
    return reader(packet) if reader is not None else _other(packet, left)


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


def _icmp(number: int, name: str) -> Reader:
    def read(packet: Packet) -> int | _Absent | None:
        if packet.proto != number:
            return ABSENT
        value: int | None = getattr(packet, name)
        return value

    return read


_WITH_PORTS = (TCP, UDP, SCTP, 33, 136)
#: Without a connection every field of it but its state is absent.
_NO_CONNECTION = ("invalid", "untracked")


def _ct(read: Callable[[Packet], FieldValue]) -> Reader:
    def inner(packet: Packet) -> FieldValue:
        if packet.ct_state is None:
            return None
        return ABSENT if packet.ct_state in _NO_CONNECTION else read(packet)

    return inner


def _original(place: int, family: int = 0) -> Reader:
    def read(packet: Packet) -> FieldValue:
        if family and packet.family != family:
            return ABSENT
        if packet.original is None:
            return None
        value = packet.original[place]
        return address_number(value) if isinstance(value, str) else value

    return read


def _dscp(family: int, shift: int, mask: int) -> Reader:
    def read(packet: Packet) -> FieldValue:
        if packet.family != family:
            return ABSENT
        return None if packet.tos is None else packet.tos >> shift & mask

    return read


def _of_family(family: int, name: str) -> Reader:
    def read(packet: Packet) -> FieldValue:
        if packet.family != family:
            return ABSENT
        value: int | None = getattr(packet, name)
        return value

    return read


def _icmp_of_set(packet: Packet) -> FieldValue:
    """What stands for the port of an ICMP message in an ipset."""
    if packet.icmp_type is None or packet.icmp_code is None:
        return None
    return packet.icmp_type << 8 | packet.icmp_code


def _ether(name: str) -> Reader:
    def read(packet: Packet) -> FieldValue:
        if packet.own or packet.iif in ("", "lo"):
            return ABSENT  # nft and iptables ask for an Ethernet interface that it came in by
        value: str | None = getattr(packet, name)
        return value

    return read


def _physdev(value: FieldValue) -> Reader:
    """Ports of a bridge: none is noted on a packet that came by another interface."""
    return lambda packet: None if packet.bridge or packet.iif is None else value


def _th(name: str) -> Reader:
    def read(packet: Packet) -> FieldValue:
        # Of other protocols nft reads whatever stands in these bytes.
        value: int | None = getattr(packet, name) if packet.proto in _WITH_PORTS else None
        return value

    return read


def _pkttype(packet: Packet) -> FieldValue:
    if packet.daddr is None:
        return None
    number = address_number(packet.daddr)
    if number is None:
        return None
    if packet.family == 6:
        return "multicast" if number >> 120 == 0xFF else "host"
    if number >> 28 == 0xE:
        return "multicast"
    if number == 0xFFFFFFFF:
        return "broadcast"
    if packet.world is None:
        return None
    kind = packet.world.address_type(4, packet.daddr, None)
    return "broadcast" if kind == "broadcast" else None if kind is None else "host"


def _owner(name: str) -> Reader:
    def read(packet: Packet) -> FieldValue:
        if packet.own:
            value: int | None = getattr(packet, name)
            return value
        # A packet from outside has no socket yet, unless the kernel found a connected one early.
        return ABSENT if packet.proto == TCP and packet.ct_state == "new" else None

    return read


def _fib_type(packet: Packet, side: str, dev: str | None) -> FieldValue:
    address = packet.saddr if side == "saddr" else packet.daddr
    if address is None:
        return None
    if packet.world is not None:
        return packet.world.address_type(packet.family, address, dev, packet.daddr if side == "saddr" else packet.saddr)
    if side != "daddr" or dev is not None or packet.local is None:
        return None
    return "local" if packet.local else "unicast"


def _fib(packet: Packet, left: str) -> FieldValue:
    """``fib saddr . iif oif`` and the like: words are keys and a result."""
    words = left.split()
    keys, result = [one for one in words[1:-1] if one != "."], words[-1]
    if not keys or keys[0] not in ("saddr", "daddr") or not set(keys[1:]) <= {"iif", "oif", "mark", "saddr", "daddr"}:
        return None
    dev: str | None = None
    for key, name in (("iif", packet.iif), ("oif", packet.oif)):
        if key in keys:
            if not name:
                return None
            dev = name
    if result == "type":
        return _fib_type(packet, keys[0], dev)
    address = packet.saddr if keys[0] == "saddr" else packet.daddr
    if packet.iif == "lo" and result != "type":
        # The kernel does not look up what came over lo; older ones did so behind prerouting.
        known = packet.world.kernel if packet.world is not None else None
        return "lo" if "iif" in keys or (known or (0, 0)) >= _NO_LOOKUP_OVER_LO else None
    if packet.world is None and result == "oif" and keys[0] == "saddr" and "iif" in keys and packet.reverse:
        return packet.iif or None
    if result not in ("oif", "oifname") or address is None or packet.world is None or len(keys) > 2 + ("mark" in keys):
        return None
    if "mark" in keys and packet.mark is None:
        return None
    other = packet.daddr if keys[0] == "saddr" else packet.saddr
    return packet.world.way_to(packet, address, other, dev, packet.mark if "mark" in keys else 0)


_FIELDS: dict[str, Reader] = {
    "ip saddr": _address(4, "saddr"),
    "ip daddr": _address(4, "daddr"),
    "ip6 saddr": _address(6, "saddr"),
    "ip6 daddr": _address(6, "daddr"),
    "ip protocol": lambda packet: packet.proto if packet.family == 4 else ABSENT,
    "ip6 nexthdr": lambda packet: packet.proto if packet.family == 6 else ABSENT,
    "ip version": lambda packet: 4 if packet.family == 4 else ABSENT,
    "ip6 version": lambda packet: 6 if packet.family == 6 else ABSENT,
    "ip hdrlength": lambda packet: ABSENT if packet.family == 6 else None,
    "ip dscp": _dscp(4, 2, 0x3F),
    "ip6 dscp": _dscp(6, 2, 0x3F),
    "ip ecn": _dscp(4, 0, 3),
    "ip6 ecn": _dscp(6, 0, 3),
    "@nh,8,8": lambda packet: packet.tos if packet.family == 4 else None,
    "ipset icmp": _icmp_of_set,
    "ip6 tclass": _of_family(6, "tos"),
    "ether saddr": _ether("smac"),
    "ether daddr": _ether("dmac"),
    "physdev in": _physdev(""),
    "physdev out": _physdev(""),
    "physdev is-in": _physdev(0),
    "physdev is-out": _physdev(0),
    "physdev is-bridged": _physdev(0),
    "ip ttl": _of_family(4, "ttl"),
    "ip6 hoplimit": _of_family(6, "ttl"),
    "ip length": _of_family(4, "length"),
    "meta length": lambda packet: packet.length,
    "meta l4proto": lambda packet: packet.proto,
    "meta nfproto": lambda packet: 2 if packet.family == 4 else 10,
    "meta protocol": lambda packet: 0x0800 if packet.family == 4 else 0x86DD,
    "ether type": lambda packet: 0x0800 if packet.family == 4 else 0x86DD,
    "meta iifname": lambda packet: packet.iif,
    "meta iif": lambda packet: packet.iif,
    "meta oifname": lambda packet: packet.oif,
    "meta oif": lambda packet: packet.oif,
    "meta mark": lambda packet: packet.mark,
    "meta pkttype": _pkttype,
    "meta skuid": _owner("uid"),
    "meta skgid": _owner("gid"),
    "ct state": lambda packet: packet.ct_state,
    "ct direction": _ct(lambda packet: "original" if packet.ct_state == "new" else None),
    "ct mark": _ct(lambda packet: packet.ct_mark),
    "ct protocol": _ct(lambda packet: packet.proto),
    "ct l3proto": _ct(lambda packet: "ipv4" if packet.family == 4 else "ipv6"),
    "ct original protocol": _ct(lambda packet: packet.proto),
    "ct original saddr": _ct(_original(0)),
    "ct original daddr": _ct(_original(1)),
    "ct original ip saddr": _ct(_original(0, 4)),
    "ct original ip daddr": _ct(_original(1, 4)),
    "ct original ip6 saddr": _ct(_original(0, 6)),
    "ct original ip6 daddr": _ct(_original(1, 6)),
    "ct original proto-src": _ct(_original(2)),
    "ct original proto-dst": _ct(_original(3)),
    "tcp flags": lambda packet: packet.tcp_flags if packet.proto == TCP else ABSENT,
    "icmp type": _icmp(ICMP, "icmp_type"),
    "icmp code": _icmp(ICMP, "icmp_code"),
    "icmpv6 type": _icmp(ICMPV6, "icmp_type"),
    "icmpv6 code": _icmp(ICMPV6, "icmp_code"),
}
for _name, _numbers in (("tcp", (TCP,)), ("udp", (UDP,)), ("sctp", (SCTP,)), ("dccp", (33,)), ("udplite", (136,))):
    for _end in ("sport", "dport"):
        _FIELDS[f"{_name} {_end}"] = _port(_numbers, _end)
_FIELDS["th sport"], _FIELDS["th dport"] = _th("sport"), _th("dport")

_EXTENSIONS = {"hbh": 0, "rt": 43, "srh": 43, "frag": 44, "ah": 51, "dst": 60, "mh": 135}
#: Selectors of a header that a packet of another protocol does not have: without it a rule of nft ends there.
_HEADERS = {
    "tcp": (TCP,),
    "udp": (UDP,),
    "sctp": (SCTP,),
    "dccp": (33,),
    "udplite": (136,),
    "esp": (50,),
    "ah": (51,),
    "comp": (108,),
}
_HEADERS.update({"icmp": (ICMP,), "icmpv6": (ICMPV6,), "igmp": (2,)})


def _other(packet: Packet, left: str) -> FieldValue:
    """Selectors whose value is not followed: absent where the packet cannot have them, else not known."""
    first, _space, rest = left.partition(" ")
    protocols = _HEADERS.get(first)
    if protocols is not None and rest.split(" ")[0] != "option":
        return None if packet.proto in protocols else ABSENT
    if first in ("ip", "ip6") and rest.split(" ")[0] != "option":
        return None if packet.family == (4 if first == "ip" else 6) else ABSENT
    if first == "arp":
        return ABSENT
    if first == "exthdr":
        # The packet has the headers its fields say, and no others.
        if packet.family != 6 or " " in rest:
            return ABSENT
        return "exists" if packet.proto == _EXTENSIONS.get(rest) else "missing"
    if first == "fib":
        return _fib(packet, left)
    return None


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
    if left in ("ip saddr", "ip daddr", "ip6 saddr", "ip6 daddr") or (left[:3] == "ct " and left[-4:] == "addr"):
        return address_number(value)
    return value
