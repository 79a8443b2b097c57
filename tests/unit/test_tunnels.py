# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tunnels of kinds that this machine's kernel need not have: what is read of the kernel's messages, and what is said of it."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import tunnels
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._evidence import tunnels as reader
from ansible_collections.netops.fleet.plugins.module_utils._kernel.netlink import pack
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet.overlays import Overlays
from tests.unit.hosts import healthy, link

KEY_A, KEY_B, SECRET = b"a" * 32, b"b" * 32, b"s" * 32
WG = "wireguard"


def v4(text: str) -> bytes:
    return socket.inet_aton(text)


@pytest.mark.parametrize(
    ("kind", "data", "wanted"),
    [
        ("ipip", {1: struct.pack("=I", 2), 2: v4("192.0.2.11"), 3: v4("198.51.100.1")},
         {"below": 2, "local": "192.0.2.11", "remote": "198.51.100.1"}),
        ("ipip", {1: struct.pack("=I", 0), 2: bytes(4), 3: bytes(4)}, {}),
        ("gre", {4: struct.pack(">I", 7), 5: struct.pack(">I", 9), 6: bytes(4), 7: v4("198.51.100.1")},
         {"in": 7, "number": 9, "remote": "198.51.100.1"}),
        ("gre", {18: b"", 6: bytes(4)}, {"external": True}),
        ("sit", {2: v4("192.0.2.11")}, {"local": "192.0.2.11"}),
        ("ip6tnl", {2: socket.inet_pton(socket.AF_INET6, "2001:db8::11"), 3: bytes(16)}, {"local": "2001:db8::11"}),
        ("geneve", {1: struct.pack("=I", 5), 2: v4("198.51.100.1"), 5: struct.pack(">H", 6081)},
         {"number": 5, "remote": "198.51.100.1", "port": 6081}),
        ("vxlan", {1: struct.pack("=I", 0), 15: struct.pack(">H", 4789), 25: b"\1"},
         {"number": 0, "port": 4789, "external": True}),
        ("vxlan", {1: struct.pack("=I", 8), 25: b"\0"}, {"number": 8}),
        ("veth", {1: b"x"}, {}),
    ],
)  # fmt: skip
def test_ends_of_links(kind: str, data: dict[int, bytes], wanted: dict[str, Any]) -> None:
    assert reader.ends(kind, data) == wanted


def peer_message(
    key: bytes, shaken: int, keepalive: int = 25, rx: int = 1, tx: int = 1000, networks: tuple[str, ...] = ()
) -> Any:
    endpoint = struct.pack("=H", socket.AF_INET) + struct.pack(">H", 51820) + v4("192.0.2.12") + bytes(8)
    allowed = [(1, [(1, struct.pack("=H", 2)), (2, v4(one)), (3, b"\x20")]) for one in networks]
    return (
        1,
        [(1, key), (2, SECRET), (4, endpoint), (5, struct.pack("=H", keepalive)), (6, struct.pack("=qq", shaken, 0)),
         (7, struct.pack("=Q", rx)), (8, struct.pack("=Q", tx)), (9, allowed)],
    )  # fmt: skip


def test_wireguard_without_its_secrets() -> None:
    """A peer whose addresses go on in a second message; neither private nor shared key is in the evidence."""
    head = struct.pack("=BBH", 0, 1, 0)
    first = head + pack(
        [(3, SECRET), (4, KEY_A), (6, struct.pack("=H", 51820)), (8, [peer_message(KEY_B, 1000, networks=("10.0.0.1",))])]
    )
    second = head + pack([(8, [peer_message(KEY_B, 1000, networks=("10.0.0.2",))])])
    one = reader.device("wg0", [first, second], 1300.0)
    assert (one["key"], one["port"], len(one["peers"])) == (reader.digest(KEY_A), 51820, 1)
    assert one["peers"][0] == {
        "key": reader.digest(KEY_B), "endpoint": "192.0.2.12", "endpoint_port": 51820, "handshake_ago_s": 300.0,
        "keepalive_s": 25, "rx_bytes": 1, "tx_bytes": 1000, "allowed": ["10.0.0.1/32", "10.0.0.2/32"],
    }  # fmt: skip
    assert "s" * 8 not in json.dumps(one) and SECRET.hex() not in json.dumps(one)


def test_a_state_of_ipsec() -> None:
    body = (
        bytes(56) + v4("198.51.100.1") + bytes(12) + struct.pack(">I", 0x1001) + bytes([50]) + bytes(3)
        + v4("192.0.2.11") + bytes(12) + bytes(64 + 32 + 12) + struct.pack("=IIHBBB", 0, 7, socket.AF_INET, 1, 0, 0)
    )  # fmt: skip
    assert reader.state(body) == {
        "source": "192.0.2.11", "target": "198.51.100.1", "spi": "0x00001001", "protocol": "esp", "mode": "tunnel", "reqid": 7,
    }  # fmt: skip


@given(st.binary(max_size=400))
def test_whatever_the_kernel_says_nothing_breaks(data: bytes) -> None:
    reader.state(data)
    reader.forwarding_entry(data, {})
    assert reader.device("wg0", [data], 1.0)["dev"] == "wg0"
    for kind in reader.KINDS:
        reader.ends(kind, dict.fromkeys(range(30), data))


MAIN = {"family": 4, "table": 254, "type": "unicast", "dst": "default", "via": "192.0.2.1", "dev": "eth0", "flags": []}


def tunnel(kind: str = "ipip", mtu: int = 1400, **detail: Any) -> dict[str, Any]:
    return link("tun0", index=9, kind=kind, physical=False, mtu=mtu, detail={"remote": "198.51.100.1", **detail})


def told(*links: dict[str, Any], **sections: Any) -> list[tuple[str, str, str]]:
    given = {"routes": [MAIN], **sections}
    evidence = healthy(links=[link("lo", index=1, physical=False), link(), *links], **given)
    return [(one.id, one.severity, one.subject) for one in tunnels.find(Facts(evidence))]


@pytest.mark.parametrize(
    ("kind", "fits", "detail"),
    [
        ("ipip", 1480, {}), ("gre", 1476, {}), ("gre", 1472, {"number": 9}), ("gretap", 1462, {}), ("vxlan", 1450, {"number": 5}),
        ("geneve", 1450, {"number": 5}), ("vxlan", 1430, {"number": 5, "remote": "2001:db8::7"}), ("wireguard", 1440, {}),
    ],
)  # fmt: skip
def test_what_fits(kind: str, fits: int, detail: dict[str, Any]) -> None:
    """The kernel's own defaults (ip-tunnel(8), vxlan) are exactly what fits."""
    routes = [MAIN, {**MAIN, "family": 6, "via": "2001:db8::1"}]
    assert told(tunnel(kind, fits, **detail), routes=routes) == []
    assert told(tunnel(kind, fits + 1, **detail), routes=routes) == [("tunnel-mtu-too-large", "warning", "tun0")]
    assert told(tunnel(kind, fits + 1, external=True, **detail), routes=routes) == []
    assert told({**tunnel(kind, fits + 1, **detail), "up": False}, routes=routes) == []


def test_a_default_route_through_the_tunnel() -> None:
    through = {**MAIN, "dev": "tun0"}
    assert told(tunnel(), routes=[through]) == [("tunnel-inside-itself", "critical", "tun0")]
    own_way = {**MAIN, "dst": "198.51.100.1/32"}
    assert told(tunnel(), routes=[through, own_way]) == []
    marked = [{"family": 4, "priority": 32764, "table": 51820}]
    assert told(tunnel(), routes=[through], policy_rules=marked) == []


def test_an_end_without_a_route() -> None:
    assert told(tunnel(), routes=[{**MAIN, "dst": "192.0.2.0/24"}]) == [("overlay-peer-dead", "critical", "tun0 to 198.51.100.1")]


def secured(**peer: Any) -> dict[str, Any]:
    one = {
        "key": "b", "endpoint": "192.0.2.12", "endpoint_port": 51820, "handshake_ago_s": 100.0, "keepalive_s": 25,
        "rx_bytes": 9, "tx_bytes": 9000, "allowed": [], **peer,
    }  # fmt: skip
    return {"fdb": None, "wireguard": [{"dev": "tun0", "key": "a", "port": 51820, "peers": [one]}], "ipsec": None}


@pytest.mark.parametrize(
    ("peer", "dead"),
    [
        ({}, False),
        ({"handshake_ago_s": 900.0}, True),
        ({"handshake_ago_s": 900.0, "keepalive_s": 0}, False),  # nothing to say to each other
        ({"handshake_ago_s": None, "rx_bytes": 0}, True),
        ({"handshake_ago_s": None, "rx_bytes": 0, "tx_bytes": 148}, False),  # tried once
        ({"handshake_ago_s": None, "rx_bytes": 0, "endpoint": None}, False),  # it comes from anywhere
    ],
)
def test_silent_peers(peer: dict[str, Any], dead: bool) -> None:
    one = {**tunnel("wireguard", 1420), "detail": {}}
    wanted = [("overlay-peer-dead", "critical", "tun0 to 192.0.2.12")] if dead else []
    assert told(one, tunnels=secured(**peer)) == wanted


# --- both ends


def host(number: int, *links: dict[str, Any], status: str = "ok", **section: Any) -> dict[str, Any]:
    address = {"link": "eth0", "family": 4, "address": f"192.0.2.{number}", "prefix": 24, "scope": "global", "flags": []}
    data = {"fdb": None, "wireguard": None, "ipsec": None, **section}
    evidence = healthy(links=[link(), *links], addresses=[address], tunnels=data)
    evidence["coverage"] = [{"section": "links", "status": "ok"}, {"section": "tunnels", "status": status}]
    return evidence


def between(one: dict[str, Any], other: dict[str, Any]) -> dict[str, list[str]]:
    table = Overlays()
    fleet = {"a": one, "b": other}
    for name, evidence in fleet.items():
        table.count(name, evidence)
    found = {
        name: [finding.summary.split(": ", 1)[1] for finding in table.findings(name, evidence)]
        for name, evidence in fleet.items()
    }
    return {name: some for name, some in found.items() if some}


def end(remote: str, kind: str = "vxlan", **detail: Any) -> dict[str, Any]:
    return link("tun0", index=9, kind=kind, physical=False, detail={"remote": remote, **detail})


@pytest.mark.parametrize(
    ("kind", "here", "there", "said"),
    [
        ("vxlan", {"number": 1, "port": 4789}, {"number": 1, "port": 4789}, None),
        ("vxlan", {"number": 1, "port": 4789}, {"number": 1, "port": 8472},
         "its vxlan link with VNI 1 uses UDP port 8472, this one 4789."),
        ("vxlan", {"number": 1, "port": 4789}, {"number": 2, "port": 4789}, "it has no vxlan link with VNI 1, but 2."),
        ("gre", {"number": 7, "in": 8}, {"number": 8, "in": 7}, None),
        ("gre", {"number": 7, "in": 8}, {"number": 8}, "it takes packets with the key none, this end sends 7."),
        ("ipip", {}, {"remote": "198.51.100.9"}, "it has no ipip link that leads back to this host."),
    ],
)  # fmt: skip
def test_ends_that_do_not_fit(kind: str, here: dict[str, Any], there: dict[str, Any], said: str | None) -> None:
    found = between(host(1, end("192.0.2.2", kind, **here)), host(2, end(there.pop("remote", "192.0.2.1"), kind, **there)))
    assert found.get("a", []) == ([said] if said else [])


def test_an_end_that_takes_packets_from_anywhere_fits() -> None:
    anywhere = link("tunl0", index=9, kind="ipip", physical=False, detail={})
    assert between(host(1, end("192.0.2.2", "ipip")), host(2, anywhere)) == {}


def test_what_was_not_read_is_no_mismatch() -> None:
    assert between(host(1, end("192.0.2.2", number=1)), host(2, status="partial")) == {}
    leaves_it_open = link("cilium_vxlan", index=9, kind="vxlan", physical=False, detail={"external": True, "number": 0})
    assert between(host(1, end("192.0.2.2", number=1)), host(2, leaves_it_open)) == {}


def wg(key: str, port: int, peer: str, endpoint: str, endpoint_port: int = 51820) -> list[dict[str, Any]]:
    return [
        {"dev": "wg0", "key": key, "port": port, "peers": [{"key": peer, "endpoint": endpoint, "endpoint_port": endpoint_port}]}
    ]


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (wg("b", 51820, "a", "192.0.2.1"), None),
        (wg("b", 51821, "a", "192.0.2.1"), "no WireGuard link listens on port 51820 there."),
        (wg("c", 51820, "a", "192.0.2.1"), "the public key there is another one than this host has for it."),
        (wg("b", 51820, "d", "192.0.2.1"), "it does not have this host's public key among its peers."),
    ],
)
def test_keys_of_wireguard(there: list[dict[str, Any]], said: str | None) -> None:
    found = between(host(1, wireguard=wg("a", 51820, "b", "192.0.2.2")), host(2, wireguard=there))
    assert found.get("a", []) == ([said] if said else [])


def states(*spis: str) -> dict[str, Any]:
    return {"policies": 1, "states": [{"source": "192.0.2.1", "target": "192.0.2.2", "spi": spi} for spi in spis]}


def test_states_of_ipsec() -> None:
    assert between(host(1, ipsec=states("0x1", "0x2")), host(2, ipsec=states("0x2"))) == {}, "keys are being renewed"
    said = "it has none of the states that this host sends with (0x1, 0x2)."
    assert between(host(1, ipsec=states("0x1", "0x2")), host(2, ipsec=states())) == {"a": [said]}
    assert between(host(1, ipsec=states("0x1")), host(2)) == {}
