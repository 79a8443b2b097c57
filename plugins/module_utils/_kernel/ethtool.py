# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""What ``ethtool`` reads, by the same ioctl: driver, speed and duplex, the driver's own counters.

Sources: include/uapi/linux/{ethtool,sockios}.h, netdevice(7). Only for links that exist: for a name that does not, the
ioctl would ask for a module of that name.
"""

from __future__ import annotations

import array
import fcntl
import socket
import struct

_SIOCETHTOOL = 0x8946
_GDRVINFO, _GSTRINGS, _GSTATS, _GSSET_INFO, _GLINKSETTINGS = 0x03, 0x1B, 0x1D, 0x37, 0x4C
_SS_STATS = 1
_STRING = 32
_SPEED_UNKNOWN = 0xFFFFFFFF
_DUPLEX = {0: "half", 1: "full"}
#: More counters than any driver has; a number above it is not believed.
_MAX_COUNTERS = 65536


class Ethtool:
    """A socket to ask through. Use as a context manager. Every method raises OSError when the driver does not answer."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def __enter__(self) -> Ethtool:
        return self

    def __exit__(self, *_unused: object) -> None:
        self._socket.close()

    def _ask(self, link: str, data: array.array[int]) -> bytes:
        pointer, _length = data.buffer_info()
        request = struct.pack("16sP16x", link.encode("utf-8", "surrogateescape")[:15], pointer)
        fcntl.ioctl(self._socket.fileno(), _SIOCETHTOOL, request)
        return data.tobytes()

    def driver(self, link: str) -> str:
        """Name of the link's driver."""
        answer = self._ask(link, _buffer(struct.pack("=I", _GDRVINFO), 196))
        return answer[4:36].split(b"\0", 1)[0].decode("ascii", "replace")

    def link_settings(self, link: str) -> tuple[int | None, str | None]:
        """(speed in Mbit/s, duplex); None where the link does not know."""
        # The first answer gives the number of 32-bit words of the link-mode masks as a negative number.
        answer = self._ask(link, _buffer(struct.pack("=I", _GLINKSETTINGS), 48))
        words = -struct.unpack_from("=b", answer, 15)[0]
        if words <= 0:
            raise OSError(95, "link settings are not answered")
        request = bytearray(48 + 12 * words)
        struct.pack_into("=I", request, 0, _GLINKSETTINGS)
        struct.pack_into("=b", request, 15, words)
        answer = self._ask(link, _buffer(bytes(request), len(request)))
        speed, duplex = struct.unpack_from("=IB", answer, 4)
        return (None if speed in (0, _SPEED_UNKNOWN) else speed), _DUPLEX.get(duplex)

    def counter_names(self, link: str) -> list[str]:
        """Names of the driver's counters, in the order ``counters`` gives them."""
        answer = self._ask(link, _buffer(struct.pack("=IIQI", _GSSET_INFO, 0, 1 << _SS_STATS, 0), 24))
        mask, count = struct.unpack_from("=QI", answer, 8)
        if not mask or not 0 < count <= _MAX_COUNTERS:
            return []
        answer = self._ask(link, _buffer(struct.pack("=III", _GSTRINGS, _SS_STATS, count), 12 + _STRING * count))
        return [
            answer[12 + _STRING * n : 12 + _STRING * (n + 1)].split(b"\0", 1)[0].decode("ascii", "replace").strip()
            for n in range(count)
        ]

    def counters(self, link: str, count: int) -> list[int]:
        """The driver's counters; ``count`` as many as it has names.

        The driver writes as many as it has: the buffer has room for more, in case channels are added between the two requests.
        """
        answer = self._ask(link, _buffer(struct.pack("=II", _GSTATS, count), 8 + 8 * max(4 * count, 4096)))
        given = min(struct.unpack_from("=I", answer, 4)[0], count)
        return list(struct.unpack_from(f"={given}Q", answer, 8))


def _buffer(head: bytes, size: int) -> array.array[int]:
    """A byte buffer at a fixed address that starts with ``head``."""
    return array.array("B", head + bytes(max(0, size - len(head))))
