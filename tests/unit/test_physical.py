# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cables and transceivers, by memories laid out as SFF-8472, SFF-8636 and CMIS say, and what is told of them."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import basics, hops, physical
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._evidence import physical as reader
from tests.unit.hosts import healthy, link

#: Alarm thresholds as optics have them: 75 °C, +2.0 and -16.0 dBm in, +2.0 and -9.5 dBm out; the warnings behind are not read.
HOT = struct.pack(">hhhh", 75 * 256, -5 * 256, 70 * 256, 0)
IN, OUT = struct.pack(">HHHH", 15849, 251, 12589, 398), struct.pack(">HHHH", 15849, 1122, 12589, 1413)


class Module:
    """A transceiver's memory: (page, bus address) → bytes from offset 0. Notes what was read."""

    def __init__(self, **pages: bytes) -> None:
        self.pages = {(0, 0x50): bytearray(256)}
        self.read: list[tuple[int, int, int, int]] = []

    def put(self, offset: int, data: bytes, page: int = 0, bus: int = 0x50) -> Module:
        memory = self.pages.setdefault((page, bus), bytearray(256))
        memory[offset : offset + len(data)] = data
        return self

    def __call__(self, offset: int, length: int, page: int, bus: int) -> bytes:
        # As the kernel checks it (net/ethtool/eeprom.c): at most half a page, and within one half.
        assert 0 < length <= 128 and (offset < 128) == (offset + length <= 128) and (page == 0 or offset >= 128)
        self.read.append((offset, length, page, bus))
        return bytes(self.pages[(page, bus)][offset : offset + length])


def sfp(rx: int = 4000, tx: int = 5000, celsius: int = 40, measures: int = 0x68) -> Module:
    values = struct.pack(">hHHHH", celsius * 256, 33000, 3000, tx, rx)
    one = Module().put(0, b"\x03").put(92, bytes([measures]))
    return one.put(0, HOT, bus=0x51).put(24, OUT + IN, bus=0x51).put(96, values, bus=0x51)


def qsfp(*rx: int, copper: bool = False) -> Module:
    one = Module().put(0, b"\x11").put(147, b"\xa0" if copper else b"\x00")
    one.put(22, struct.pack(">h", 40 * 256)).put(34, struct.pack(">4H", *rx)).put(50, struct.pack(">4H", *[5000] * 4))
    return one.put(128, HOT, page=3).put(176, IN, page=3).put(192, OUT, page=3)


def cmis(tx: list[int], rx: list[int], media: int = 2) -> Module:
    one = Module().put(0, b"\x18").put(85, bytes([media])).put(14, struct.pack(">h", 50 * 256))
    one.put(154, struct.pack(">8H", *tx), page=0x11).put(186, struct.pack(">8H", *rx), page=0x11)
    return one.put(128, HOT, page=2).put(176, OUT, page=2).put(192, IN, page=2)


def told(module: Module) -> list[str]:
    card = {"name": "eth0", "module": reader.module(module)}
    return [one.summary for one in physical.light(Facts(healthy(physical=[card])))]


LITTLE = ["The transceiver of eth0 receives too little light."]


@pytest.mark.parametrize(
    ("module", "wanted"),
    [
        (sfp(), []),
        (sfp(rx=100), LITTLE),
        (sfp(rx=0), LITTLE),
        (sfp(tx=500), ["The transceiver of eth0 sends too little light."]),
        (sfp(rx=20000), ["The transceiver of eth0 receives too much light."]),
        (sfp(celsius=80), ["The transceiver of eth0 is too hot (80.0 °C)."]),
        (sfp(rx=0, measures=0x58), []),  # externally calibrated: its numbers want constants
        (qsfp(4000, 4000, 4000, 4000), []),
        (qsfp(4000, 4000, 0, 4000), LITTLE),
        (qsfp(0, 0, 0, 0, copper=True), []),
        (cmis([5000] * 8, [4000] * 8), []),
        (cmis([5000] * 8, [4000] * 7 + [10]), LITTLE),
        (cmis([5000] * 4 + [0] * 4, [4000] * 4 + [0] * 4), []),  # half of the port is not in use
        (cmis([5000] * 8, [0] * 8, media=3), []),
    ],
)
def test_light(module: Module, wanted: list[str]) -> None:
    assert told(module) == wanted


def test_numbers_of_a_module() -> None:
    assert reader.module(sfp()) == {
        "kind": "SFP", "celsius": 40.0, "celsius_high": 75.0, "rx_dbm": [-3.98], "rx_low": -16.0, "rx_high": 2.0,
        "tx_dbm": [-3.01], "tx_low": -9.5, "tx_high": 2.0,
    }  # fmt: skip
    assert reader.module(Module()) is None


def test_flags_that_reading_clears_are_not_read() -> None:
    """Latched: bytes 3 to 21 of QSFP, 8 to 13 of CMIS and its page 11h from 134 to 153."""
    for module, latched in ((qsfp(1, 1, 1, 1), [(3, 22, 0)]), (cmis([1] * 8, [1] * 8), [(3, 14, 0), (134, 154, 0x11)])):
        assert reader.module(module) is not None
        for offset, length, page, _bus in module.read:
            assert all(page != other or offset + length <= low or offset >= high for low, high, other in latched)


def found(card: dict[str, Any] | None = None, *others: dict[str, Any], **more: Any) -> list[tuple[str, str]]:
    evidence = healthy(links=[link(**more), *others], physical=[{"name": "eth0", **(card or {})}])
    return [(one.id, one.summary) for one in physical.find(Facts(evidence))]


def test_duplex() -> None:
    assert found(duplex="full", speed_mbit=100) == []
    assert [name for name, _said in found(duplex="half", speed_mbit=100)] == ["link-half-duplex"]
    assert found(duplex="half", carrier=False) == []


@pytest.mark.parametrize(
    ("ours", "peer", "now", "slow"),
    [
        (["1000baseT/Full", "100baseT/Full"], ["1000baseT/Full", "100baseT/Full"], 1000, None),
        (["1000baseT/Full", "100baseT/Full"], ["1000baseT/Full", "100baseT/Full"], 100, "both sides offer 1000"),
        (["1000baseT/Full", "100baseT/Full"], ["100baseT/Full"], 100, None),
        (["25000baseCR/Full"], None, 25000, None),
        (["100000baseSR4/Full", "25000baseSR/Full", "FIBRE", "RS"], None, 25000, None),  # as the optics are
        (["1000baseT/Full", "100baseT/Full"], None, 100, "the card offers 1000"),
        (["100baseT/Full"], None, 100, None),
        ([], None, 10, None),
    ],
)
def test_slow(ours: list[str], peer: list[str] | None, now: int, slow: str | None) -> None:
    said = found({"ours": ours, "peer": peer, "autoneg": True}, speed_mbit=now, duplex="full")
    assert [name for name, _said in said] == (["link-slow"] if slow else [])
    assert not slow or slow in said[0][1]


def test_slow_member_of_a_bond() -> None:
    bond = link("bond0", index=5, kind="bond", physical=False, detail={"mode": "802.3ad"})
    other = link("eth1", index=3, master="bond0", speed_mbit=25000)
    assert found(None, bond, other, master="bond0", speed_mbit=25000) == []
    assert [name for name, _said in found(None, bond, other, master="bond0", speed_mbit=10000)] == ["link-slow"]


def test_why_there_is_no_carrier() -> None:
    evidence = healthy(links=[link(carrier=False)], physical=[{"name": "eth0", "down_because": "no cable"}])
    assert "the card says: no cable" in basics.links(Facts(evidence))[0].evidence


@pytest.mark.parametrize(("ttl", "routers"), [(64, 0), (63, 1), (128, 0), (120, 8), (255, 0), (32, 0), (1, 31), (250, 5)])
def test_routers_passed(ttl: int, routers: int) -> None:
    assert hops.passed(ttl) == routers


def pinged(address: str, *ttl: int) -> list[str]:
    probe = {"kind": "ping", "target": address, "status": "ok", "address": address, "ttl": list(ttl)}
    return [one.summary for one in hops.find(Facts(healthy(probes=[probe])))]


def test_hops() -> None:
    assert pinged("192.0.2.9", 64) == pinged("198.51.100.1", 52) == pinged("192.0.2.11", 63) == []
    assert "passed 1 router" in pinged("192.0.2.9", 63)[0]
    assert "different numbers" in pinged("198.51.100.1", 52, 53)[0]
