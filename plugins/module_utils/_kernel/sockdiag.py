# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Sockets from the kernel: sock_diag where it is there already, else the tables of /proc/net. One by one, nothing held.

Sources: sock_diag(7); include/uapi/linux/{inet_diag,sock_diag}.h; proc(5)
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterator
from typing import NamedTuple, Optional

from ansible_collections.netops.fleet.plugins.module_utils._kernel import modules, netlink, procfs

TCP, UDP = 6, 17
LISTEN, SYN_SENT, UDP_UNCONNECTED = 10, 2, 7
ALL_STATES = 0xFFF

#: As ``ss`` and netstat(8) name them, by number.
STATES = {
    1: "ESTABLISHED", 2: "SYN_SENT", 3: "SYN_RECV", 4: "FIN_WAIT1", 5: "FIN_WAIT2", 6: "TIME_WAIT", 7: "CLOSE",
    8: "CLOSE_WAIT", 9: "LAST_ACK", 10: "LISTEN", 11: "CLOSING", 12: "SYN_RECV",
}  # fmt: skip

_BY_FAMILY = 20
_REQUEST = struct.Struct("=BBBxI48s")
_HEAD = struct.Struct("=BBBB")
_PORTS = struct.Struct(">HH")
_TAIL = struct.Struct("=IIIII")
_HEAD_PORTS = struct.Struct(">xBxxHH")
_MESSAGE = 72
_EXT_SKMEMINFO, _SKMEMINFO_DROPS = 7, 8
_ATTR_SKV6ONLY, _ATTR_CGROUP = 11, 21


class Entry(NamedTuple):
    """A socket. queue: bytes waiting to be read; of a TCP listener, connections waiting to be accepted.

    backlog: of a TCP listener, how many may wait; bytes being sent otherwise; None from /proc. v6only, drops: None when not told.
    drops: packets dropped at this socket since it was made.
    """

    family: int
    state: int
    address: str
    port: int
    remote: str
    remote_port: int
    queue: int
    backlog: Optional[int]
    uid: int
    inode: int
    v6only: Optional[bool]
    drops: Optional[int]


def usable(protocol: int) -> bool:
    """May sock_diag be asked about this protocol without loading a module?"""
    name = "tcp_diag" if protocol == TCP else "udp_diag"
    return modules.present("inet_diag") is True and modules.present(name) is True


def _request(family: int, protocol: int, states: int, drops: bool) -> bytes:
    extension = 1 << (_EXT_SKMEMINFO - 1) if drops else 0
    return _REQUEST.pack(family, protocol, extension, states, b"")


def entries(sock: netlink.Socket, family: int, protocol: int, states: int = ALL_STATES, drops: bool = False) -> Iterator[Entry]:
    """Sockets of one family and protocol in the given states (a bit per state number). Raises NetlinkError."""
    size = 4 if family == socket.AF_INET else 16
    for _kind, body in sock.dump_stream(_BY_FAMILY, _request(family, protocol, states, drops)):
        if len(body) < _MESSAGE:
            continue
        _family, state, _timer, _retransmits = _HEAD.unpack_from(body)
        port, remote_port = _PORTS.unpack_from(body, 4)
        _expires, queue, backlog, uid, inode = _TAIL.unpack_from(body, 52)
        v6only, lost = None, None
        if len(body) > _MESSAGE:
            found = netlink.attributes(body, _MESSAGE)
            if _ATTR_SKV6ONLY in found:
                v6only = bool(netlink.number(found[_ATTR_SKV6ONLY]))
            memory = found.get(_EXT_SKMEMINFO, b"")
            if len(memory) >= 4 * (_SKMEMINFO_DROPS + 1):
                lost = struct.unpack_from("=I", memory, 4 * _SKMEMINFO_DROPS)[0]
        yield Entry(
            family,
            state,
            socket.inet_ntop(family, body[8 : 8 + size]),
            port,
            socket.inet_ntop(family, body[24 : 24 + size]),
            remote_port,
            queue,
            backlog,
            uid,
            inode,
            v6only,
            lost,
        )


def cgroups(sock: netlink.Socket, family: int, protocol: int, states: int) -> Iterator[tuple[int, int | None]]:
    """(local port, id of the cgroup the socket was made in) of each socket; None from a kernel that does not tell (5.8 does)."""
    for _kind, body in sock.dump_stream(_BY_FAMILY, _request(family, protocol, states, False)):
        if len(body) >= _MESSAGE:
            found = netlink.attributes(body, _MESSAGE).get(_ATTR_CGROUP)
            yield _PORTS.unpack_from(body, 4)[0], int.from_bytes(found, sys.byteorder) if found else None


def states_and_ports(sock: netlink.Socket, family: int, states: int) -> Iterator[tuple[int, int, int, bytes]]:
    """TCP only, for hosts with very many sockets: (state, local port, remote port, the raw message)."""
    unpack = _HEAD_PORTS.unpack_from
    for _kind, body in sock.dump_stream(_BY_FAMILY, _request(family, TCP, states, False)):
        if len(body) >= _MESSAGE:
            state, port, remote_port = unpack(body)
            yield state, port, remote_port, body


def remote_of(family: int, body: bytes) -> str:
    """The remote address in a raw message."""
    return socket.inet_ntop(family, body[24 : 28 if family == socket.AF_INET else 40])


def proc_entries(family: int, protocol: int) -> Iterator[Entry]:
    """The same from /proc/net/{tcp,tcp6,udp,udp6}. Raises OSError when the file cannot be read."""
    name = ("tcp" if protocol == TCP else "udp") + ("" if family == socket.AF_INET else "6")
    with open(f"/proc/net/{name}", encoding="ascii", errors="replace") as lines:
        next(lines, None)
        for line in lines:
            entry = proc_line(line, family, protocol)
            if entry is not None:
                yield entry


def proc_line(line: str, family: int, protocol: int) -> Entry | None:
    """One line of such a file; None when it is cut or damaged."""
    words = line.split()
    try:
        address, port = _endpoint(words[1], family)
        remote, remote_port = _endpoint(words[2], family)
        _sent, _colon, waiting = words[4].partition(":")
        state = int(words[3], 16)
        drops = int(words[12]) if protocol == UDP and len(words) > 12 else None
        return Entry(
            family,
            state,
            address,
            port,
            remote,
            remote_port,
            int(waiting, 16),
            None,
            int(words[7]),
            int(words[9]),
            None,
            drops,
        )
    except (IndexError, ValueError):
        return None


def _endpoint(word: str, family: int) -> tuple[str, int]:
    """``0100007F:0050``: 32-bit words in machine order, then the port in hexadecimal."""
    packed, colon, port = word.partition(":")
    count = 1 if family == socket.AF_INET else 4
    if not colon or len(packed) != 8 * count:
        raise ValueError(word)
    raw = struct.pack(f"={count}I", *(int(packed[8 * n : 8 * n + 8], 16) for n in range(count)))
    return socket.inet_ntop(family, raw), int(port, 16)


def families() -> list[int]:
    return [socket.AF_INET, socket.AF_INET6] if procfs.has_ipv6() else [socket.AF_INET]
