# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Talk netlink: one request, all its answers, attributes in and out. Nothing here knows what a message means.

Sources: netlink(7), rtnetlink(7), include/uapi/linux/netlink.h. All numbers are in the machine's byte order, as the kernel
wants them; payloads that are in network order say so where they are read.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Iterator
from typing import Union

ROUTE, SOCK_DIAG, NETFILTER, GENERIC = 0, 4, 12, 16

NLM_F_REQUEST, NLM_F_MULTI, NLM_F_ACK, NLM_F_DUMP_INTR, NLM_F_DUMP_FILTERED = 0x1, 0x2, 0x4, 0x10, 0x20
NLM_F_ROOT, NLM_F_MATCH = 0x100, 0x200
NLM_F_DUMP = NLM_F_ROOT | NLM_F_MATCH
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x100, 0x200, 0x400, 0x800

NLMSG_NOOP, NLMSG_ERROR, NLMSG_DONE, NLMSG_OVERRUN = 1, 2, 3, 4
_NLA_TYPE_MASK = 0x3FFF
NLA_F_NESTED = 0x8000
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_NUMBER = struct.Struct("=I")

_SOL_NETLINK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK = 270, 11, 12
_NLMSGERR_ATTR_MSG = 1
_NLM_F_CAPPED, _NLM_F_ACK_TLVS = 0x100, 0x200

AttributeValue = Union[bytes, int, str, "list[tuple[int, AttributeValue]]"]

#: Requests in one system call: their acknowledgements must fit the receive buffer of a host with small limits.
_TOGETHER = 64


class NetlinkError(OSError):
    """The kernel refused. errno says how; the kernel's own words are in strerror when it gave some."""


class Interrupted(NetlinkError):
    """The table changed during every attempt at a dump; what was read may miss or repeat entries."""


class Socket:
    """A netlink socket of one protocol. Use as a context manager.

    timeout: seconds to wait for each answer; a kernel that does not answer raises NetlinkError(ETIMEDOUT).
    """

    def __init__(self, protocol: int, timeout: float = 5.0) -> None:
        self._sequence = 1
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.settimeout(timeout)
        for option in (_NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK):
            try:
                self._socket.setsockopt(_SOL_NETLINK, option, 1)
            except OSError:
                pass  # kernels before 4.12 and 4.20; requests are written so that they do without
        # A larger receive buffer lets the kernel answer a dump in fewer, larger pieces.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.bind((0, 0))
        self._buffer = bytearray(1 << 18)

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *_unused: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def lenient(self) -> None:
        """Turn the kernel's strict checking of dump requests off, for requests whose header it would refuse."""
        try:
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 0)
        except OSError:
            pass

    def dump(self, kind: int, payload: bytes, attempts: int = 3) -> list[tuple[int, bytes]]:
        """All answers to a dump request as (message type, payload). Read again when the table changed meanwhile.

        Raises Interrupted when it changed during every attempt, NetlinkError when the kernel refuses.
        """
        for _attempt in range(attempts):
            try:
                return list(self._exchange(kind, NLM_F_REQUEST | NLM_F_DUMP, payload))
            except Interrupted:
                continue
        raise Interrupted(4, "the table changed during every attempt to read it")

    def dump_stream(self, kind: int, payload: bytes) -> Iterator[tuple[int, bytes]]:
        """As dump, but one by one and without a second attempt: for tables too large to hold."""
        return self._exchange(kind, NLM_F_REQUEST | NLM_F_DUMP, payload)

    def get(self, kind: int, payload: bytes, flags: int = 0) -> list[tuple[int, bytes]]:
        """The answers to a single request; waits for the acknowledgement."""
        return list(self._exchange(kind, NLM_F_REQUEST | NLM_F_ACK | flags, payload))

    def send_all(self, kind: int, payloads: list[bytes]) -> list[NetlinkError | None]:
        """Send requests in order, many in one system call; for each None where the kernel did it, else why it did not.

        A request that is refused does not keep the kernel from those behind it. Raises NetlinkError when an answer is missing.
        """
        told = self._all(kind, NLM_F_REQUEST | NLM_F_ACK, payloads)
        return [one if isinstance(one, NetlinkError) else None for one in told]

    def get_all(self, kind: int, payloads: list[bytes]) -> list[bytes | NetlinkError]:
        """As send_all, for requests that have one answer each: its payload, or why there is none."""
        return self._all(kind, NLM_F_REQUEST, payloads)

    def _all(self, kind: int, flags: int, payloads: list[bytes]) -> list[bytes | NetlinkError]:
        found: list[bytes | NetlinkError] = []
        for start in range(0, len(payloads), _TOGETHER):
            found += self._together(kind, flags, payloads[start : start + _TOGETHER])
        return found

    def _together(self, kind: int, flags: int, payloads: list[bytes]) -> list[bytes | NetlinkError]:
        """For each request the payload of what ends it, which is an empty one for an acknowledgement, or the error."""
        first = self._sequence + 1
        self._sequence += len(payloads)
        parts = []
        for sequence, payload in enumerate(payloads, first):
            parts.append(_HEADER.pack(_HEADER.size + len(payload), kind, flags, sequence, 0) + payload)
            parts.append(bytes(-len(payload) % 4))
        self._socket.send(b"".join(parts))
        found: dict[int, bytes | NetlinkError] = {}
        while len(found) < len(payloads):
            try:
                size, _ancillary, _flags, address = self._receive()
            except (TimeoutError, socket.timeout):
                raise NetlinkError(110, "the kernel gave no answer in time") from None
            if address[0] != 0:
                continue  # not from the kernel
            for kind_in, flags_in, sequence, body in _messages(bytes(self._buffer[:size])):
                if not first <= sequence < first + len(payloads):
                    continue
                if kind_in == NLMSG_ERROR:
                    try:
                        _raise(flags_in, body)
                        found[sequence] = b""
                    except NetlinkError as error:
                        found[sequence] = error
                elif not flags & NLM_F_ACK and kind_in != NLMSG_NOOP:
                    found[sequence] = body
        return [found[sequence] for sequence in sorted(found)]

    def _exchange(self, kind: int, flags: int, payload: bytes) -> Iterator[tuple[int, bytes]]:
        self._sequence += 1
        sequence = self._sequence
        message = _HEADER.pack(_HEADER.size + len(payload), kind, flags, sequence, 0) + payload
        self._socket.send(message)
        interrupted = False
        while True:
            try:
                size, ancillary, message_flags, address = self._receive()
            except (TimeoutError, socket.timeout):
                raise NetlinkError(110, "the kernel gave no answer in time") from None
            del ancillary
            if address[0] != 0:
                continue  # not from the kernel
            if message_flags & socket.MSG_TRUNC:
                raise NetlinkError(90, f"an answer is larger than {len(self._buffer)} bytes")
            for kind_in, flags_in, sequence_in, body in _messages(bytes(self._buffer[:size])):
                if sequence_in != sequence:
                    continue
                interrupted = interrupted or bool(flags_in & NLM_F_DUMP_INTR)
                if kind_in == NLMSG_ERROR:
                    _raise(flags_in, body)
                    return
                if kind_in == NLMSG_DONE:
                    if len(body) >= 4:
                        code = struct.unpack_from("=i", body)[0]
                        if code < 0:
                            raise NetlinkError(-code, os.strerror(-code))
                    if interrupted:
                        raise Interrupted(4, "the table changed while it was read")
                    return
                if kind_in != NLMSG_NOOP:
                    yield kind_in, body

    def _receive(self) -> tuple[int, list[object], int, tuple[int, int]]:
        size, ancillary, flags, address = self._socket.recvmsg_into([self._buffer])
        return size, list(ancillary), flags, address


def _messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """(type, flags, sequence, payload) of every message in one datagram; a damaged rest is left alone."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, sequence, _port = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size or offset + length > len(data):
            return
        yield kind, flags, sequence, data[offset + _HEADER.size : offset + length]
        offset += (length + 3) & ~3


def _raise(flags: int, body: bytes) -> None:
    """Raise for an error message; return for an acknowledgement."""
    code = struct.unpack_from("=i", body)[0]
    if code == 0:
        return
    text = os.strerror(-code)
    if flags & _NLM_F_ACK_TLVS and len(body) >= 4 + _HEADER.size:
        # With the capped flag only the header of the refused request is repeated, else all of it.
        length = _HEADER.size if flags & _NLM_F_CAPPED else struct.unpack_from("=I", body, 4)[0]
        words = attributes(body, 4 + ((length + 3) & ~3)).get(_NLMSGERR_ATTR_MSG)
        if words:
            text = f"{text} ({text_of(words)})"
    raise NetlinkError(-code, text)


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """Attributes by type; of a repeated one the last. Truncated data gives what was whole."""
    return dict(_attributes(data, offset))


def attribute_list(data: bytes, offset: int = 0) -> list[tuple[int, bytes]]:
    """(type, payload) of every attribute, in order; flag bits removed from the type."""
    return list(_attributes(data, offset))


def _attributes(data: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    end, unpack = len(data) - 4, _ATTRIBUTE.unpack_from
    while offset <= end:
        length, kind = unpack(data, offset)
        if length < 4 or offset + length > end + 4:
            return
        yield kind & _NLA_TYPE_MASK, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def pack(pairs: list[tuple[int, AttributeValue]]) -> bytes:
    """Attributes as bytes. int: 32 bits, machine order; str: with a closing NUL; list: nested; bytes: as they are."""
    out = bytearray()
    for kind, value in pairs:
        if isinstance(value, list):
            kind, body = kind | NLA_F_NESTED, pack(value)
        elif isinstance(value, int):
            body = _NUMBER.pack(value)
        elif isinstance(value, str):
            body = value.encode("utf-8") + b"\0"
        else:
            body = value
        out += _ATTRIBUTE.pack(len(body) + 4, kind) + body
        out += b"\0" * (-len(body) % 4)
    return bytes(out)


def text_of(data: bytes) -> str:
    """A C string of the kernel; bytes that are no UTF-8 are replaced, never trusted."""
    return data.split(b"\0", 1)[0].decode("utf-8", "replace")


def number(data: bytes | None, default: int = 0) -> int:
    """An unsigned number of 1, 2, 4 or 8 bytes in machine order; ``default`` for None or another length."""
    return int.from_bytes(data, sys.byteorder) if data is not None and len(data) in (1, 2, 4, 8) else default


def generic_family(sock: Socket, name: str) -> int:
    """The number of a generic netlink family; raises NetlinkError(ENOENT) when the kernel has none of that name.

    Asking makes some kernels load ``net-pf-16-proto-16-family-NAME``: check that the feature is there first.
    """
    ctrl_cmd_getfamily, ctrl_attr_family_id, ctrl_attr_family_name, genl_id_ctrl = 3, 1, 2, 16
    payload = struct.pack("=BBH", ctrl_cmd_getfamily, 1, 0) + pack([(ctrl_attr_family_name, name)])
    for _kind, body in sock.get(genl_id_ctrl, payload):
        found = attributes(body, 4).get(ctrl_attr_family_id)
        if found is not None:
            return number(found)
    raise NetlinkError(2, f"generic netlink family {name} is not there")
