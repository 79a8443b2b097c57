# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""The objects peers are compared by: canonical key → canonical value, free of handles, ids, counters and own addresses. (D34)"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts, is_loopback, is_wildcard
from ansible_collections.netops.fleet.plugins.module_utils._safety import owners

#: More rules in one chain than this are compared as one object: 10,000 generated rules are one difference, not 10,000.
RULES_PER_CHAIN = 200

#: Values computed from the machine's memory at boot, or that count: unlike on every two hosts.
_VOLATILE = frozenset(
    (
        "fs.file-nr",
        "fs.file-max",
        "fs.inode-nr",
        "kernel.pid_max",
        "kernel.threads-max",
        "net.ipv4.tcp_mem",
        "net.ipv4.udp_mem",
        "net.ipv4.tcp_max_orphans",
        "net.ipv4.tcp_max_tw_buckets",
        "net.netfilter.nf_conntrack_count",
    )
)
_ADDRESS = re.compile(
    r"(?<![0-9A-Za-z.:])(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){2,7})(?![0-9A-Za-z.:])"
)
_COUNTER = re.compile(r" ?counter packets [0-9]+ bytes [0-9]+")

#: Ports from here on are handed out to whoever asks: who listens there says nothing.
_EPHEMERAL = 32768


def objects(evidence: dict[str, Any]) -> dict[str, str]:
    """What this host has, as peers see it. Sections that were not read give no objects, so they are never a difference."""
    facts = Facts(evidence)
    own = {one["address"] for one in facts.items("addresses")}
    out: dict[str, str] = {}
    _sysctls(facts, out)
    _links(facts, out)
    _routes(facts, out)
    _rules(facts, own, out)
    _hooks(facts, out)
    _names(facts, out)
    _listeners(facts, own, out)
    _rdma(facts, out)
    kernel = (evidence.get("host") or {}).get("kernel")
    if kernel:
        out["kernel release"] = str(kernel)
    return out


def without_own(text: str, own: set[str]) -> str:
    """``text`` with the host's own addresses replaced: the same rule on two hosts is the same object."""
    if not any(address in text for address in own):
        return text
    return _ADDRESS.sub(lambda found: "{own}" if found[0] in own else found[0], text)


def _sysctls(facts: Facts, out: dict[str, str]) -> None:
    for name, value in (facts.section("sysctls") or {}).items():
        if name not in _VOLATILE:
            out[f"sysctl {name}"] = str(value)


def _links(facts: Facts, out: dict[str, str]) -> None:
    used = {one.get("dev") for one in facts.default_routes()}
    for link in facts.items("links"):
        name = link["name"]
        if not (link.get("physical") or name in used):
            continue
        out[f"mtu {name}"] = str(link.get("mtu"))
        out[f"qdisc {name}"] = str(link.get("qdisc"))
        if link.get("physical"):
            speed = f"{link['speed_mbit']} Mbit/s {link.get('duplex') or ''}".strip() if link.get("speed_mbit") else "not known"
            out[f"link {name}"] = f"{link.get('driver') or 'driver not known'}, {speed}"


def _rdma(facts: Facts, out: dict[str, str]) -> None:
    """A port that is down by design is so on its peers too."""
    for one in (facts.section("installed") or {}).get("rdma") or []:
        said = [one[name] for name in ("state", "rate", "layer") if one.get(name)]
        out[f"rdma {one['device']}/{one['port']}"] = ", ".join(said)


def _routes(facts: Facts, out: dict[str, str]) -> None:
    for family in (4, 6):
        devices = sorted({str(one.get("dev")) for one in facts.default_routes() if one.get("family") == family})
        if facts.known("routes"):
            out[f"default route IPv{family}"] = ", ".join(devices) or "none"
    for one in facts.items("routes"):
        if one.get("type") in ("blackhole", "unreachable", "prohibit"):
            out[f"route IPv{one.get('family')} {one['type']} {one.get('dst')} table {one.get('table')}"] = "present"
    for one in facts.items("policy_rules"):
        said = " ".join(
            f"{key} {one[key]}"
            for key in ("from", "to", "iif", "oif", "fwmark", "table", "action")
            if one.get(key) not in (None, "")
        )
        out[f"policy rule IPv{one.get('family')} {one.get('priority')}"] = said


def _rules(facts: Facts, own: set[str], out: dict[str, str]) -> None:
    raw = facts.section("firewall")
    if not raw:
        return
    chains: dict[str, Counter[str]] = {}
    base = {(one["backend"], one["family"], one["table"], one["name"]) for one in raw.get("chains") or [] if one.get("hook")}
    for rule in raw.get("rules") or []:
        if (
            rule.get("owner") in owners.FOLLOWING
            and "chains" in raw  # absent where only a blamed rule is to be named
            and rule["chain"] != "DOCKER-USER"
            and (rule["backend"], rule["family"], rule["table"], rule["chain"]) not in base
        ):
            continue
        place = f"{rule['backend']} {rule['family']} {rule['table']} {rule['chain']}"
        text = rule["text"]
        if "counter packets" in text:
            text = _COUNTER.sub("", text)
        chains.setdefault(place, Counter())[without_own(text, own)] += 1
    for place, texts in chains.items():
        if len(texts) > RULES_PER_CHAIN:
            digest = hashlib.sha256("\n".join(sorted(texts.elements())).encode()).hexdigest()[:16]
            out[f"rules {place}"] = f"{sum(texts.values())} rules, digest {digest}"
            continue
        for text, count in texts.items():
            out[f"rule {place} | {text}"] = "present" if count == 1 else f"{count} times"
    for chain in raw.get("chains") or []:
        if chain.get("hook"):
            key = f"chain {chain['backend']} {chain['family']} {chain['table']} {chain['name']}"
            out[key] = f"{chain['hook']} priority {chain.get('priority')} policy {chain.get('policy') or 'accept'}"


def _hooks(facts: Facts, out: dict[str, str]) -> None:
    count = Counter(str(one["key"]) for one in facts.items("hooks") if one.get("key"))
    for key, number in count.items():
        out[key] = "present" if number == 1 else f"{number} times"


def _names(facts: Facts, out: dict[str, str]) -> None:
    names = facts.section("names")
    if names:
        out["resolver servers"] = " ".join(str(one) for one in names.get("servers") or []) or "none"
        out["resolver search"] = " ".join(str(one) for one in names.get("search") or []) or "none"
        for one in names.get("lookups") or []:
            if one.get("name") not in ("", ".", None):
                said = ",".join(sorted(str(answer) for answer in one.get("answers") or [])) or str(one.get("status"))
                out[f"name {one['name']} {one.get('type')} at {one['server']}"] = said


def _listeners(facts: Facts, own: set[str], out: dict[str, str]) -> None:
    found: dict[str, set[str]] = {}
    for one in (facts.section("sockets") or {}).get("listeners") or []:
        wanted = facts.target is not None and one["port"] == facts.target.port
        if one["port"] >= _EPHEMERAL and not wanted:
            continue
        address = one["address"]
        where = (
            "any address"
            if is_wildcard(address)
            else "loopback"
            if is_loopback(address)
            else "{own}"
            if address in own
            else address
        )
        found.setdefault(f"listener {one['proto']}/{one['port']}", set()).add(f"{one.get('process') or '?'} on {where}")
    for key, said in found.items():
        out[key] = ", ".join(sorted(said))
