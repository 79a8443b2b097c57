# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Sets of processors as the kernel writes them: lists (``0-3,8``) and masks of 32-bit words (``00000000,0000000f``)."""

from __future__ import annotations

from collections.abc import Iterable

#: More than any kernel is built for (CONFIG_NR_CPUS is at most 8192); a longer list is not believed.
MAX_CPUS = 65536


def parse(text: str) -> tuple[int, ...]:
    """``0-3,8-15:2/4`` → numbers in rising order; "" and ``(null)`` are none. Raises ValueError. (bitmap_parselist)"""
    found: set[int] = set()
    for part in text.strip().split(","):
        if not part or part == "(null)":
            continue
        span, _colon, stride = part.partition(":")
        first, dash, last = span.partition("-")
        low = int(first)
        high = int(last) if dash else low
        used, _slash, group = stride.partition("/")
        take, every = (int(used), int(group)) if stride else (1, 1)
        if not 0 <= low <= high < MAX_CPUS or not 0 < take <= every:
            raise ValueError(f"{part!r} is no range of processors")
        found.update(one for one in range(low, high + 1) if (one - low) % every < take)
    return tuple(sorted(found))


def parse_or_none(text: str | None) -> tuple[int, ...] | None:
    """As parse, but None for what is missing or no list."""
    if text is None:
        return None
    try:
        return parse(text)
    except ValueError:
        return None


def show(cpus: Iterable[int]) -> str:
    """Numbers → the shortest list, as the kernel prints it."""
    parts: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if parts and cpu == parts[-1][1] + 1:
            parts[-1][1] = cpu
        else:
            parts.append([cpu, cpu])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in parts)


def parse_mask(text: str) -> tuple[int, ...]:
    """``ff,00000001`` → numbers in rising order. Raises ValueError."""
    value = 0
    for word in text.strip().split(","):
        value = value << 32 | int(word, 16)
    if value < 0 or value.bit_length() > MAX_CPUS:
        raise ValueError(f"{text!r} is no mask of processors")
    return tuple(bit for bit in range(value.bit_length()) if value >> bit & 1)


def show_mask(cpus: Iterable[int], like: str = "") -> str:
    """Numbers → a mask as wide as ``like``, a mask that the kernel printed: a wider one is refused (EOVERFLOW)."""
    value = 0
    for cpu in cpus:
        value |= 1 << cpu
    digits = len(like.strip().replace(",", "")) or -(-value.bit_length() // 4) or 1
    text = f"{value:0{digits}x}"
    head = len(text) % 8
    words = ([text[:head]] if head else []) + [text[at : at + 8] for at in range(head, len(text), 8)]
    return ",".join(words)
