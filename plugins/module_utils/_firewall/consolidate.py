# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""The plan of a consolidation: which chains, what becomes of each rule, which sets, and the certificate. Pure but for the file.

Shapes: docs/dev/firewall-sets.md.
"""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._firewall import iptables, nft_text
from ansible_collections.netops.fleet.plugins.module_utils._firewall.fold import After, NewSet
from ansible_collections.netops.fleet.plugins.module_utils._firewall.model import IPSET, NFT, Rule, Set

_WORD = re.compile(r'"(?:\\.|[^"\\])*"|\S+')


def model_set(made: NewSet, rule: Rule) -> Set:
    """A set that fold made, as a reader will show it. rule: one that goes into it."""
    elements = [element for element, _comment in made.elements]
    if rule.backend == NFT:
        flags = ["interval"] if made.interval else []
        return Set(NFT, rule.family, rule.table, made.name, made.type, flags=flags, elements=elements, count=len(elements))
    if len(made.dimension) > 1:
        protocol = 17 if " -p udp " in rule.text else 6
        elements = [["concat", element[1], protocol, element[2]] for element in elements]
    family = "" if made.type == "bitmap:port" else "inet6" if rule.family == "ip6" else "inet"
    return Set(IPSET, family, "", made.name, made.type, elements=elements, count=len(elements))


def read_after(rules: list[Rule], after: list[After], sets: list[Set], chains: AbstractSet[str]) -> list[Rule]:
    """The rules of a chain as they will be: those that stay, and the new texts read as a listing is. chains: of the table."""
    types = {one.name: one.type for one in sets if one.backend == IPSET}
    found = []
    for line, one in enumerate(after, 1):
        first = rules[one.sources[0]]
        if one.text is None:
            found.append(first)
            continue
        if first.backend == NFT:
            parsed = nft_text.read_rule(one.text, first.family)
        else:
            parsed = iptables.read_rule(_WORD.findall(one.text), first.family, chains, types)
        made = Rule(first.backend, first.family, first.table, first.chain, line, one.text, parsed.parts, parsed.verdict)
        made.packets, made.bytes, made.comment = one.packets, one.bytes, parsed.comment
        found.append(made)
    return found


def options(params: dict[str, Any]) -> dict[str, Any]:
    """Of the module, as fold takes them."""
    return {"minimum": params["minimum"], "order": params["order"], "prefix": params["prefix"]}
