# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""The SSH connection over which this process was started: what a change must not cut off."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Connection:
    """source: the controller as this host sees it. destination, port: what it is connected to here."""

    source: str
    source_port: int
    destination: str
    port: int

    @classmethod
    def given(cls, option: dict[str, Any]) -> Connection:
        """Raises ValueError."""
        return cls(
            _address(option["source"]), int(option["source_port"] or 50000), _address(option["destination"]), int(option["port"])
        )

    @classmethod
    def current(cls) -> Connection | None:
        """From SSH_CONNECTION of this process or, because sudo takes it away, of those it was started by. None without one."""
        text = os.environ.get("SSH_CONNECTION") or _inherited(os.getppid())
        words = text.split()
        if len(words) != 4 or not (words[1].isdigit() and words[3].isdigit()):
            return None
        return cls(_address(words[0]), int(words[1]), _address(words[2]), int(words[3]))


def _address(text: str) -> str:
    """As rules see it: an IPv4 address that a socket shows as ::ffff:a.b.c.d is one of IPv4."""
    found = ipaddress.ip_address(text.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)


def _inherited(pid: int) -> str:
    for _generation in range(32):
        if pid <= 1:
            return ""
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                values = file.read().split(b"\0")
            with open(f"/proc/{pid}/stat", "rb") as file:
                pid = int(file.read().rpartition(b")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return ""
        for value in values:
            if value.startswith(b"SSH_CONNECTION="):
                return value[15:].decode("ascii", "replace")
    return ""
