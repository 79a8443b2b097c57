# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""What a traffic control filter matches, as conditions on a packet. Pure: attributes of a dump in.

A condition is ``{field, value, mask}`` or ``{field, value, last}``: hexadecimal bytes, as many as the field has, in network
order. field: ``header`` (with ``at``: bytes from the start of the IP header), ``ethertype``, ``ip_proto``, ``saddr``, ``daddr``,
``sport``, ``dport``, ``tcp_flags``, ``tos``, ``ttl``, ``mark``. last: of a range that begins with value.
A filter matches a packet when all of them hold. None stands for a filter that matches something else too.

Sources: include/uapi/linux/pkt_cls.h, net/sched/cls_u32.c, net/sched/cls_flower.c; tc-u32(8), tc-flower(8).
"""

from __future__ import annotations

import struct
from typing import Any, Optional

Condition = dict[str, Any]
Conditions = Optional[list[Condition]]

#: struct tc_u32_sel without its keys; struct tc_u32_key: mask and value in network order, offset, mask of a variable offset.
_SELECTOR, _KEY = struct.Struct("=BBBxHHhhI"), struct.Struct("=4s4sii")
_U32_HASH, _U32_LINK, _U32_SELECTOR, _U32_MARK = 2, 3, 5, 10
_U32_CLASSID, _U32_POLICE, _U32_ACTIONS, _U32_COUNTERS, _U32_FLAGS, _U32_PAD = 1, 6, 7, 9, 11, 12
_U32_PLAIN = frozenset(
    (_U32_CLASSID, _U32_HASH, _U32_SELECTOR, _U32_POLICE, _U32_ACTIONS, _U32_COUNTERS, _U32_MARK, _U32_FLAGS, _U32_PAD)
)
_TERMINAL = 1
#: Tables from here on are the root of a priority; packets get to others only by a link.
_FIRST_ROOT = 0x800

#: flower: attribute of the value -> (attribute of the mask or 0, field). Without a mask all bits count.
_FLOWER = {
    8: (0, "ethertype"), 9: (0, "ip_proto"), 10: (11, "saddr"), 12: (13, "daddr"), 14: (15, "saddr"), 16: (17, "daddr"),
    18: (35, "sport"), 19: (36, "dport"), 20: (37, "sport"), 21: (38, "dport"), 41: (39, "sport"), 42: (40, "dport"),
    71: (72, "tcp_flags"), 73: (74, "tos"), 75: (76, "ttl"),
}  # fmt: skip
_FLOWER_RANGES = {87: (88, "sport"), 89: (90, "dport")}
#: Class, actions, flags and the count of cards that hold it: no match.
_FLOWER_PLAIN = frozenset((1, 3, 22, 86))


def conditions(kind: str, handle: int, options: dict[int, bytes]) -> Conditions:
    """Of a filter of that kind, from its options; [] matches every packet of the filter's protocol, None: cannot be told."""
    if kind == "matchall":
        return []
    if kind == "u32":
        return _u32(handle, options)
    if kind == "flower":
        return _flower(options)
    return None


def _u32(handle: int, options: dict[int, bytes]) -> Conditions:
    selector = options.get(_U32_SELECTOR, b"")
    if len(selector) < _SELECTOR.size or handle >> 20 < _FIRST_ROOT or not set(options) <= _U32_PLAIN:
        return None
    flags, _shift, count = _SELECTOR.unpack_from(selector)[:3]
    if not flags & _TERMINAL or len(selector) < _SELECTOR.size + count * _KEY.size:
        return None
    found: list[Condition] = []
    for number in range(count):
        mask, value, at, _variable = _KEY.unpack_from(selector, _SELECTOR.size + number * _KEY.size)
        # In a root table nothing was skipped yet, so that a variable offset is none.
        found.append({"field": "header", "at": at, "value": value.hex(), "mask": mask.hex()})
    mark = options.get(_U32_MARK, b"")
    if len(mark) >= 8:
        value, mask = struct.unpack_from("=II", mark)
        found.append({"field": "mark", "value": f"{value:08x}", "mask": f"{mask:08x}"})
    return found


def _flower(options: dict[int, bytes]) -> Conditions:
    found: list[Condition] = []
    understood = set(_FLOWER_PLAIN)
    for number, (masked_by, field) in _FLOWER.items():
        understood |= {number, masked_by}
        value = options.get(number)
        if value is None:
            continue
        mask = options.get(masked_by, b"\xff" * len(value)) if masked_by else b"\xff" * len(value)
        if len(mask) != len(value):
            return None
        found.append({"field": field, "value": value.hex(), "mask": mask.hex()})
    for number, (ends, field) in _FLOWER_RANGES.items():
        understood |= {number, ends}
        if number in options or ends in options:
            found.append({"field": field, "value": options.get(number, b"").hex(), "last": options.get(ends, b"").hex()})
    return found if set(options) <= understood else None
