# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Read files of /proc and /sys: bounded, decoded without surprises, and the tables several readers share."""

from __future__ import annotations

import os

#: Inode of the pid namespace a kernel boots with, since 3.8.
INIT_PID_INODE = 0xEFFFFFFC
#: A parameter that only the network namespace a kernel boots with has: it belongs to the machine.
_INIT_NET_ONLY = "/proc/sys/net/core/netdev_max_backlog"


def text(path: str, limit: int = 4 << 20) -> str:
    """The content of ``path``, at most ``limit`` bytes. Raises OSError; bytes that are no UTF-8 are replaced."""
    with open(path, "rb", buffering=0) as file:
        parts = []
        left = limit
        while left > 0:
            data = file.read(min(left, 1 << 18))
            if not data:
                break
            parts.append(data)
            left -= len(data)
    return b"".join(parts).decode("utf-8", "replace")


def text_or_none(path: str, limit: int = 4 << 20) -> str | None:
    """As text, but None when the file is missing or may not be read."""
    try:
        return text(path, limit)
    except OSError:
        return None


def integer(path: str) -> int | None:
    """A file that holds one decimal number; None when it does not, or may not be read."""
    found = text_or_none(path, 64)
    if found is None:
        return None
    return decimal(found)


def decimal(word: str, base: int = 10) -> int | None:
    """``word`` as a number, or None: kernel tables are read by column, and a column may be cut."""
    try:
        return int(word, base)
    except ValueError:
        return None


def reason(error: OSError, path: str = "") -> str:
    """One line for a gap: what the system said about which file."""
    said = (error.strerror or str(error)).lower()
    where = path or (error.filename if isinstance(error.filename, str) else "")
    return f"{where}: {said}" if where else said


def paired_tables(content: str) -> dict[str, dict[str, int]]:
    """/proc/net/snmp and /proc/net/netstat: a line of names, then a line of numbers, each after ``Prefix:``.

    Returns {prefix: {name: value}}; a pair whose prefixes differ is left out, names without a number too.
    """
    tables: dict[str, dict[str, int]] = {}
    lines = content.splitlines()
    for names_line, values_line in zip(lines[0::2], lines[1::2]):
        prefix, colon, names = names_line.partition(":")
        prefix_again, _colon, values = values_line.partition(":")
        if not colon or prefix != prefix_again:
            continue
        table = tables.setdefault(prefix, {})
        for name, word in zip(names.split(), values.split()):
            value = decimal(word)
            if value is not None:
                table[name] = value
    return tables


def flat_table(content: str) -> dict[str, int]:
    """/proc/net/snmp6: ``Name value`` per line."""
    table = {}
    for line in content.splitlines():
        words = line.split()
        if len(words) == 2:
            value = decimal(words[1])
            if value is not None:
                table[words[0]] = value
    return table


def per_cpu_hex(content: str) -> dict[str, int]:
    """/proc/net/stat/*: a header of names, then one line of hexadecimal numbers per CPU; returns sums by name.

    ``entries`` is the same global number on every line: it is not summed.
    """
    lines = content.splitlines()
    if not lines:
        return {}
    names = lines[0].split()
    sums = dict.fromkeys(names, 0)
    for line in lines[1:]:
        for name, word in zip(names, line.split()):
            value = decimal(word, 16)
            if value is not None:
                sums[name] = value if name == "entries" else sums[name] + value
    return sums


def in_container() -> bool:
    """Does this process see less than the whole machine's processes or services?

    Files of the root file system (``/.dockerenv``) are no sign: machines are booted from images of containers.
    """
    try:
        if os.stat("/proc/self/ns/pid").st_ino != INIT_PID_INODE:
            return True
    except OSError:
        pass
    return os.path.exists("/run/systemd/container") or os.path.exists("/run/.containerenv")


def initial_network() -> bool:
    """Is this the network namespace the machine booted with?"""
    return os.path.exists(_INIT_NET_ONLY)


def has_ipv6() -> bool:
    """Is IPv6 there already? Opening an IPv6 socket would load the module."""
    return os.path.exists("/proc/net/if_inet6")
