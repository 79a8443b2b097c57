# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Matches of traffic control filters as the kernel dumps them, against packets of which more or less is known."""

from __future__ import annotations

import socket
import struct
from typing import Any

import pytest

from ansible_collections.netops.fleet.plugins.module_utils._evidence import tc_filters, tc_match
from ansible_collections.netops.fleet.plugins.module_utils._firewall import filters
from ansible_collections.netops.fleet.plugins.module_utils._firewall.packet import Packet
from ansible_collections.netops.fleet.plugins.module_utils._kernel import netlink, rtnl

SYN = Packet(4, 6, "192.0.2.9", "192.0.2.11", 49152, 1678)
SYN6 = Packet(6, 6, "2001:db8::9", "2001:db8::11", 49152, 1678)
ROOT = 0x80000800


def selector(*keys: tuple[int, int, int], flags: int = 1) -> bytes:
    """keys: (value, mask, offset)."""
    head = struct.pack("=BBBxHHhhI", flags, 0, len(keys), 0, 0, 0, 0, 0)
    return head + b"".join(struct.pack("!II", mask, value) + struct.pack("=ii", at, 0) for value, mask, at in keys)


def u32(*keys: tuple[int, int, int], handle: int = ROOT, flags: int = 1, **more: bytes) -> tc_match.Conditions:
    return tc_match.conditions("u32", handle, {5: selector(*keys, flags=flags), **{int(n[1:]): v for n, v in more.items()}})


def flower(**attributes: bytes) -> tc_match.Conditions:
    return tc_match.conditions("flower", 1, {int(name[1:]): value for name, value in attributes.items()})


PORT = (1678, 0xFFFF, 20)
SOURCE = (0xC0000200, 0xFFFFFF00, 12)


@pytest.mark.parametrize(
    ("keys", "packet", "matched"),
    [
        ((PORT,), SYN, True),
        ((PORT,), SYN.changed(dport=1679), False),
        ((PORT,), SYN.changed(dport=None), None),
        ((PORT, SOURCE), SYN, True),
        ((PORT, SOURCE), SYN.changed(saddr="198.51.100.1"), False),
        ((PORT, SOURCE), SYN.changed(saddr=None), None),
        ((PORT, SOURCE), SYN.changed(saddr=None, dport=1679), False),
        (((6 << 16, 0xFF0000, 8),), SYN, True),
        (((17 << 16, 0xFF0000, 8),), SYN, False),
        (((0x45000000, 0xFF000000, 0),), SYN, True),
        (((0, 0x00FF0000, 0),), SYN, None),
        (((0, 0x00FF0000, 0),), SYN.changed(tos=0), True),
        (((0x00020000, 0x00FF0000, 32),), SYN, True),
        (((0x00100000, 0x00100000, 32),), SYN, False),
        (((0, 0x1FFF, 4),), SYN, True),
        (((0, 0xFFFF0000, 4),), SYN, None),
        (((1678, 0xFFFF, 40),), SYN6, True),
        (((6 << 8, 0xFF00, 4),), SYN6, True),
        (((0x20010DB8, 0xFFFFFFFF, 8), (9, 0xFFFFFFFF, 20)), SYN6, True),
        (((8, 0xFFFFFFFF, 20),), SYN6, False),
        (((1, 1, -14),), SYN, None),
        (((1, 1, 58),), SYN, None),
        ((), SYN, True),
    ],
)
def test_u32(keys: tuple[Any, ...], packet: Packet, matched: bool | None) -> None:
    assert filters.matches(u32(*keys), packet) is matched


def test_u32_that_matches_something_else_too_is_not_judged() -> None:
    assert u32(PORT, flags=0) is None, "it ends nothing"
    assert u32(PORT, handle=0x00100800) is None, "packets get to this table by a link only"
    assert u32(PORT, _3=struct.pack("=I", 1)) is None, "it leads to another table"
    assert u32(PORT, _8=b"eth1\0") is None, "the interface a packet came in by"
    assert tc_match.conditions("u32", ROOT, {}) is None and tc_match.conditions("u32", ROOT, {5: selector(PORT)[:-1]}) is None
    marked = u32(PORT, _10=struct.pack("=III", 5, 0xFF, 0))
    assert filters.matches(marked, SYN.changed(mark=0x105)) is True and filters.matches(marked, SYN) is False
    assert filters.matches(marked, SYN.changed(mark=None)) is None


TCP = {"_8": b"\x08\x00", "_9": b"\x06"}


@pytest.mark.parametrize(
    ("attributes", "packet", "matched"),
    [
        (TCP, SYN, True),
        (TCP, SYN6, False),
        (TCP, SYN.changed(proto=17), False),
        ({**TCP, "_19": b"\x06\x8e", "_36": b"\xff\xff"}, SYN, True),
        ({**TCP, "_19": b"\x06\x8f"}, SYN, False),
        ({**TCP, "_19": b"\x06\x80", "_36": b"\xff\xf0"}, SYN, True),
        ({**TCP, "_89": b"\x06\x00", "_90": b"\x07\x00"}, SYN, True),
        ({**TCP, "_89": b"\x07\x00", "_90": b"\x08\x00"}, SYN, False),
        ({**TCP, "_89": b"\x06\x00", "_90": b"\x07\x00"}, SYN.changed(dport=None), None),
        ({**TCP, "_10": socket.inet_aton("192.0.2.0"), "_11": socket.inet_aton("255.255.255.0")}, SYN, True),
        ({**TCP, "_12": socket.inet_aton("192.0.2.12")}, SYN, False),
        ({**TCP, "_71": b"\x00\x02", "_72": b"\x00\x12"}, SYN, True),
        ({**TCP, "_73": b"\x10", "_74": b"\xff"}, SYN, None),
        ({"_8": b"\x86\xdd", "_16": socket.inet_pton(socket.AF_INET6, "2001:db8::11")}, SYN6, True),
        ({"_8": b"\x86\xdd", "_16": socket.inet_pton(socket.AF_INET6, "2001:db8::11")}, SYN, False),
        ({**TCP, "_3": b"actions", "_22": struct.pack("=I", 8), "_86": struct.pack("=I", 0)}, SYN, True),
        ({**TCP, "_47": bytes(4), "_48": b"\0\0\0\1"}, SYN, None),
        ({"_23": b"\0\5"}, SYN, None),
        ({**TCP, "_2": b"eth1\0"}, SYN, None),
    ],
)
def test_flower(attributes: dict[str, bytes], packet: Packet, matched: bool | None) -> None:
    assert filters.matches(flower(**attributes), packet) is matched


def test_other_kinds() -> None:
    assert filters.matches(tc_match.conditions("matchall", 1, {}), SYN) is True
    assert tc_match.conditions("basic", 1, {}) is None and filters.matches(None, SYN) is None


def test_as_words() -> None:
    shown = filters.shown(
        flower(_8=b"\x08\x00", _9=b"\x06", _12=socket.inet_aton("192.0.2.0"), _13=b"\xff\xff\xff\0", _19=b"\x06\x8e")
    )
    assert shown == "ethertype 0x0800, ip_proto 6, daddr 192.0.2.0/24, dport 1678"
    assert filters.shown(u32(PORT)) == "0000068e/0000ffff at byte 20 of the packet"
    assert filters.shown([]) == "every packet of its protocol"
    assert filters.shown(flower(_9=b"\x11", _89=b"\0\1", _90=b"\1\0")) == "ip_proto 17, dport 1 to 256"
    assert filters.shown(flower(_10=socket.inet_aton("10.0.0.1"), _11=b"\xff\0\0\xff")) == "saddr 10.0.0.1/0xff0000ff"


def test_filters_that_differ_in_a_range_of_ports_only_are_not_the_same() -> None:
    """What compares hosts is a digest of the match."""

    def dumped(last: int) -> Any:
        options = netlink.pack([(9, b"\x06"), (89, b"\0\1"), (90, struct.pack("!H", last)), (86, struct.pack("=I", last))])
        body = rtnl.TC.pack(0, 2, 1, 0xFFFFFFF2, 10 << 16) + netlink.pack([(1, "flower"), (2, options)])
        return (tc_filters.parse_filter(body) or {})["match"]

    assert dumped(5) != dumped(6) and dumped(5) == dumped(5)
    one = rtnl.TC.pack(0, 2, 1, 0xFFFFFFF2, 10 << 16)
    cards = [netlink.pack([(1, "flower"), (2, netlink.pack([(9, b"\x06"), (86, struct.pack("=I", n))]))]) for n in (0, 1)]
    assert len({(tc_filters.parse_filter(one + each) or {})["match"] for each in cards}) == 1, (
        "how many cards hold it is no match"
    )
