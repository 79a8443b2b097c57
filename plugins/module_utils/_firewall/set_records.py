# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Between a set's content and the kernel's records of an ipset. Pure; the records' form is _kernel/ipset.py's."""

from __future__ import annotations

import operator
from array import array
from collections.abc import Sequence

from ansible_collections.netops.fleet.plugins.module_utils._firewall import set_content
from ansible_collections.netops.fleet.plugins.module_utils._firewall.set_content import LITTLE, Content, Extra, Kind
from ansible_collections.netops.fleet.plugins.module_utils._kernel import ipset, netlink

_NOTHING = Extra()


def encode(content: Content, counters: bool = False) -> ipset.Entries:
    """Records in the order of the members, with attributes in the order in which the kernel gives them."""
    kind, width = content.kind, content.width
    if ordered(content, counters):
        return ipset.plain(_packed(content.members, width), width // 8)
    found = (_record(member, content.extras.get(member, _NOTHING), kind, width, counters) for member in content.members)
    return ipset.Entries.of(b"".join(found))


def ordered(content: Content, counters: bool) -> bool:
    """Are the records of encode() in the order of their bytes? Those of addresses alone are."""
    return content.kind.addresses and not content.kind.nets and not content.kind.ports and not content.extras and not counters


def _packed(members: list[int], width: int) -> bytes:
    if width == 32:
        numbers = array("I", members)
        if numbers.itemsize == 4:
            if LITTLE:
                numbers.byteswap()
            return numbers.tobytes()
    return b"".join(member.to_bytes(width // 8, "big") for member in members)


def _record(member: int, extra: Extra, kind: Kind, width: int, counters: bool) -> bytes:
    pairs: list[tuple[int, netlink.AttributeValue]] = []
    cell, value = (member & 0xFFFFFF, member >> 24) if kind.ports else (0, member)
    if kind.addresses:
        number = value >> 8 if kind.nets else value
        pairs.append(ipset.address(number.to_bytes(width // 8, "big")))
        if kind.ports:
            pairs.append(ipset.number(ipset.PORT, cell & 0xFFFF, 2))
        if kind.nets:
            pairs.append(ipset.number(ipset.CIDR, value & 0xFF, 1))
        if kind.ports:
            pairs.append(ipset.number(ipset.PROTO, cell >> 16, 1))
    else:
        pairs.append(ipset.number(ipset.PORT, member, 2))
    if extra.nomatch:
        pairs.append(ipset.number(ipset.FLAGS, ipset.NOMATCH))
    if extra.timeout is not None:
        pairs.append(ipset.number(ipset.TIMEOUT, extra.timeout))
    if counters:
        pairs += [ipset.number(ipset.BYTES, extra.bytes, 8), ipset.number(ipset.PACKETS, extra.packets, 8)]
    if extra.comment:
        pairs.append((ipset.COMMENT, extra.comment))
    return ipset.record(pairs)


def decode(entries: ipset.Entries, kind: Kind, width: int) -> Content:
    """Raises ValueError for a record that this type does not have."""
    found = Content(kind, width)
    packed = entries.addresses(width // 8) if kind.addresses and not kind.nets and not kind.ports else None
    if packed is not None:
        found.members = sorted(set_content.numbers(packed, width))
        return found
    for entry in entries:
        told = netlink.attributes(entry, 4)
        member = _member(told, kind, width)
        extra = _extra(told)
        if extra != _NOTHING:
            found.extras[member] = extra
        found.members.append(member)
    found.members.sort()
    return found


def differ(one: ipset.Entries, other: ipset.Entries, width: int) -> bool:
    """Are these other entries, whatever their order? Entries that end by themselves and counters are left out."""
    one, other = ipset.lasting(one), ipset.lasting(other)
    ours, theirs = one.addresses(width // 8), other.addresses(width // 8)
    if ours is not None and theirs is not None:
        # A million are compared by how many they are, their sum and the sum of their squares: what was lost, doubled or turned
        # into something else shows, and nothing is sorted or hashed for it.
        sums = [_sums(set_content.numbers(packed, width)) for packed in (ours, theirs)]
        return len(one) != len(other) or sums[0] != sums[1]
    return sorted(one) != sorted(other)


def _sums(numbers: Sequence[int]) -> tuple[int, int]:
    return sum(numbers), sum(map(operator.mul, numbers, numbers))


def _member(told: dict[int, bytes], kind: Kind, width: int) -> int:
    port = int.from_bytes(told.get(ipset.PORT, b""), "big")
    if not kind.addresses:
        return port
    packed = next((value for _kind, value in netlink.attribute_list(told.get(ipset.IP, b""))), b"")
    if len(packed) * 8 != width:
        raise ValueError("an entry without an address of the set's family")
    member = int.from_bytes(packed, "big")
    if kind.nets:
        member = member << 8 | (told[ipset.CIDR][0] if ipset.CIDR in told else width)
    if kind.ports:
        member = member << 24 | told[ipset.PROTO][0] << 16 | port
    return member


def _extra(told: dict[int, bytes]) -> Extra:
    def number(name: int) -> int:
        return int.from_bytes(told.get(name, b""), "big")

    return Extra(
        bool(number(ipset.FLAGS) & ipset.NOMATCH),
        number(ipset.TIMEOUT) if ipset.TIMEOUT in told else None,
        netlink.text_of(told.get(ipset.COMMENT, b"")),
        number(ipset.PACKETS),
        number(ipset.BYTES),
    )
