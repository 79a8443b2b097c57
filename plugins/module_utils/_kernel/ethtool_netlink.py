# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""What ``ethtool -l -g -c -k`` reads and ``-L -G -C -K`` sets, by generic netlink: channels, rings, coalescing, features.

And what it reads of the cable: link modes, why there is no link, the transceiver's memory (``-m``, Linux 5.13).

Sources: include/uapi/linux/ethtool_netlink.h, Documentation/networking/ethtool-netlink.rst. Linux 5.6 and later. The
family is part of the kernel, so asking for it loads no module.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from ansible_collections.netops.fleet.plugins.module_utils._kernel import netlink

_HEADER, _DEV_NAME = 1, 2


class _Group(NamedTuple):
    """get, set: commands. values: name → attribute. limits: name → attribute of its maximum. flags: those of one byte."""

    get: int
    set: int
    values: dict[str, int]
    limits: dict[str, int]
    flags: tuple[str, ...] = ()


#: Settings by group, in ethtool's words.
GROUPS: dict[str, _Group] = {
    "channels": _Group(17, 18, {"rx": 6, "tx": 7, "other": 8, "combined": 9}, {"rx": 2, "tx": 3, "other": 4, "combined": 5}),
    "rings": _Group(15, 16, {"rx": 6, "rx-mini": 7, "rx-jumbo": 8, "tx": 9}, {"rx": 2, "rx-mini": 3, "rx-jumbo": 4, "tx": 5}),
    "coalesce": _Group(
        19,
        20,
        {
            "rx-usecs": 2,
            "rx-frames": 3,
            "rx-usecs-irq": 4,
            "rx-frames-irq": 5,
            "tx-usecs": 6,
            "tx-frames": 7,
            "tx-usecs-irq": 8,
            "tx-frames-irq": 9,
            "stats-block-usecs": 10,
            "adaptive-rx": 11,
            "adaptive-tx": 12,
        },
        {},
        ("adaptive-rx", "adaptive-tx"),
    ),
}
_FEATURES_GET, _FEATURES_SET = 11, 12
_LINKMODES_GET, _LINKSTATE_GET, _EEPROM_GET = 4, 6, 31
#: enum ethtool_link_ext_state.
_NO_LINK = (
    "autonegotiation fails", "link training fails", "the lanes do not fit together", "bad signal", "no cable", "cable issue",
    "the module's memory cannot be read", "calibration fails", "the module wants more power than the port gives", "too hot",
    "the module is not ready",
)  # fmt: skip
_FEATURES_HW, _FEATURES_WANTED, _FEATURES_ACTIVE, _FEATURES_NOCHANGE = 2, 3, 4, 5
_BITSET_BITS, _BIT_NAME, _BIT_VALUE = 3, 2, 3
#: ethtool's short names of features, and the kernel's.
FEATURES = {
    "gro": "rx-gro",
    "gso": "tx-generic-segmentation",
    "hw-gro": "rx-gro-hw",
    "lro": "rx-lro",
    "ntuple": "rx-ntuple-filter",
    "rx": "rx-checksum",
    "rxhash": "rx-hashing",
    "rxvlan": "rx-vlan-hw-parse",
    "tso": "tx-tcp-segmentation",
    "txvlan": "tx-vlan-hw-insert",
}


class Feature(NamedTuple):
    """on: in force. movable: this link lets it be switched."""

    on: bool
    movable: bool


class Link:
    """Asks about links of this network namespace. Use as a context manager. Every method raises OSError.

    EOPNOTSUPP: the driver has no such settings. ENOENT: the kernel has no ethtool netlink.
    """

    def __init__(self) -> None:
        self._socket = netlink.Socket(netlink.GENERIC)
        try:
            self._family = netlink.generic_family(self._socket, "ethtool")
        except OSError:
            self._socket.close()
            raise

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_unused: object) -> None:
        self._socket.close()

    def _ask(self, command: int, link: str, more: list[tuple[int, netlink.AttributeValue]]) -> dict[int, bytes]:
        payload = struct.pack("=BBH", command, 1, 0) + netlink.pack([(_HEADER, [(_DEV_NAME, link)]), *more])
        for _kind, body in self._socket.get(self._family, payload):
            return netlink.attributes(body, 4)
        return {}

    def get(self, link: str, group: str) -> dict[str, int]:
        """Values of a group by name, those that the driver has. Flags are 0 and 1."""
        found = self._ask(GROUPS[group].get, link, [])
        return {name: netlink.number(found[at]) for name, at in GROUPS[group].values.items() if at in found}

    def limits(self, link: str, group: str) -> dict[str, int]:
        """Maxima of a group by name."""
        found = self._ask(GROUPS[group].get, link, [])
        return {name: netlink.number(found[at]) for name, at in GROUPS[group].limits.items() if at in found}

    def set(self, link: str, group: str, values: dict[str, int]) -> None:
        """Set some of a group in one request, so that the driver restarts its queues once."""
        known = GROUPS[group]
        pairs: list[tuple[int, netlink.AttributeValue]] = []
        for name, value in sorted(values.items(), key=lambda item: known.values[item[0]]):
            pairs.append((known.values[name], struct.pack("=B", value) if name in known.flags else value))
        self._ask(known.set, link, pairs)

    def modes(self, link: str) -> dict[str, object]:
        """``{autoneg, ours, peer}``: link modes by name that each side offers; peer None where it says nothing."""
        found = self._ask(_LINKMODES_GET, link, [])
        peer = _given(found.get(4))
        return {"autoneg": bool(netlink.number(found.get(2))), "ours": _given(found.get(3)), "peer": peer or None}

    def down_because(self, link: str) -> str | None:
        """Why a link has no carrier, in the card's words; None where it does not say."""
        found = self._ask(_LINKSTATE_GET, link, [])
        state = netlink.number(found[5]) if 5 in found else len(_NO_LINK)
        return _NO_LINK[state] if state < len(_NO_LINK) else None

    def eeprom(self, link: str, offset: int, length: int, page: int, bus: int) -> bytes:
        """``length`` bytes of the transceiver's memory. bus: 0x50, or 0x51 for the diagnostics of an SFP."""
        more: list[tuple[int, netlink.AttributeValue]] = [(2, offset), (3, length), (4, bytes([page])), (6, bytes([bus]))]
        if page:
            more.insert(3, (5, bytes([0])))
        data = self._ask(_EEPROM_GET, link, more).get(7, b"")
        if len(data) < length:
            raise OSError(5, f"{len(data)} of {length} bytes were given")
        return data[:length]

    def features(self, link: str) -> dict[str, Feature]:
        """By the kernel's names."""
        found = self._ask(_FEATURES_GET, link, [])
        changeable, active, fixed = (_bits(found.get(at, b"")) for at in (_FEATURES_HW, _FEATURES_ACTIVE, _FEATURES_NOCHANGE))
        return {name: Feature(name in active, name in changeable and name not in fixed) for name in {*changeable, *active}}

    def set_feature(self, link: str, name: str, on: bool) -> None:
        """Does not raise when the link keeps it as it is: read it again."""
        bit: list[tuple[int, netlink.AttributeValue]] = [(_BIT_NAME, name)]
        if on:
            bit.append((_BIT_VALUE, b""))
        self._ask(_FEATURES_SET, link, [(_FEATURES_WANTED, [(_BITSET_BITS, [(1, bit)])])])


def _given(data: bytes | None) -> list[str]:
    return sorted(_bits(data)) if data else []


def _bits(data: bytes) -> set[str]:
    """Names of the bits that are set; in a set with a mask, those of the mask."""
    found = set()
    masked = 1 not in netlink.attributes(data)  # ETHTOOL_A_BITSET_NOMASK
    for _kind, body in netlink.attribute_list(netlink.attributes(data).get(_BITSET_BITS, b"")):
        one = netlink.attributes(body)
        if masked and _BIT_VALUE not in one:
            continue
        found.add(netlink.text_of(one.get(_BIT_NAME, b"")))
    return found
