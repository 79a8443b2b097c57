# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""What an X.509 certificate says of itself, as far as a diagnosis needs it. Nothing is verified here, and nothing is trusted.

Python's library decodes a certificate only after it was verified; a diagnosis is asked about those that were not.
Sources: RFC 5280, X.690 (DER)
"""

from __future__ import annotations

import datetime
import socket
from dataclasses import dataclass, field

_NAMES = {
    b"\x55\x04\x03": "CN", b"\x55\x04\x06": "C", b"\x55\x04\x07": "L", b"\x55\x04\x08": "ST", b"\x55\x04\x0a": "O",
    b"\x55\x04\x0b": "OU",
}  # fmt: skip
_SUBJECT_ALT_NAME = b"\x55\x1d\x11"
_DNS, _IP = 0x82, 0x87


class BadCertificate(ValueError):
    """These bytes are no certificate; the message says where reading ended."""


@dataclass
class Certificate:
    """names: DNS names and addresses it is for. before, after: unix seconds between which it is valid."""

    subject: str
    issuer: str
    before: float
    after: float
    names: list[str] = field(default_factory=list)
    self_issued: bool = False


def read(data: bytes) -> Certificate:
    """Raises BadCertificate."""
    try:
        outer = _sequence(data, 0)[0]
        body = _sequence(outer, 0)[0]
        offset = 0
        if body[:1] == b"\xa0":  # version
            offset = _item(body, 0)[2]
        for _field in ("serial number", "signature algorithm"):
            offset = _item(body, offset)[2]
        _tag, issuer, offset = _item(body, offset)
        validity, offset = _sequence(body, offset)
        _tag, subject, offset = _item(body, offset)
        found = Certificate(_name(subject), _name(issuer), *_validity(validity), self_issued=issuer == subject)
        while offset < len(body):
            tag, content, offset = _item(body, offset)
            if tag == 0xA3:  # extensions
                found.names = _alternatives(_sequence(content, 0)[0])
        return found
    except (IndexError, ValueError) as error:
        raise BadCertificate(f"no certificate: {error}") from None


def _item(data: bytes, offset: int) -> tuple[int, bytes, int]:
    """(tag, content, offset behind it) of the DER item at ``offset``."""
    tag, length = data[offset], data[offset + 1]
    offset += 2
    if length & 0x80:
        count = length & 0x7F
        if not 1 <= count <= 4:
            raise ValueError(f"a length of {count} bytes at {offset}")
        length = int.from_bytes(data[offset : offset + count], "big")
        offset += count
    if offset + length > len(data):
        raise ValueError(f"an item of {length} bytes is cut at {offset}")
    return tag, data[offset : offset + length], offset + length


def _sequence(data: bytes, offset: int) -> tuple[bytes, int]:
    tag, content, behind = _item(data, offset)
    if tag != 0x30:
        raise ValueError(f"no sequence at {offset}")
    return content, behind


def _name(content: bytes) -> str:
    """A name as one line, the most telling part first: ``CN=model.example, O=Example``."""
    parts = []
    offset = 0
    while offset < len(content):
        _tag, group, offset = _item(content, offset)
        pair = _sequence(group, 0)[0]
        _tag, kind, behind = _item(pair, 0)
        tag, value, _behind = _item(pair, behind)
        text = value.decode("utf-16-be" if tag == 0x1E else "utf-8", "replace")
        if kind in _NAMES:
            parts.append((_NAMES[kind], "".join(one if one.isprintable() else "?" for one in text)[:200]))
    return ", ".join(f"{kind}={text}" for kind, text in sorted(parts, key=lambda part: part[0] != "CN"))


def _validity(content: bytes) -> tuple[float, float]:
    tag, before, offset = _item(content, 0)
    first = _time(tag, before)
    tag, after, _offset = _item(content, offset)
    return first, _time(tag, after)


def _time(tag: int, content: bytes) -> float:
    text = content.decode("ascii")
    if tag == 0x17:  # UTCTime: two digits of the year, from 1950 to 2049
        text = ("19" if text[:2] >= "50" else "20") + text
    moment = datetime.datetime.strptime(text, "%Y%m%d%H%M%SZ")
    return moment.replace(tzinfo=datetime.timezone.utc).timestamp()


def _alternatives(extensions: bytes) -> list[str]:
    names = []
    offset = 0
    while offset < len(extensions):
        extension, offset = _sequence(extensions, offset)
        _tag, kind, behind = _item(extension, 0)
        if kind != _SUBJECT_ALT_NAME:
            continue
        tag, value, behind = _item(extension, behind)
        if tag == 0x01:  # critical
            tag, value, behind = _item(extension, behind)
        entries, at = _sequence(value, 0)[0], 0
        while at < len(entries):
            tag, content, at = _item(entries, at)
            if tag == _DNS:
                names.append(content.decode("ascii", "replace")[:255])
            elif tag == _IP and len(content) in (4, 16):
                names.append(socket.inet_ntop(socket.AF_INET if len(content) == 4 else socket.AF_INET6, content))
    return names
