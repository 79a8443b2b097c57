# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Which rules of a chain can match a packet at all: an index on addresses, ports, protocol and interfaces.

A rule is left out only when one of its conditions is certainly false, and only conditions that stand before everything the rule
does are used: leaving it out has no effect. So a chain of thousands of per-address rules costs a few look-ups per packet.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._firewall import model
from ansible_collections.netops.fleet.plugins.module_utils._firewall.elements import bounds_of
from ansible_collections.netops.fleet.plugins.module_utils._firewall.packet import ABSENT, Packet, address_number, field

#: Selectors a rule may be found by, the most telling first. ``th`` is not here: of some protocols its value is not known.
KEYS = (
    "ip saddr", "ip daddr", "ip6 saddr", "ip6 daddr", "tcp dport", "udp dport", "tcp sport", "udp sport", "meta iifname",
    "meta oifname", "meta iif", "meta oif", "meta l4proto",
)  # fmt: skip
_PLACE = {name: place for place, name in enumerate(KEYS)}
_ADDRESS = frozenset(KEYS[:4])
#: Selector, bits cut off, value.
_Key = tuple[str, int, object]
#: More rules than this under one key are looked at again.
_CROWD = 16
#: A condition with more values than this is not used.
_MOST_VALUES = 8
#: Chains shorter than this are walked as they are.
SHORT = 24


class RuleIndex:
    """The rules of one chain. ``candidates`` gives those that may match, in order."""

    def __init__(self, rules: list[model.Rule]) -> None:
        self.rules = rules
        #: (selector, bits cut off) -> value -> places; bits 0 for a single value
        self._tables: dict[tuple[str, int], dict[object, list[int]]] = {}
        self._always: list[int] = []
        self._all = list(range(len(rules)))
        if len(rules) < SHORT:
            self._always = self._all
            return
        number_of = address_number.__wrapped__  # each is asked for once: the cache would only be turned over
        single: dict[str, dict[object, list[int]]] = {name: {} for name in _ADDRESS}
        for place, rule in enumerate(rules):
            # The everyday rule of a long list has one address in front; it is found with as few steps as possible.
            part = rule.parts[0] if rule.parts else None
            if isinstance(part, model.Match) and part.left in _ADDRESS and part.op == "in" and part.mask is None and part.values:
                value = part.values[0]
                if isinstance(value, str) and len(part.values) == 1:
                    number = number_of(value)
                    if number is not None:
                        single[part.left].setdefault(number, []).append(place)
                        continue
            for part in _usable(rule):
                keys = _keys(part.left, part.values or [])
                if keys:
                    self._add(place, keys)
                    break
            else:
                self._always.append(place)
        for name, table in single.items():
            for address, places in table.items():
                self._tables.setdefault((name, 0), {}).setdefault(address, []).extend(places)
        self._spread()

    def _add(self, place: int, keys: list[_Key]) -> None:
        for name, bits, value in keys:
            table = self._tables.get((name, bits))
            if table is None:
                table = self._tables[name, bits] = {}
            places = table.get(value)
            if places is None:
                table[value] = [place]
            else:
                places.append(place)

    def _spread(self) -> None:
        """Rules that share their key with many are found by the condition that the fewest of them share."""
        crowds = [
            (name, places) for (name, _bits), table in self._tables.items() for places in table.values() if len(places) > _CROWD
        ]
        others: dict[int, tuple[int, list[list[_Key]]]] = {}
        uses: dict[_Key, int] = {}
        for name, places in crowds:
            for place in places:
                found = [_keys(part.left, part.values or []) for part in _usable(self.rules[place]) if part.left != name]
                others[place] = (len(places), found)
                for keys in found:
                    for key in keys:
                        uses[key] = uses.get(key, 0) + 1
        moved: dict[int, list[_Key]] = {}
        for place, (least, found) in others.items():
            for keys in found:
                shared = sum([uses[key] for key in keys])
                if keys and shared < least:
                    moved[place], least = keys, shared
        if moved:
            # Those with several keys stay under the others as well: being found in vain changes nothing.
            for _name, places in crowds:
                places[:] = [place for place in places if place not in moved]
            for place, keys in moved.items():
                self._add(place, keys)

    def candidates(self, packet: Packet, after: int = -1) -> list[int]:
        """Places of rules behind ``after`` that may match the packet, in order."""
        if not self._tables:
            return self._all[after + 1 :] if after >= 0 else self._all
        found = list(self._always)
        values: dict[str, object] = {}
        for (name, bits), table in self._tables.items():
            if name not in values:
                values[name] = field(packet, name)
            value = values[name]
            if value is ABSENT:
                continue
            if value is None:
                for places in table.values():
                    found += places
            elif bits and isinstance(value, int):
                found += table.get(value >> bits, ())
            else:
                found += table.get(value, ())
        # A rule with several values may have been found by more than one of them.
        return sorted({place for place in found if place > after})


def _usable(rule: model.Rule) -> list[model.Match]:
    """Conditions that may be keys, the most telling first."""
    found: list[model.Match] = []
    for part in rule.parts:
        if isinstance(part, model.Match):
            if part.op == "in" and part.left in _PLACE and part.values and part.mask is None and len(part.values) <= _MOST_VALUES:
                found.append(part)
        elif not isinstance(part, model.Unknown):
            break  # what the rule does before a condition it does in any case
    if len(found) > 1:
        found.sort(key=_place)
    return found


def _place(part: model.Match) -> int:
    return _PLACE[part.left]


def _keys(left: str, values: list[Any]) -> list[_Key]:
    keys: list[_Key] = []
    for value in values:
        # The everyday value, one port or one address, without more calls than it needs.
        number: int | None = None
        if isinstance(value, int) and not isinstance(value, bool):
            number = value
        elif isinstance(value, str) and left in _ADDRESS:
            number = address_number(value)
        if number is not None:
            keys.append((left, 0, number))
            continue
        bounds = bounds_of(left, value)
        if bounds is None:
            if left in _ADDRESS or not isinstance(value, str) or value.endswith("*"):
                return []
            keys.append((left, 0, value))
        elif bounds[0] == bounds[1]:
            keys.append((left, 0, bounds[0]))
        elif left in _ADDRESS and isinstance(value, list) and value[0] == "prefix":
            bits = (bounds[1] - bounds[0]).bit_length()
            keys.append((left, bits, bounds[0] >> bits))
        elif bounds[1] - bounds[0] < _MOST_VALUES:
            keys += [(left, 0, one) for one in range(bounds[0], bounds[1] + 1)]
        else:
            return []
    return keys


#: Fields of a packet that the index looks at: when one changes inside a chain, candidates are looked for again.
def keyed(packet: Packet) -> tuple[object, ...]:
    return (packet.saddr, packet.daddr, packet.sport, packet.dport, packet.iif, packet.oif)
