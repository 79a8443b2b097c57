# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This plugin util is PRIVATE to the collection. It can change at any time.
"""Both ends of a tunnel side by side: number, port, keys and states that one has and the other has not. (D21)"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.tunnels import tunnels
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet.text import clean

_PER_HOST, _REMOTES, _STATES, _MOST_FINDINGS = 64, 512, 512, 20


@dataclass
class _End:
    """One tunnel link. number: VNI, or key of outgoing packets; into: key of incoming ones."""

    name: str
    kind: str
    number: int | None
    into: int | None
    port: int | None
    remotes: list[str]


@dataclass
class _Host:
    """complete: everything about tunnels was read. external: some link leaves the ends to each packet."""

    addresses: frozenset[str]
    complete: bool
    external: bool
    ends: list[_End] = field(default_factory=list)
    wireguard: list[dict[str, Any]] = field(default_factory=list)
    states: list[tuple[str, str, str]] | None = None


class Overlays:
    """First pass: who has which end. Second pass: whose other end does not fit. Bounded."""

    def __init__(self) -> None:
        self._hosts: dict[str, _Host] = {}
        self._owners: dict[str, str | None] = {}

    def count(self, host: str, evidence: dict[str, Any]) -> None:
        facts = Facts(evidence)
        status = {entry["section"]: entry["status"] for entry in evidence["coverage"]}
        section = facts.section("tunnels") or {}
        addresses = frozenset(str(one["address"]) for one in facts.global_addresses()[:_PER_HOST] if one["link"] != "lo")
        one = _Host(
            addresses,
            status.get("links") == "ok" and status.get("tunnels") == "ok",
            any((link.get("detail") or {}).get("external") for link in facts.items("links")),
        )
        for tunnel in tunnels(facts)[:_PER_HOST]:
            detail = tunnel.detail
            number, into, port = (detail.get(key) for key in ("number", "in", "port"))
            one.ends.append(_End(tunnel.name, tunnel.kind, number, into, port, list(tunnel.remotes)[:_REMOTES]))
        one.wireguard = (section.get("wireguard") or [])[:_PER_HOST]
        if section.get("ipsec"):
            states = section["ipsec"]["states"][:_STATES]
            one.states = [(str(item["source"]), str(item["target"]), str(item["spi"])) for item in states]
        self._hosts[host] = one
        for address in addresses:
            # An address of two hosts is a fault of its own: no end can be told by it.
            self._owners[address] = host if self._owners.get(address, host) == host else None

    def _other(self, host: str, address: object) -> tuple[str, _Host] | None:
        """The host at the other end, if all of its tunnels were read."""
        name = self._owners.get(str(address))
        other = self._hosts.get(name or "")
        return (name, other) if name and name != host and other is not None and other.complete else None

    def findings(self, host: str, _evidence: dict[str, Any]) -> list[Finding]:
        own = self._hosts.get(host)
        if own is None:
            return []
        return [*self._links(host, own), *self._wireguard(host, own), *self._ipsec(host, own)][:_MOST_FINDINGS]

    def _links(self, host: str, own: _Host) -> list[Finding]:
        out = []
        for end in own.ends:
            if end.kind == "wireguard":
                continue
            for address in end.remotes:
                there = self._other(host, address)
                if there is None or there[1].external:
                    continue
                why = _vxlan(end, there[1]) if end.kind in ("vxlan", "geneve") else _point(end, own, there[1])
                if why:
                    out.append(_mismatch(end.name, address, there[0], why))
        return out

    def _wireguard(self, host: str, own: _Host) -> list[Finding]:
        out = []
        for one in own.wireguard:
            for peer in one["peers"][:_REMOTES]:
                there = self._other(host, peer.get("endpoint"))
                if there is None:
                    continue
                links = [link for link in there[1].wireguard if link["port"] == peer["endpoint_port"]]
                if not links:
                    why = f"no WireGuard link listens on port {peer['endpoint_port']} there"
                elif all(link["key"] != peer["key"] for link in links):
                    why = "the public key there is another one than this host has for it"
                elif all(one["key"] not in [far["key"] for far in link["peers"]] for link in links):
                    why = "it does not have this host's public key among its peers"
                else:
                    continue
                out.append(_mismatch(str(one["dev"]), str(peer["endpoint"]), there[0], why))
        return out

    def _ipsec(self, host: str, own: _Host) -> list[Finding]:
        out = []
        missing: dict[str, list[str]] = {}
        there_of: dict[str, str] = {}
        for source, target, spi in own.states or []:
            there = self._other(host, target) if source in own.addresses else None
            if there is None or there[1].states is None or len(there[1].states) >= _STATES:
                continue
            there_of[target] = there[0]
            fits = any((target, spi) == (far, index) for _source, far, index in there[1].states)
            missing.setdefault(target, []).append("" if fits else spi)
        for target, spis in missing.items():
            # While keys are renewed one side is ahead: only where no state fits nothing passes.
            if all(spis):
                why = f"it has none of the states that this host sends with ({', '.join(spis[:4])})"
                out.append(_mismatch("IPsec", target, there_of[target], why))
        return out


def _vxlan(end: _End, other: _Host) -> str | None:
    """An overlay that the other end does not take."""
    same = [one for one in other.ends if one.kind == end.kind]
    if not any(one.number == end.number for one in same):
        known = ", ".join(str(one.number) for one in same[:8])
        return f"it has no {end.kind} link with VNI {end.number}" + (f", but {known}" if known else "")
    if not any(one.number == end.number and one.port == end.port for one in same):
        ports = ", ".join(str(one.port) for one in same if one.number == end.number)
        return f"its {end.kind} link with VNI {end.number} uses UDP port {ports}, this one {end.port}"
    return None


def _point(end: _End, own: _Host, other: _Host) -> str | None:
    """A tunnel between two ends, whose other one must lead back here, or take packets from anywhere."""
    back = [one for one in other.ends if one.kind == end.kind and (not one.remotes or own.addresses & set(one.remotes))]
    if not back:
        return f"it has no {end.kind} link that leads back to this host"
    if all((one.into or 0) != (end.number or 0) for one in back):
        keys = ", ".join(str(one.into or "none") for one in back)
        return f"it takes packets with the key {keys}, this end sends {end.number or 'none'}"
    return None


def _mismatch(link: str, address: str, host: str, why: str) -> Finding:
    shown = clean(host, 60)
    return Finding(
        "overlay-peer-mismatch",
        "likely",
        "critical",
        f"{clean(link, 20)} to {address}",
        f"The other end of {clean(link, 20)}, {address} on {shown}, does not take what is sent: {clean(why, 200)}.",
        [f"{clean(link, 20)} leads to {address}, an address of {shown}", f"{shown}: {clean(why, 200)}"],
        ["# bring both ends to the same number, port and keys", f"ip -d link show dev {clean(link, 20)}"],
        ["D21"],
        {"link": link, "address": address, "host": host},
    )
