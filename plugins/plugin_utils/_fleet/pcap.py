# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This plugin util is PRIVATE to the collection. It can change at any time.
"""Headers out of a capture file that nobody vouches for: bounded, and without a byte that makes it fail.

Sources: pcap-savefile(5), https://www.tcpdump.org/linktypes.html, RFC 791, RFC 8200, RFC 9293, RFC 768, RFC 792, RFC 4443
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from dataclasses import dataclass

MAX_PACKETS = 200_000
_MAGIC = {
    b"\xd4\xc3\xb2\xa1": ("<", 1e-6),
    b"\xa1\xb2\xc3\xd4": (">", 1e-6),
    b"\x4d\x3c\xb2\xa1": ("<", 1e-9),
    b"\xa1\xb2\x3c\x4d": (">", 1e-9),
}
#: Link type -> (bytes before the protocol, where the protocol stands); None: the first nibble says which IP it is.
_LINKS: dict[int, tuple[int, int | None]] = {
    1: (14, 12),
    113: (16, 14),
    276: (20, 0),
    12: (0, None),
    101: (0, None),
    228: (0, None),
    229: (0, None),
}
_TAGS = (0x8100, 0x88A8, 0x9100)
#: IPv6 extension headers that may be stepped over.
_EXTENSIONS = (0, 43, 60, 135)
FIN, SYN, RST, ACK = 1, 2, 4, 16


class NotPcap(ValueError):
    """The bytes are not a capture file that is read here."""


@dataclass(frozen=True)
class Packet:
    """time: seconds. ttl: TTL or hop limit. ident: identification of IPv4, 0 for none. length: bytes of content that the packet
    had, captured or not. seq, ack, flags: TCP.

    icmp: (type, code) and, of an error, the packet it is about. fragment: not the first part, so without ports.
    """

    time: float
    source: str
    target: str
    protocol: int
    ttl: int
    ident: int = 0
    sport: int = 0
    dport: int = 0
    flags: int = 0
    seq: int = 0
    ack: int = 0
    length: int = 0
    icmp: tuple[int, int] | None = None
    about: Packet | None = None
    fragment: bool = False


def packets(data: bytes) -> Iterator[Packet | None]:
    """Each record of the file, None for one that is no IP packet or cut too short; at most 200,000. Raises NotPcap."""
    if len(data) < 24 or data[:4] not in _MAGIC:
        raise NotPcap("it does not begin as a capture file does (pcapng is not read)")
    order, unit = _MAGIC[data[:4]]
    link = struct.unpack_from(f"{order}I", data, 20)[0] & 0xFFFF
    if link not in _LINKS:
        raise NotPcap(f"its link type {link} is none of {', '.join(map(str, sorted(_LINKS)))}")
    place = 24
    for _number in range(MAX_PACKETS):
        if place + 16 > len(data):
            return
        seconds, parts, captured, _length = struct.unpack_from(f"{order}IIII", data, place)
        end = place + 16 + captured
        if end > len(data):
            return  # the last record was cut
        yield _frame(data[place + 16 : end], link, seconds + parts * unit)
        place = end


def _frame(frame: bytes, link: int, when: float) -> Packet | None:
    offset, at = _LINKS[link]
    if len(frame) < offset + 1:
        return None
    if at is None:
        kind = 0x0800 if frame[0] >> 4 == 4 else 0x86DD
    else:
        kind = struct.unpack_from("!H", frame, at)[0]
        for _tag in range(2):
            if kind not in _TAGS or len(frame) < offset + 4:
                break
            kind = struct.unpack_from("!H", frame, offset + 2)[0]
            offset += 4
    body = frame[offset:]
    if kind == 0x0800:
        return _ip4(body, when)
    return _ip6(body, when) if kind == 0x86DD else None


def _ip4(data: bytes, when: float, quoted: bool = False) -> Packet | None:
    if len(data) < 20 or data[0] >> 4 != 4:
        return None
    head = (data[0] & 0xF) * 4
    length, ident, fragment = struct.unpack_from("!HHH", data, 2)
    if head < 20:
        return None
    # Offloads leave the length at zero; then what was captured is all that is known.
    content = (length or len(data)) - head
    source, target = str(ipaddress.IPv4Address(data[12:16])), str(ipaddress.IPv4Address(data[16:20]))
    base = Packet(when, source, target, data[9], data[8], ident, length=max(0, content), fragment=bool(fragment & 0x1FFF))
    return base if base.fragment else _transport(base, data[head:], quoted)


def _ip6(data: bytes, when: float, quoted: bool = False) -> Packet | None:
    if len(data) < 40 or data[0] >> 4 != 6:
        return None
    length, following, ttl = struct.unpack_from("!HBB", data, 4)
    source, target = str(ipaddress.IPv6Address(data[8:24])), str(ipaddress.IPv6Address(data[24:40]))
    place, fragment = 40, False
    for _header in range(8):
        if following in _EXTENSIONS and len(data) >= place + 2:
            following, size = data[place], (data[place + 1] + 1) * 8
        elif following == 44 and len(data) >= place + 8:
            following, size, fragment = data[place], 8, bool(struct.unpack_from("!H", data, place + 2)[0] & 0xFFF8)
        else:
            break
        place += size
        if fragment:
            break
    content = (length or len(data) - 40) - (place - 40)
    base = Packet(when, source, target, following, ttl, length=max(0, content), fragment=fragment)
    return base if fragment else _transport(base, data[place:], quoted)


def _transport(base: Packet, data: bytes, quoted: bool) -> Packet | None:
    values = {**vars(base)}
    if base.protocol in (6, 17):
        # An ICMP error repeats eight bytes of what it is about: ports and sequence number.
        if len(data) < (8 if quoted or base.protocol == 17 else 14):
            return None
        values["sport"], values["dport"] = struct.unpack_from("!HH", data)
        if base.protocol == 17:
            values["length"] = max(0, base.length - 8)
            return Packet(**values)
        values["seq"] = struct.unpack_from("!I", data, 4)[0]
        if len(data) >= 14:
            values["ack"] = struct.unpack_from("!I", data, 8)[0]
            values["flags"] = data[13]
            values["length"] = max(0, base.length - (data[12] >> 4) * 4)
        return Packet(**values)
    if base.protocol in (1, 58):
        if len(data) < 4:
            return None
        values["icmp"] = (data[0], data[1])
        error = data[0] in (3, 11, 12) if base.protocol == 1 else data[0] < 128
        if error and not quoted and len(data) > 8:
            read = _ip4 if base.protocol == 1 else _ip6
            values["about"] = read(data[8:], base.time, True)
    return Packet(**values)
