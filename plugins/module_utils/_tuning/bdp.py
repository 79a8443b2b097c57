# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Socket buffers from the bandwidth-delay product and the memory, never below the kernel's own default. Pure.

    bytes in flight of one flow = link Mbit/s * 1,000,000 / 8 * RTT s          (bandwidth-delay product)
    buffer = 2 * that                   about half of a receive buffer is window (tcp(7), tcp_adv_win_scale; fixed half since 6.6)
    maximum = the larger of the buffer and the floor, at most the ceiling

One flow's window ends at 65535 << 14 bytes (RFC 7323), so beyond 1 GiB in flight the answer is more flows, not more buffer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

#: The largest window of one flow, RFC 7323: 65535 << 14.
MAX_WINDOW = 1073725440
#: tcp_rmem[2] and friends are ints.
MAX_BUFFER = 2147483647
_STEP = 65536
#: What a connection starts with is kept within this guidance: 64 KB to 1 MB.
START_LOW, START_HIGH = 65536, 1 << 20


class Path(NamedTuple):
    """A group of peers. rtt_ms: round trip. mbit: bandwidth on the way there, at most the link's own."""

    name: str
    rtt_ms: float
    mbit: float


class Buffer(NamedTuple):
    """maximum, start: bytes. why: the formula with its numbers. notes: what the reader should know beside it."""

    maximum: int
    start: int
    why: str
    notes: tuple[str, ...] = ()


def product(mbit: float, rtt_ms: float) -> int:
    """Bytes in flight that fill the path."""
    return round(mbit * 1e6 / 8 * rtt_ms / 1e3)


def floor_maximum(kernel: tuple[int, int], memory: int, send: bool) -> int:
    """The kernel's own default of tcp_rmem[2] (tcp_wmem[2] when send), bytes. kernel: (major, minor). memory: bytes of RAM.

    tcp_init() in net/ipv4/tcp.c: 1/128 of the memory, at most 4 MiB to send and 6 MiB (32 MiB since Linux 6.18) to receive.
    """
    most = 4 << 20 if send else (32 << 20 if kernel >= (6, 18) else 6 << 20)
    return max(65536, min(most, memory // 128))


def budget(memory: int, pressure_pages: int | None, page: int) -> tuple[int, str]:
    """(bytes all TCP sockets may use before the kernel stops growing them, how that was found)."""
    if pressure_pages:
        return pressure_pages * page, f"tcp_mem pressure {pressure_pages} pages * {page}"
    return memory // 16, f"1/16 of {memory} bytes of memory"


def plan(
    paths: Iterable[Path], flows: int, connections: int, floor: int, start: int, memory: tuple[int, str], original: int
) -> Buffer:
    """The maximum and starting size of one direction.

    flows: connections that fill their window at the same time. connections: all that are expected. floor: the kernel's default.
    start: the present start value's original. memory: see budget(). original: the maximum before the collection touched it.
    """
    paths = list(paths)
    notes = []
    if not paths:
        keep = max(floor, original)
        return Buffer(
            keep, start, f"no round trip is declared: kept at the kernel's default {floor} or what was there, {original}"
        )
    far = max(paths, key=lambda path: product(path.mbit, path.rtt_ms))
    flight = product(far.mbit, far.rtt_ms)
    wanted = 2 * flight
    text = f"2 * {far.mbit:g} Mbit/s * {far.rtt_ms:g} ms ({far.name}) = 2 * {flight} = {wanted} bytes"
    if flight > MAX_WINDOW:
        notes.append(
            f"one flow's window ends at {MAX_WINDOW} bytes: to fill this path use at least {-(-flight // MAX_WINDOW)} flows"
        )
        wanted = 2 * MAX_WINDOW
    share = memory[0] // max(1, flows)
    least = max(floor, original)
    if wanted <= least:
        bound = f"the kernel's default {floor}" if least == floor else f"what was there, {original}"
        if 2 * flight > share:
            notes.append(_short(flows, share, memory[1]))
        return Buffer(
            least,
            _start(paths, start, connections, memory[0]),
            f"{text}, below {bound}: no larger buffer is needed",
            tuple(notes),
        )
    ceiling = min(MAX_BUFFER - MAX_BUFFER % _STEP, max(least, share))
    value = min(-(-wanted // _STEP) * _STEP, ceiling)
    if value < wanted and share < wanted:
        notes.append(_short(flows, share, memory[1]))
        text += f", bounded by the memory budget {share} per flow ({memory[1]} / {flows} flows)"
        value = max(least, value - value % _STEP)
        if value == least:
            text += f" and not below {least}, the kernel's default or what was there"
    return Buffer(value, _start(paths, start, connections, memory[0]), text, tuple(notes))


def _short(flows: int, share: int, how: str) -> str:
    return f"{flows} flows with full windows have {share} bytes each ({how}): beyond that the kernel holds windows down"


def _start(paths: list[Path], start: int, connections: int, memory: int) -> int:
    """What a connection begins with: the nearest path's product within 64 KB to 1 MB, where all connections fit the memory."""
    near = min(product(path.mbit, path.rtt_ms) for path in paths)
    wanted = max(start, min(max(START_LOW, -(-near // 4096) * 4096), START_HIGH))
    return wanted if wanted * max(1, connections) <= memory // 2 else start
