# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""The DNS message, as far as a diagnosis needs it: one question out, one answer in. Nothing of an answer is trusted.

Sources: RFC 1035, RFC 3596, RFC 5452 (what must match before an answer is believed).
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from dataclasses import dataclass, field

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "TXT": 16, "AAAA": 28, "SRV": 33}
_NAMES = {number: name for name, number in TYPES.items()}
RCODES = {0: "ok", 2: "servfail", 3: "nxdomain", 5: "refused"}
#: An answer of more records is cut; a name of more pointers is no name.
MAX_RECORDS, MAX_POINTERS = 256, 32


class BadAnswer(ValueError):
    """What came is no answer to the question; the message says why."""


class Unaskable(ValueError):
    """The name cannot be written as a DNS name."""


@dataclass
class Answer:
    """status: ok, nxdomain, servfail, refused, timeout, unreachable or wrong (malformed, or no answer to what was asked).

    answers: addresses, or names for other types, in the order given; aliases: names followed on the way. ms: until the answer.
    detail: one line more, where there is one.
    """

    status: str
    answers: list[str] = field(default_factory=list)
    aliases: list[str] = field(default_factory=list)
    ms: float | None = None
    detail: str = ""
    truncated: bool = False


def encode_name(name: str) -> bytes:
    """A name in wire form; ``.`` is the root. Raises Unaskable."""
    out = b""
    text = name.rstrip(".")
    for label in text.split(".") if text else ():
        try:
            raw = label.encode("ascii") if label.isascii() else label.encode("idna")
        except UnicodeError:
            raise Unaskable(f"{name!r} is no DNS name") from None
        if not 1 <= len(raw) <= 63:
            raise Unaskable(f"{name!r}: a label has 1 to 63 characters")
        out += bytes((len(raw),)) + raw
    if len(out) > 254:
        raise Unaskable(f"{name[:60]!r}…: a name has at most 253 characters")
    return out + b"\0"


def question(name: str, kind: str, number: int) -> bytes:
    """A question with recursion desired; number: the random 16-bit id an answer must repeat."""
    return struct.pack("!HHHHHH", number, 0x0100, 1, 0, 0, 0) + encode_name(name) + struct.pack("!HH", TYPES[kind], 1)


def read_name(data: bytes, offset: int) -> tuple[str, int]:
    """(name, offset behind it). Raises BadAnswer for a name that is cut or runs in a circle."""
    labels: list[str] = []
    behind = None
    pointers = size = 0
    while True:
        if offset >= len(data):
            raise BadAnswer("a name is cut")
        length = data[offset]
        if length & 0xC0 == 0xC0:
            if offset + 2 > len(data):
                raise BadAnswer("a name is cut")
            pointers += 1
            if pointers > MAX_POINTERS:
                raise BadAnswer("a name runs in a circle")
            if behind is None:
                behind = offset + 2
            offset = (length & 0x3F) << 8 | data[offset + 1]
            continue
        if length & 0xC0:
            raise BadAnswer("a label of an unknown kind")
        offset += 1
        if length == 0:
            return ".".join(labels) or ".", offset if behind is None else behind
        if offset + length > len(data):
            raise BadAnswer("a name is cut")
        size += length + 1
        if size > 255:
            raise BadAnswer("a name is too long")
        labels.append(data[offset : offset + length].decode("ascii", "backslashreplace"))
        offset += length


def read_answer(data: bytes, name: str, kind: str, number: int) -> Answer:
    """Check an answer against its question and read it. Raises BadAnswer."""
    if len(data) < 12:
        raise BadAnswer("shorter than a header")
    got, flags, questions, count, _authority, _additional = struct.unpack_from("!HHHHHH", data)
    if got != number:
        raise BadAnswer("the id is not the question's")
    if not flags & 0x8000:
        raise BadAnswer("a question, not an answer")
    code = flags & 0xF
    truncated = bool(flags & 0x0200)
    offset = 12
    if questions == 1:
        asked, offset = read_name(data, offset)
        if offset + 4 > len(data):
            raise BadAnswer("the question is cut")
        if (struct.unpack_from("!HH", data, offset)) != (TYPES[kind], 1) or asked.lower() != _canonical(name):
            raise BadAnswer("the answer is to another question")
        offset += 4
    elif questions or code in (0, 3):
        # A server that refuses may leave the question out.
        raise BadAnswer(f"{questions} questions in the answer")
    status = RCODES.get(code)
    if status is None:
        return Answer("servfail", detail=f"response code {code}")
    answer = Answer(status, truncated=truncated)
    try:
        _records(answer, data, offset, min(count, MAX_RECORDS), kind)
    except BadAnswer:
        if not truncated:
            raise
    return answer


def _records(answer: Answer, data: bytes, offset: int, count: int, kind: str) -> None:
    for _number in range(count):
        _owner, offset = read_name(data, offset)
        if offset + 10 > len(data):
            raise BadAnswer("a record is cut")
        record, space, _ttl, length = struct.unpack_from("!HHIH", data, offset)
        offset += 10
        if offset + length > len(data):
            raise BadAnswer("a record is cut")
        body = data[offset : offset + length]
        if space == 1 and _NAMES.get(record) == "CNAME" and kind != "CNAME":
            answer.aliases.append(read_name(data, offset)[0])
        elif space == 1 and _NAMES.get(record) == kind:
            answer.answers.append(_value(kind, body, data, offset))
        offset += length


def _value(kind: str, body: bytes, data: bytes, offset: int) -> str:
    if kind in ("A", "AAAA"):
        if len(body) != (4 if kind == "A" else 16):
            raise BadAnswer(f"an address of {len(body)} bytes")
        return socket.inet_ntop(socket.AF_INET if kind == "A" else socket.AF_INET6, body)
    if kind in ("NS", "CNAME", "PTR"):
        return read_name(data, offset)[0]
    if kind == "SRV" and len(body) > 6:
        priority, weight, port = struct.unpack_from("!HHH", body)
        return f"{priority} {weight} {port} {read_name(data, offset + 6)[0]}"
    return body.hex()


def _canonical(name: str) -> str:
    return read_name(encode_name(name), 0)[0].lower()


def ask(server: str, name: str, kind: str, seconds: float, port: int = 53) -> Answer:
    """Ask one server once by UDP, and by TCP when the answer did not fit. Never raises for what a server can do.

    server: an IP address, of a link-local one with ``%link``. Only answers from that address and port, with the id of the
    question and the question itself, are believed; others are waited past, and reported as ``wrong`` when none better comes.
    """
    started = time.monotonic()
    deadline = started + seconds
    try:
        number = int.from_bytes(os.urandom(2), "big")
        message = question(name, kind, number)
        answer = _udp(server, port, message, name, kind, number, deadline)
        if answer.truncated and answer.status == "ok":
            answer = _tcp(server, port, message, name, kind, number, deadline)
    except Unaskable as error:
        return Answer("wrong", detail=str(error))
    except (TimeoutError, socket.timeout):
        return Answer("timeout", ms=None)
    except BadAnswer as error:
        answer = Answer("wrong", detail=str(error))
    except OSError as error:
        return Answer("unreachable", ms=_since(started), detail=(error.strerror or str(error)).lower())
    answer.ms = _since(started)
    return answer


def _since(started: float) -> float:
    return round((time.monotonic() - started) * 1000, 1)


def _open(server: str, port: int, kind: int) -> tuple[socket.socket, tuple[object, ...]]:
    host, _percent, link = server.partition("%")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    where: tuple[object, ...] = (host, port)
    if family == socket.AF_INET6:
        where = (host, port, 0, socket.if_nametoindex(link) if link else 0)
    return socket.socket(family, kind | socket.SOCK_CLOEXEC), where


def _udp(server: str, port: int, message: bytes, name: str, kind: str, number: int, deadline: float) -> Answer:
    sock, where = _open(server, port, socket.SOCK_DGRAM)
    wrong: BadAnswer | None = None
    with sock:
        # Connected: the kernel takes datagrams of this server only, from a random port, and reports an ICMP refusal.
        sock.connect(where)
        sock.send(message)
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([sock], [], [], left)[0]:
                if wrong is not None:
                    raise wrong
                raise TimeoutError
            try:
                return read_answer(sock.recv(65535), name, kind, number)
            except BadAnswer as error:
                wrong = error


def _tcp(server: str, port: int, message: bytes, name: str, kind: str, number: int, deadline: float) -> Answer:
    sock, where = _open(server, port, socket.SOCK_STREAM)
    with sock:
        sock.settimeout(max(0.01, deadline - time.monotonic()))
        sock.connect(where)
        sock.sendall(struct.pack("!H", len(message)) + message)
        size = struct.unpack("!H", _exactly(sock, 2, deadline))[0]
        return read_answer(_exactly(sock, size, deadline), name, kind, number)


def _exactly(sock: socket.socket, count: int, deadline: float) -> bytes:
    data = b""
    while len(data) < count:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        sock.settimeout(left)
        part = sock.recv(count - len(data))
        if not part:
            raise BadAnswer("the connection ended within the answer")
        data += part
    return data
