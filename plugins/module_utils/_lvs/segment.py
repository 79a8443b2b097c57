# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Who on the segment answers for an address? Asked with a packet of our own, so that no cache answers.

Sources: RFC 826 (ARP), RFC 4861 (neighbour discovery), packet(7).
"""

from __future__ import annotations

import ipaddress
import select
import socket
import struct
import time

from ansible_collections.netops.fleet.plugins.module_utils._kernel import procfs, rtnl

_ETH_ARP, _ETH_IP6 = 0x0806, 0x86DD
_SOLICIT, _ADVERT = 135, 136


class CannotAsk(Exception):
    """The question cannot be put from this link; the message says why."""


def arp_request(mac: bytes, source: str, target: str) -> bytes:
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + socket.inet_aton(source) + bytes(6) + socket.inet_aton(target)
    return b"\xff" * 6 + mac + struct.pack("!H", _ETH_ARP) + body


def arp_reply(frame: bytes, target: str) -> str | None:
    """The MAC address that says it has ``target``, or None."""
    if len(frame) < 42 or struct.unpack_from("!H", frame, 12)[0] != _ETH_ARP:
        return None
    kind, _protocol, _hlen, _plen, operation = struct.unpack_from("!HHBBH", frame, 14)
    if (kind, operation) != (1, 2) or frame[28:32] != socket.inet_aton(target):
        return None
    return rtnl.hardware(frame[22:28])


def checksum(data: bytes) -> int:
    """RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def nd_solicitation(mac: bytes, source: str, target: str) -> bytes:
    asked = socket.inet_pton(socket.AF_INET6, target)
    group = socket.inet_pton(socket.AF_INET6, "ff02::1:ff00:0")[:13] + asked[13:]
    sender = socket.inet_pton(socket.AF_INET6, source)
    body = struct.pack("!BBHI", _SOLICIT, 0, 0, 0) + asked + b"\x01\x01" + mac
    pseudo = sender + group + struct.pack("!IxxxB", len(body), 58)
    body = body[:2] + struct.pack("!H", checksum(pseudo + body)) + body[4:]
    header = struct.pack("!IHBB", 6 << 28, len(body), 58, 255) + sender + group
    return b"\x33\x33" + group[12:] + mac + struct.pack("!H", _ETH_IP6) + header + body


def nd_advertisement(frame: bytes, target: str) -> str | None:
    """The MAC address that says it has ``target``, or None."""
    if len(frame) < 78 or struct.unpack_from("!H", frame, 12)[0] != _ETH_IP6:
        return None
    if frame[20] != 58 or frame[54] != _ADVERT or frame[62:78] != socket.inet_pton(socket.AF_INET6, target):
        return None
    options = frame[78:]
    while len(options) >= 8 and options[1]:
        if options[0] == 2:
            return rtnl.hardware(options[2:8])
        options = options[options[1] * 8 :]
    return rtnl.hardware(frame[6:12])


def _link_local(link: str) -> str:
    for line in (procfs.text_or_none("/proc/thread-self/net/if_inet6") or "").splitlines():
        fields = line.split()
        if len(fields) == 6 and fields[5] == link and fields[0].startswith("fe8"):
            return str(ipaddress.IPv6Address(int(fields[0], 16)))
    raise CannotAsk(f"{link} has no link-local IPv6 address to ask from")


def ask(link: str, address: str, seconds: float = 2.0, times: int = 3) -> list[str]:
    """MAC addresses of everybody else who answers for ``address``, sorted. Asked ``times`` times within ``seconds``.

    An ARP probe (from 0.0.0.0) is used, so that nobody learns anything from the question. Raises CannotAsk, OSError.
    """
    version = ipaddress.ip_address(address).version
    protocol = _ETH_ARP if version == 4 else _ETH_IP6
    try:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
        sock.bind((link, protocol))
    except OSError as error:
        raise CannotAsk(f"{link}: {error.strerror}") from None
    found: set[str] = set()
    with sock:
        name = sock.getsockname()
        mac = bytes(name[4])
        if name[3] != 1 or len(mac) != 6:
            raise CannotAsk(f"{link} is no Ethernet link")
        question = arp_request(mac, "0.0.0.0", address) if version == 4 else nd_solicitation(mac, _link_local(link), address)
        read = arp_reply if version == 4 else nd_advertisement
        began = time.monotonic()
        for number in range(times):
            sock.send(question)
            until = began + seconds * (number + 1) / times
            while (left := until - time.monotonic()) > 0:
                if not select.select([sock], [], [], left)[0]:
                    break
                answer = read(sock.recv(2048), address)
                if answer is not None:
                    found.add(answer)
    return sorted(found)
