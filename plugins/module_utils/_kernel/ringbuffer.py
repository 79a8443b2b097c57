# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""The tracer's ring buffer, read as the kernel writes it: exact fields instead of lines of text, and no name that could lie.

Sources: kernel/trace/ring_buffer.c (page and event headers), events/header_page, events/*/format
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_FIELD = re.compile(
    r"^\s*field:(?P<type>[^;]*?)(?P<name>\w+)(?:\[\w*\])?;\s*offset:(?P<offset>\d+);\s*size:(?P<size>\d+);\s*signed:(?P<signed>\d)"
)
_NUMBERS = {(1, 0): "=B", (2, 0): "=H", (4, 0): "=I", (8, 0): "=Q", (1, 1): "=b", (2, 1): "=h", (4, 1): "=i", (8, 1): "=q"}
_PADDING, _TIME_EXTEND, _TIME_STAMP = 29, 30, 31
_COMMIT_MASK = (1 << 20) - 1


@dataclass(frozen=True)
class Event:
    """One event. time: nanoseconds of the trace clock. kind: number of its format."""

    time: int
    kind: int
    pid: int
    data: bytes


@dataclass(frozen=True)
class Format:
    """Where the fields of an event lie: name → (offset, size, signed)."""

    number: int
    fields: dict[str, tuple[int, int, bool]]

    def value(self, event: Event, name: str) -> int | None:
        """A number of the event; None when this kernel's event has no such field."""
        field = self.fields.get(name)
        form = _NUMBERS.get((field[1], int(field[2]))) if field else None
        if field is None or form is None or field[0] + field[1] > len(event.data):
            return None
        return int(struct.unpack_from(form, event.data, field[0])[0])

    def content(self, event: Event, name: str) -> bytes:
        """The bytes of an array; empty when there is none."""
        field = self.fields.get(name)
        return event.data[field[0] : field[0] + field[1]] if field else b""


def parse_format(text: str) -> Format:
    """An event's ``format`` file. Raises ValueError when it is none."""
    number = None
    fields = {}
    for line in text.splitlines():
        if line.startswith("ID:"):
            number = int(line[3:])
        found = _FIELD.match(line)
        if found is not None:
            fields[found["name"]] = (int(found["offset"]), int(found["size"]), found["signed"] == "1")
    if number is None or "common_pid" not in fields:
        raise ValueError("no format of a trace event")
    return Format(number, fields)


def events(page: bytes) -> Iterator[Event]:
    """The events of one page as ``trace_pipe_raw`` gives it, oldest first. A damaged rest is left alone."""
    if len(page) < 16:
        return
    time, commit = struct.unpack_from("=QQ", page)
    end = min(len(page), 16 + (commit & _COMMIT_MASK))
    offset = 16
    while offset + 4 <= end:
        head = struct.unpack_from("=I", page, offset)[0]
        kind, delta = head & 0x1F, head >> 5
        offset += 4
        if kind in (_TIME_EXTEND, _TIME_STAMP):
            if offset + 4 > end:
                return
            more = struct.unpack_from("=I", page, offset)[0] << 27
            # A stamp lacks the topmost five bits, which are those of the time so far.
            time = time + delta + more if kind == _TIME_EXTEND else (time & ~((1 << 59) - 1)) | (delta + more)
            offset += 4
            continue
        if kind == _PADDING:
            if delta == 0 or offset + 4 > end:
                return
            time += delta
            offset += struct.unpack_from("=I", page, offset)[0]
            continue
        time += delta
        if kind == 0:
            if offset + 4 > end:
                return
            length = struct.unpack_from("=I", page, offset)[0] - 4
            offset += 4
        else:
            length = kind * 4
        data = page[offset : offset + length]
        offset += (length + 3) & ~3
        if length < 8 or len(data) < length or offset > end:
            return
        number, _flags, _preempt, pid = struct.unpack_from("=HBBi", data)
        yield Event(time, number, pid, data)
