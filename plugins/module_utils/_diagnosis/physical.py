# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Cable, transceiver and what both sides agreed on: duplex, speed, light, carrier that comes and goes. (D23)"""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.module_utils._firewall.fixes import word

_MODE = re.compile(r"\A(\d+)base.*/(Full|Half)\Z")
#: A port that is this slow though its card is not: a broken pair, or a side that was set by hand.
_SLOW, _USUAL = 100, 1000
#: Carrier lost and found within the window is two changes.
_CHANGES = 2


def find(facts: Facts) -> list[Finding]:
    return duplex(facts) + speed(facts) + members(facts) + light(facts) + flaps(facts)


def _alive(facts: Facts) -> list[dict[str, Any]]:
    return [one for one in facts.items("links") if one.get("physical") and one.get("up") and one.get("carrier")]


def duplex(facts: Facts) -> list[Finding]:
    return [
        _finding(
            "link-half-duplex",
            "proven",
            one["name"],
            f"{one['name']} runs at half duplex: under load frames collide and are lost.",
            [f"{one['name']}: {one.get('speed_mbit') or '?'} Mbit/s, duplex half"],
            [
                "# both sides must be set alike; let them negotiate:",
                f"ethtool -s {word(one['name'])} autoneg on   # and the same on the switch's port",
            ],
        )
        for one in _alive(facts)
        if one.get("duplex") == "half"
    ]


def best(modes: list[str]) -> int:
    """The fastest of some link modes, Mbit/s; 0 for none that says it."""
    found = [_MODE.match(one) for one in modes]
    return max((int(one[1]) for one in found if one is not None and one[2] == "Full"), default=0)


def speed(facts: Facts) -> list[Finding]:
    """Slower than what both sides offer, or than any use of the card."""
    cards = {one["name"]: one for one in facts.items("physical")}
    out = []
    for link in _alive(facts):
        now, card = link.get("speed_mbit"), cards.get(link["name"]) or {}
        ours, peer = card.get("ours") or [], card.get("peer")
        if not now or link.get("duplex") == "half":
            continue
        both = best([mode for mode in ours if mode in peer]) if peer else 0
        if both > now:
            why = f"both sides offer {both} Mbit/s"
        elif peer is None and now <= _SLOW and best(ours) >= _USUAL:
            why = f"the card offers {best(ours)} Mbit/s"
        else:
            continue
        out.append(
            _finding(
                "link-slow",
                "likely",
                link["name"],
                f"{link['name']} runs at {now} Mbit/s, though {why}.",
                [f"{link['name']}: speed {now} Mbit/s, autonegotiation {'on' if card.get('autoneg') else 'off'}", why],
                [
                    "# a broken pair or a bad plug makes both sides fall back: try another cable, then another port",
                    f"ethtool {word(link['name'])}",
                ],
            )
        )
    return out


def members(facts: Facts) -> list[Finding]:
    """A member of a bond that is slower than the others."""
    out = []
    for bond in facts.items("links"):
        if bond.get("kind") not in ("bond", "team"):
            continue
        own = [one for one in _alive(facts) if one.get("master") == bond["name"] and one.get("speed_mbit")]
        fastest = max((one["speed_mbit"] for one in own), default=0)
        for one in own:
            if one["speed_mbit"] < fastest:
                out.append(
                    _finding(
                        "link-slow",
                        "likely",
                        one["name"],
                        f"{one['name']} runs at {one['speed_mbit']} Mbit/s in {bond['name']}, another member at {fastest}.",
                        [f"{each['name']}: {each['speed_mbit']} Mbit/s" for each in own]
                        + [f"{bond['name']}: mode {(bond.get('detail') or {}).get('mode', 'not known')}"],
                        ["# LACP uses members of one speed only; others share the load evenly, and the slow one loses packets"],
                    )
                )
    return out


def light(facts: Facts) -> list[Finding]:
    """Transceivers outside of their own thresholds."""
    out = []
    for card in facts.items("physical"):
        one: dict[str, Any] | None = card.get("module")
        if not one:
            continue
        wrong, lines = [], []
        for way, said in (("rx", "receives"), ("tx", "sends")):
            powers = one.get(f"{way}_dbm") or []
            low, high = one.get(f"{way}_low"), one.get(f"{way}_high")
            lines.append(f"{said} {', '.join(str(power) for power in powers)} dBm, alarms at {low} and {high}")
            if low is not None and any(power < low for power in powers):
                wrong.append(f"{said} too little light")
            elif high is not None and any(power > high for power in powers):
                wrong.append(f"{said} too much light")
        hot = one.get("celsius_high")
        if hot is not None and one["celsius"] > hot:
            wrong.append(f"is too hot ({one['celsius']} °C)")
        if wrong:
            name = card["name"]
            out.append(
                _finding(
                    "optical-power",
                    "proven",
                    name,
                    f"The transceiver of {name} {' and '.join(wrong)}.",
                    [f"{name}: {one['kind']}, {one['celsius']} °C", *lines],
                    [
                        f"ethtool -m {word(name)}",
                        "# too little in: clean the fibre, then look at the other side; too little out: replace this one",
                    ],
                )
            )
    return out


def flaps(facts: Facts) -> list[Finding]:
    """Carrier that came and went while this host was read."""
    layer = ((facts.section("drops") or {}).get("layers") or {}).get("carrier") or {}
    used = {hop.get("dev") for route in facts.default_routes() for hop in facts.hops(route)}
    out = []
    for name, one in sorted(layer.items()):
        link = name.rpartition(" ")[0]
        count = one.get("delta") or 0
        if count < _CHANGES or not (facts.links.get(link, {}).get("physical") or link in used):
            continue
        out.append(
            _finding(
                "link-flapping",
                "proven",
                link,
                f"The carrier of {link} changed {count} times within {(facts.section('drops') or {}).get('seconds')} s.",
                [f"carrier_changes grew by {count}, {one.get('total')} since the link was made"],
                [f"dmesg -T | grep {word(link)}", f"# cable, transceiver, switch port; optical power: ethtool -m {word(link)}"],
            )
        )
    return out


def _finding(name: str, grade: str, link: str, summary: str, evidence: list[str], fix: list[str]) -> Finding:
    return Finding(name, grade, "warning", link, summary, evidence, fix, ["D23"], {"link": link})
