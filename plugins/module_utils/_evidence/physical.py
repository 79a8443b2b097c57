# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""What a network card knows of its cable: what both sides offer, why there is no link, light in and out of the transceiver.

Of a transceiver's memory only measured values and thresholds are read: its flags are cleared by reading, and are left to whoever
watches them. Sources: SFF-8472 (SFP), SFF-8636 (QSFP), OIF CMIS (QSFP-DD, OSFP), Documentation/networking/ethtool-netlink.rst
"""

from __future__ import annotations

import errno
import math
import struct
from collections.abc import Callable
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence import links
from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Section
from ansible_collections.netops.fleet.plugins.module_utils._kernel import ethtool_netlink, procfs

#: Links asked at most: the bus to a transceiver is slow.
LIMIT = 32

#: (offset, length, page, bus address) → bytes of a transceiver's memory. Raises OSError.
Memory = Callable[[int, int, int, int], bytes]

_SFP, _QSFP, _CMIS = (0x03, 0x0B), (0x0C, 0x0D, 0x11), (0x18, 0x19, 0x1E)
_BASE, _MONITOR = 0x50, 0x51


def read() -> Section:
    """Data: list of ``{name, autoneg, ours, peer, down_because, module}`` of the cards that are switched on.

    ours, peer: link modes that each side offers, ``1000baseT/Full``; peer null where it says nothing. down_because: the card's
    reason, without carrier. module: see ``module``; null without a transceiver that measures.
    """
    section = Section([])
    wanted = [link for link in links.read().data if link["physical"] and link["up"]]
    if not wanted:
        return section
    if len(wanted) > LIMIT:
        section.gap("physical", f"{LIMIT} of {len(wanted)} cards asked")
    try:
        tool = ethtool_netlink.Link()
    except OSError as error:
        section.gap("physical", f"ethtool netlink (Linux 5.6): {procfs.reason(error)}")
        return section
    with tool:
        for link in wanted[:LIMIT]:
            section.data.append(_card(section, tool, link))
    return section


def _card(section: Section, tool: ethtool_netlink.Link, link: dict[str, Any]) -> dict[str, Any]:
    name = link["name"]
    card: dict[str, Any] = {"name": name, "autoneg": None, "ours": [], "peer": None, "down_because": None, "module": None}
    try:
        card.update(tool.modes(name))
        if not link["carrier"]:
            card["down_because"] = tool.down_because(name)
    except OSError as error:
        _gap(section, "modes", name, error)
    try:
        card["module"] = module(lambda offset, length, page, bus: tool.eeprom(name, offset, length, page, bus))
    except OSError as error:
        _gap(section, "module", name, error)
    return card


def _gap(section: Section, what: str, name: str, error: OSError) -> None:
    """A card without a transceiver, or whose driver does not show it, is no gap."""
    if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENODEV, errno.EIO, errno.ENXIO):
        section.gap(f"physical.{what}", f"{name}: {procfs.reason(error)}")


def module(memory: Memory) -> dict[str, Any] | None:
    """``{kind, celsius, celsius_high, rx_dbm, tx_dbm, rx_low, rx_high, tx_low, tx_high}``, powers by lane.

    None for what carries no light or does not measure it; a lane without any light is -40. low, high: the module's own alarm
    thresholds, null where it has none.
    """
    kind = memory(0, 1, 0, _BASE)[0]
    if kind in _SFP:
        return _sfp(memory)
    if kind in _QSFP:
        return _qsfp(memory)
    return _cmis(memory) if kind in _CMIS else None


def _sfp(memory: Memory) -> dict[str, Any] | None:
    measures = memory(92, 1, 0, _BASE)[0]
    # Bit 6: it measures. Bit 5: what it says needs no constants of this one module.
    if measures & 0x60 != 0x60:
        return None
    limits, values = memory(0, 40, 0, _MONITOR), memory(96, 10, 0, _MONITOR)
    celsius, tx, rx = (struct.unpack_from(form, values, at)[0] for form, at in ((">h", 0), (">H", 6), (">H", 8)))
    return _result("SFP", celsius, [tx], [rx], limits[0:8], limits[24:32], limits[32:40])


def _qsfp(memory: Memory) -> dict[str, Any] | None:
    flat = memory(2, 1, 0, _BASE)[0] & 0x04
    # From 0xA on the transmitter is copper.
    if flat or memory(147, 1, 0, _BASE)[0] >> 4 >= 0xA:
        return None
    values, limits = memory(22, 36, 0, _BASE), memory(128, 72, 3, _BASE)
    celsius = struct.unpack_from(">h", values)[0]
    rx, tx = list(struct.unpack_from(">4H", values, 12)), list(struct.unpack_from(">4H", values, 28))
    return _result("QSFP", celsius, tx, rx, limits[0:8], limits[64:72], limits[48:56])


def _cmis(memory: Memory) -> dict[str, Any] | None:
    flat = memory(2, 1, 0, _BASE)[0] & 0x80
    # Multi-mode or single-mode fibre; all else is copper or says nothing.
    if flat or memory(85, 1, 0, _BASE)[0] not in (1, 2):
        return None
    celsius = struct.unpack(">h", memory(14, 2, 0, _BASE))[0]
    values, limits = memory(154, 48, 0x11, _BASE), memory(128, 72, 2, _BASE)
    tx, rx = list(struct.unpack_from(">8H", values)), list(struct.unpack_from(">8H", values, 32))
    # A lane that sends nothing is not in use: part of a port that is split.
    used = [lane for lane, power in enumerate(tx) if power] or list(range(8))
    return _result(
        "CMIS", celsius, [tx[one] for one in used], [rx[one] for one in used], limits[0:8], limits[48:56], limits[64:72]
    )


def _result(kind: str, celsius: int, tx: list[int], rx: list[int], warm: bytes, sent: bytes, received: bytes) -> dict[str, Any]:
    """From the memory's numbers: 1/256 of a degree, 0.1 microwatts; thresholds begin with the alarms, high and low."""
    hot = struct.unpack_from(">h", warm)[0]
    found: dict[str, Any] = {
        "kind": kind,
        "celsius": round(celsius / 256, 1),
        "celsius_high": round(hot / 256, 1) if hot else None,
    }
    for name, powers, limits in (("rx", rx, received), ("tx", tx, sent)):
        high, low = struct.unpack_from(">HH", limits)
        found[f"{name}_dbm"] = [dbm(one) for one in powers]
        found[f"{name}_low"] = dbm(low) if low else None
        found[f"{name}_high"] = dbm(high) if high else None
    return found


def dbm(tenths: int) -> float:
    """Of a power in 0.1 microwatts."""
    return round(10 * math.log10(tenths / 10_000), 2) if tenths else -40.0
