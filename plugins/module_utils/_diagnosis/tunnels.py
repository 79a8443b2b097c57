# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Tunnels and overlays: ends that are not there, packets that do not fit, a tunnel whose own packets go into it. (D21, D24)"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.module_utils._firewall.fixes import word

#: Bytes that a tunnel puts before each packet, outer IPv4 header included; of one over IPv6 twenty more. With Ethernet where it
#: carries frames. IPsec's interfaces are left out: what they add depends on the cipher.
_OVERHEAD = {
    "vxlan": 50, "geneve": 50, "wireguard": 60, "ipip": 20, "sit": 20, "ip6tnl": 20, "gre": 24, "ip6gre": 24, "gretap": 38,
    "ip6gretap": 38,
}  # fmt: skip
_IPV6_MORE, _KEY = 20, 4
#: WireGuard agrees on new keys every two minutes while there is traffic, and keepalives are traffic; keys live for three.
_SILENT_S = 240.0
#: Bytes of WireGuard's opening messages, one in five seconds: fewer say nothing yet.
_TRIED = 4 * 148


@dataclass
class Tunnel:
    """A tunnel link that is up, and where it leads: address → what names it there."""

    link: dict[str, Any]
    kind: str
    detail: dict[str, Any]
    remotes: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.link["name"])


def find(facts: Facts) -> list[Finding]:
    out = []
    for one in tunnels(facts):
        inside = _inside(facts, one)
        out += inside or (_too_large(facts, one) + _no_local(facts, one) + _dead(facts, one))
    return out + _silent(facts) + [finding for one in _switched(facts) for finding in _dead(facts, one)]


def _switched(facts: Facts) -> list[Tunnel]:
    """Tunnels of Open vSwitch, which are no links of the kernel."""
    switch = (facts.section("installed") or {}).get("ovs") or {}
    out = []
    for one in switch.get("interfaces") or []:
        try:
            remote = str(ipaddress.ip_address(one["options"].get("remote_ip")))
        except ValueError:
            continue  # no tunnel, or one whose flows say where it leads
        out.append(Tunnel({"name": one["name"]}, one["type"], {}, {remote: "remote_ip"}))
    return out


def tunnels(facts: Facts) -> list[Tunnel]:
    """Those whose packets leave through this network namespace. Where each packet says its own ends nothing can be told."""
    section = facts.section("tunnels") or {}
    secure = {one["dev"]: one for one in section.get("wireguard") or []}
    out = []
    for link in facts.items("links"):
        kind, detail = str(link.get("kind")), link.get("detail") or {}
        if not link.get("up") or link.get("peer_elsewhere") or kind not in _OVERHEAD or detail.get("external"):
            continue
        one = Tunnel(link, kind, detail)
        if detail.get("remote"):
            one.remotes[detail["remote"]] = "remote"
        for entry in section.get("fdb") or []:
            if entry["dev"] == one.name:
                one.remotes.setdefault(entry["remote"], f"fdb {entry['mac']}")
        for peer in (secure.get(one.name) or {}).get("peers") or []:
            if peer.get("endpoint"):
                one.remotes.setdefault(peer["endpoint"], "endpoint")
        one.remotes = {address: said for address, said in one.remotes.items() if not ipaddress.ip_address(address).is_multicast}
        out.append(one)
    return out


def _below(facts: Facts, one: Tunnel, address: str) -> dict[str, Any] | None:
    """The link that packets to the other end leave by."""
    bound = next((link for link in facts.items("links") if link.get("index") == one.detail.get("below")), None)
    return bound or facts.links.get(facts.way_out(address) or "")


def _too_large(facts: Facts, one: Tunnel) -> list[Finding]:
    room: tuple[int, str, str] | None = None
    for address in one.remotes:
        below = _below(facts, one, address)
        if below is None or below["name"] in ("lo", one.name) or not below.get("mtu"):
            continue
        overhead = _OVERHEAD[one.kind] + (_IPV6_MORE if ":" in address else 0) + (_KEY if one.detail.get("number") else 0)
        if one.kind in ("vxlan", "geneve"):
            overhead -= _KEY if one.detail.get("number") else 0  # the VNI is part of the header
        fits = int(below["mtu"]) - overhead
        if room is None or fits < room[0]:
            room = fits, below["name"], f"{below['name']} has an MTU of {below['mtu']}, {one.kind} adds {overhead} bytes"
    if room is None or int(one.link.get("mtu") or 0) <= room[0]:
        return []
    fits, _below_name, why = room
    return [
        Finding(
            "tunnel-mtu-too-large",
            "likely",
            "warning",
            one.name,
            f"{one.name} takes packets of up to {one.link['mtu']} bytes, {fits} fit: larger ones are sent in fragments, or lost.",
            [f"{one.name} ({one.kind}): MTU {one.link['mtu']}", why],
            [f"ip link set dev {word(one.name)} mtu {fits}", "# and where the tunnel is configured, on both ends"],
            ["D21", "D24"],
            {"link": one.name, "mtu": fits},
        )
    ]


def _no_local(facts: Facts, one: Tunnel) -> list[Finding]:
    local = one.detail.get("local")
    if not local or not facts.known("addresses") or facts.own(local):
        return []
    return [
        Finding(
            "tunnel-local-missing",
            "likely",
            "warning",
            one.name,
            f"{one.name} sends from {local}, which is no address of this host: nothing goes out through it.",
            [f"{one.name} ({one.kind}): local {local}", "no link of this host has that address"],
            [
                f"# either give the host {local} again, or change the tunnel's end:",
                f"ip link set dev {word(one.name)} type {one.kind} local ADDRESS",
            ],
            ["D21"],
            {"link": one.name, "local": local},
        )
    ]


def _inside(facts: Facts, one: Tunnel) -> list[Finding]:
    caught = sorted(address for address in one.remotes if facts.way_out(address) == one.name)
    if not caught:
        return []
    return [
        Finding(
            "tunnel-inside-itself",
            "proven",
            "critical",
            one.name,
            f"Packets of {one.name} to its other end {caught[0]} are routed into {one.name} itself: none gets out.",
            [f"the most specific route to {address} leads through {one.name}" for address in caught[:8]],
            [
                "# give the other end a route of its own, through the link below:",
                f"ip route add {caught[0]} via GATEWAY dev LINK",
            ],
            ["D21", "D18"],
            {"link": one.name, "address": caught[0]},
        )
    ]


def _dead(facts: Facts, one: Tunnel) -> list[Finding]:
    failed = {one["address"]: one for one in facts.items("neighbours") if one.get("state") in ("failed", "incomplete")}
    dead: dict[str, tuple[str, str | None]] = {}
    for address in one.remotes:
        if address in failed:
            asked = "ARP" if failed[address].get("family") == 4 else "neighbour discovery"
            state, dev = failed[address]["state"], failed[address]["dev"]
            dead[address] = f"neighbour {address} dev {dev} state {state}: no answer to {asked}", dev
        elif facts.known("routes") and not facts.own(address) and not _routed(facts, address):
            dead[address] = f"no route leads to {address}", None
    return [
        _peer_dead(
            one.name,
            address,
            f"The other end of {one.name}, {address}, cannot be reached: what the tunnel sends there is lost.",
            [f"{one.name} ({one.kind}): {one.remotes[address]} {address}", why],
            len(dead) == len(one.remotes),
            dev,
            "likely" if failed.get(address, {}).get("state") == "incomplete" else "proven",
        )
        for address, (why, dev) in sorted(dead.items())[:16]
    ]


def _routed(facts: Facts, address: str) -> bool:
    return facts.policy(6 if ":" in address else 4) or facts.way_out(address) is not None


def _silent(facts: Facts) -> list[Finding]:
    """Peers of WireGuard that are kept alive, and do not answer."""
    out = []
    for one in (facts.section("tunnels") or {}).get("wireguard") or []:
        silent = [peer for peer in one["peers"] if _unanswered(peer)]
        for peer in silent[:16]:
            ago = peer["handshake_ago_s"]
            since = f"the last handshake was {ago:.0f} s ago" if ago is not None else "there never was a handshake"
            where = f"{peer['endpoint']} port {peer['endpoint_port']}"
            out.append(
                _peer_dead(
                    one["dev"],
                    peer["endpoint"],
                    f"The peer of {one['dev']} at {where} does not answer: {since}.",
                    [
                        f"{one['dev']}: {peer['tx_bytes']} bytes sent, {peer['rx_bytes']} received, "
                        f"kept alive every {peer['keepalive_s']} s",
                        f"leads to {', '.join(peer['allowed'][:8]) or 'nothing'}",
                    ],
                    len(silent) == len(one["peers"]),
                    None,
                )
            )
    return out


def _unanswered(peer: dict[str, Any]) -> bool:
    if not peer.get("endpoint") or not peer.get("keepalive_s"):
        return False  # without keepalives silence is as it should be
    ago = peer.get("handshake_ago_s")
    if ago is None:
        return bool(peer["rx_bytes"] == 0 and peer["tx_bytes"] >= _TRIED)
    return bool(ago > _SILENT_S + peer["keepalive_s"])


def _peer_dead(
    link: str, address: str, summary: str, evidence: list[str], alone: bool, dev: str | None, grade: str = "proven"
) -> Finding:
    return Finding(
        "overlay-peer-dead",
        grade,
        "critical" if alone else "warning",
        f"{link} to {address}",
        summary,
        evidence,
        [f"ip route get {address}", f"# is {address} up, and is it still the other end? else take it out of {word(link)}"],
        ["D21"],
        {"link": link, "address": address, "dev": dev},
    )
