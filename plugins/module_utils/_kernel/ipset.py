# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""ipsets over netlink: read one, build one aside, put it in place of another. Needs no tool, and no text is parsed.

An entry is a *record*: the kernel's own DATA attribute, header included, as an addition takes it. So what is read can be written
again. Source: include/uapi/linux/netfilter/ipset/ip_set.h; numbers in attributes
are in network order.

Only reading functions are safe without asking _kernel/modules first; making a set loads what it needs.
"""

from __future__ import annotations

import errno
import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from ansible_collections.netops.fleet.plugins.module_utils._kernel import netlink

_SUBSYSTEM = 6 << 8
_HEAD = struct.pack("=BBH", 2, 0, 0)
_CREATE, _DESTROY, _RENAME, _SWAP, _LIST, _ADD, _TYPE = 2, 3, 5, 6, 7, 9, 13
_SETNAME, _TYPENAME, _REVISION, _FAMILY, _FLAGS, _DATA, _ADT, _LINENO = 2, 3, 4, 5, 6, 7, 8, 9
_LIST_HEADER = 4
# Attributes of an entry.
IP, CIDR, PORT, TIMEOUT, PROTO, FLAGS, BYTES, PACKETS, COMMENT = 1, 3, 4, 6, 7, 8, 24, 25, 26
# Attributes of a set. PORT and PORT_TO, TIMEOUT and FLAGS are shared with entries.
PORT_TO, HASHSIZE, MAXELEM, _ELEMENTS, _REFERENCES, _MEMSIZE = 5, 18, 19, 24, 25, 26
NOMATCH, WITH_COUNTERS, WITH_COMMENT = 4, 8, 16
#: What changes by itself while a set is in use.
_MOVING = frozenset((TIMEOUT, BYTES, PACKETS))
_NET = 0x4000
_MOVING_HEADS = [struct.pack("=HH", 4 + size, kind | _NET) for kind, size in ((TIMEOUT, 4), (BYTES, 8), (PACKETS, 8))]
_PROTOCOL = (1, b"\x07")
#: Bytes of entries in one request; an attribute's length has 16 bits.
_REQUEST = 60000
#: A set's name has at most so many characters.
MAX_NAME = 31

_WORDS = {
    4099: "no room for another set",
    4100: "the set is in use",
    4101: "a set of the new name exists",
    4102: "sets of different type or family cannot be swapped",
    4103: "the entry is there twice",
    4104: "a prefix length the set cannot hold",
    4106: "another address family than the set's",
    4108: "a rule or another set refers to it",
    4352: "the set is full",
    4353: "an entry that this type cannot hold (such as 0.0.0.0)",
}


@dataclass(frozen=True)
class Entries:
    """Records, joined: a million of them are never a million objects. size: the length that all have, 0 when they differ."""

    data: bytes = b""
    size: int = 0

    @classmethod
    def of(cls, data: bytes) -> Entries:
        return cls(data, _size(data))

    def __len__(self) -> int:
        return len(self.data) // self.size if self.size else sum(1 for _one in self)

    def __iter__(self) -> Iterator[bytes]:
        at = 0
        while at + 4 <= len(self.data):
            length = self.size or (struct.unpack_from("=H", self.data, at)[0] + 3) & ~3
            if length < 4 or at + length > len(self.data):
                break
            yield self.data[at : at + length]
            at += length

    def blocks(self) -> Iterator[bytes]:
        """As many records at a time as one request holds."""
        if self.size:
            step = _REQUEST // self.size * self.size
            for at in range(0, len(self.data), step):
                yield self.data[at : at + step]
            return
        block = bytearray()
        for one in self:
            if len(block) + len(one) > _REQUEST:
                yield bytes(block)
                block.clear()
            block += one
        if block:
            yield bytes(block)

    def addresses(self, width: int) -> bytes | None:
        """The addresses, ``width`` bytes each, of records that are an address and nothing else; None when one says more."""
        form = _form(width)
        if self.size != len(form) or not _alike(self.data, self.size, range(4, len(form) - width), form):
            return None
        packed = bytearray(width * len(self))
        for offset in range(width):
            packed[offset::width] = self.data[self.size - width + offset :: self.size]
        return bytes(packed)


class SetError(OSError):
    """The kernel refused; strerror says why, in words."""


@dataclass
class Header:
    """One set without its entries. family: 2 (IPv4), 10 (IPv6) or 0. create: what it was made with, as attributes.

    entries, references: None on kernels that do not say.
    """

    name: str
    type: str
    revision: int
    family: int
    create: list[tuple[int, bytes]] = field(default_factory=list)
    entries: int | None = None
    references: int | None = None

    def number(self, kind: int) -> int | None:
        """A number it was made with: HASHSIZE, MAXELEM, TIMEOUT, FLAGS."""
        found = [value for one, value in self.create if one == kind]
        return int.from_bytes(found[0], "big") if found else None

    @property
    def flags(self) -> int:
        return self.number(FLAGS) or 0


class Sets:
    """The ipsets of the current network namespace. Every method raises SetError or OSError."""

    def __init__(self, timeout: float = 60.0) -> None:
        self._socket = netlink.Socket(netlink.NETFILTER, timeout)
        self._socket.lenient()

    def __enter__(self) -> Sets:
        return self

    def __exit__(self, *_unused: object) -> None:
        self._socket.close()

    def _ask(self, command: int, pairs: list[tuple[int, netlink.AttributeValue]], flags: int = 0) -> list[tuple[int, bytes]]:
        try:
            return self._socket.get(_SUBSYSTEM | command, _HEAD + netlink.pack([_PROTOCOL, *pairs]), flags)
        except netlink.NetlinkError as error:
            raise _error(error) from None

    def header(self, name: str) -> Header | None:
        """None when there is no such set."""
        pairs: list[tuple[int, netlink.AttributeValue]] = [_PROTOCOL, (_SETNAME, name), (_FLAGS | _NET, _number(_LIST_HEADER))]
        try:
            for _kind, body in self._socket.dump(_SUBSYSTEM | _LIST, _HEAD + netlink.pack(pairs)):
                return _header(netlink.attributes(body, 4))
        except netlink.NetlinkError as error:
            if error.errno == errno.ENOENT:
                return None
            raise _error(error) from None
        return None

    def read(self, name: str) -> tuple[Header, Entries] | None:
        """Header and records, counters and remaining timeouts as they are now. None when there is no such set."""
        header: Header | None = None
        pieces = []
        try:
            for _kind, body in self._socket.dump_stream(_SUBSYSTEM | _LIST, _HEAD + netlink.pack([_PROTOCOL, (_SETNAME, name)])):
                told = netlink.attributes(body, 4)
                header = header or _header(told)
                pieces.append(told.get(_ADT, b""))
        except netlink.NetlinkError as error:
            if error.errno == errno.ENOENT:
                return None
            raise _error(error) from None
        return None if header is None else (header, _writable(b"".join(pieces)))

    def revision(self, kind: str, family: int) -> int:
        """The newest revision of a type that this kernel has. It loads the type's module."""
        for _kind, body in self._ask(_TYPE, [(_TYPENAME, kind), (_FAMILY, bytes([family]))]):
            found = netlink.attributes(body, 4).get(_REVISION)
            if found:
                return found[0]
        raise SetError(errno.EOPNOTSUPP, f"this kernel has no sets of type {kind}")

    def create(self, header: Header) -> None:
        """Make an empty set of this name."""
        create: list[tuple[int, netlink.AttributeValue]] = [(kind | _NET, value) for kind, value in header.create]
        self._ask(
            _CREATE,
            [
                (_SETNAME, header.name),
                (_TYPENAME, header.type),
                (_REVISION, bytes([header.revision])),
                (_FAMILY, bytes([header.family])),
                (_DATA, create),
            ],
            netlink.NLM_F_CREATE | netlink.NLM_F_EXCL,
        )

    def add(self, name: str, entries: Entries) -> None:
        """Add records; an entry that is there already is an error."""
        head = netlink.pack([_PROTOCOL, (_SETNAME, name)])
        tail = netlink.pack([(_LINENO | _NET, _number(1))])
        for block in entries.blocks():
            message = _HEAD + head + struct.pack("=HH", len(block) + 4, _ADT | netlink.NLA_F_NESTED) + block + tail
            try:
                self._socket.get(_SUBSYSTEM | _ADD, message, netlink.NLM_F_EXCL)
            except netlink.NetlinkError as error:
                raise _error(error) from None

    def destroy(self, name: str) -> None:
        """Nothing there is no error."""
        try:
            self._ask(_DESTROY, [(_SETNAME, name)])
        except SetError as error:
            if error.errno != errno.ENOENT:
                raise

    def swap(self, name: str, other: str) -> None:
        """Names change places in one step: whoever reads a set sees the old content or the new, all of it."""
        self._ask(_SWAP, [(_SETNAME, name), (_TYPENAME, other)])

    def rename(self, name: str, other: str) -> None:
        self._ask(_RENAME, [(_SETNAME, name), (_TYPENAME, other)])

    def replace(self, header: Header, entries: Entries) -> None:
        """Make the set ``header`` with exactly these entries: built aside, then put in place in one step.

        A set of that name must be of the same type and family. Killed in the middle, the aside set is left, under a name that the
        next call removes first.
        """
        aside = aside_name(header.name)
        self.destroy(aside)
        there = self.header(header.name) is not None
        self.create(Header(aside, header.type, header.revision, header.family, header.create))
        try:
            self.add(aside, entries)
            if there:
                self.swap(aside, header.name)
            else:
                self.rename(aside, header.name)
        finally:
            self.destroy(aside)


def aside_name(name: str) -> str:
    """The name under which a set is built before it takes its place."""
    return "netops~" + hashlib.sha256(name.encode("utf-8")).hexdigest()[: MAX_NAME - 7]


def _number(value: int) -> bytes:
    return struct.pack(">I", value)


def _error(error: netlink.NetlinkError) -> SetError:
    number = error.errno or 0
    return SetError(number, _WORDS.get(number, error.strerror if number < 4096 else f"error {number} of ip_set"))


def _header(told: dict[int, bytes]) -> Header:
    data = netlink.attributes(told.get(_DATA, b""))
    known = {kind: int.from_bytes(data[kind], "big") if kind in data else None for kind in (_ELEMENTS, _REFERENCES)}
    create = [(kind, value) for kind, value in data.items() if kind not in (_ELEMENTS, _REFERENCES, _MEMSIZE)]
    return Header(
        netlink.text_of(told.get(_SETNAME, b"")),
        netlink.text_of(told.get(_TYPENAME, b"")),
        netlink.number(told.get(_REVISION)),
        netlink.number(told.get(_FAMILY)),
        create,
        known[_ELEMENTS],
        known[_REFERENCES],
    )


# --- records


def _size(data: bytes) -> int:
    """The length that all records of ``data`` have; 0 when they differ. A million addresses are seen at once."""
    if len(data) < 4:
        return 0
    size = (struct.unpack_from("=H", data)[0] + 3) & ~3
    return size if size >= 4 and len(data) % size == 0 and _alike(data, size, range(2)) else 0


def _alike(data: bytes, size: int, columns: range, form: bytes = b"") -> bool:
    """Are these columns of all records those of ``form``, by default of the first record?"""
    form = form or data[:size]
    return all(data[column::size] == form[column : column + 1] * (len(data) // size) for column in columns)


#: Address of an entry as a dump has it, and as an addition wants it: marked as being in network order.
_DUMPED = {
    struct.pack("=HHHH", 8 + size, IP | netlink.NLA_F_NESTED, 4 + size, kind): struct.pack(
        "=HHHH", 8 + size, IP | netlink.NLA_F_NESTED, 4 + size, kind | _NET
    )
    for kind, size in ((1, 4), (2, 16))
}


def _writable(data: bytes) -> Entries:
    """Records of a dump as additions take them."""
    size = _size(data)
    if size and data[4:12] in _DUMPED and _alike(data, size, range(4, 12)):
        marked = bytearray(data)
        for column, value in enumerate(_DUMPED[data[4:12]], 4):
            marked[column::size] = bytes([value]) * (len(data) // size)
        return Entries(bytes(marked), size)
    taken = (one[:4] + _DUMPED[one[4:12]] + one[12:] if one[4:12] in _DUMPED else one for one in Entries(data))
    return Entries.of(b"".join(taken))


def record(pairs: list[tuple[int, netlink.AttributeValue]]) -> bytes:
    return netlink.pack([(_DATA, pairs)])


def address(packed: bytes) -> tuple[int, netlink.AttributeValue]:
    """The IP attribute of an entry; ``packed`` has 4 or 16 bytes."""
    return (IP, [((1 if len(packed) == 4 else 2) | _NET, packed)])


def plain(packed: bytes, width: int) -> Entries:
    """Records that are an address and nothing else. packed: addresses in network order, ``width`` (4 or 16) bytes each."""
    form = _form(width)
    size, count = len(form), len(packed) // width
    data = bytearray(form * count)
    for offset in range(width):  # column by column: each is one copy for all entries
        data[size - width + offset :: size] = packed[offset::width]
    return Entries(bytes(data), size if count else 0)


def _form(width: int) -> bytes:
    """A record of an address, which stands at its end."""
    return record([address(bytes(width))])


def number(kind: int, value: int, size: int = 4) -> tuple[int, netlink.AttributeValue]:
    """An attribute whose value is a number in network order; one byte has no order."""
    return (kind if size == 1 else kind | _NET, value.to_bytes(size, "big"))


def lasting(entries: Entries) -> Entries:
    """Those that stay until somebody takes them out, without what changes by itself: counters."""
    if not any(head in entries.data for head in _MOVING_HEADS):
        return entries  # by far the most sets, and it may be a million entries
    return Entries.of(b"".join(_still(entry) for entry in entries if not _remaining(entry)))


def _still(entry: bytes) -> bytes:
    out = bytearray()
    at = 4
    while at + 4 <= len(entry):
        length, kind = struct.unpack_from("=HH", entry, at)
        end = at + ((length + 3) & ~3)
        if kind & 0x3FFF not in _MOVING:
            out += entry[at:end]
        at = end
    return struct.pack("=HH", len(out) + 4, _DATA | netlink.NLA_F_NESTED) + bytes(out)


def _remaining(entry: bytes) -> int:
    """Seconds an entry has left; 0 for one that stays."""
    found = netlink.attributes(entry, 4).get(TIMEOUT)
    return int.from_bytes(found, "big") if found else 0
