# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""The traffic a diagnosis is about: ``tcp/1678``, ``udp/53``, ``tcp/192.0.2.7:443``, ``tcp/[2001:db8::7]:443``."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Any

PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}

SYNTAX = (
    "PROTOCOL/PORT for a service on the diagnosed hosts (tcp/1678, udp/53), or "
    "PROTOCOL/ADDRESS:PORT for a service they must reach (tcp/192.0.2.7:443, tcp/[2001:db8::7]:443); "
    "PROTOCOL is one of tcp, udp, sctp; PORT is 1 to 65535"
)

_FORM = re.compile(r"\A(?P<proto>[a-z]+)/(?:(?P<v4>[0-9.]+):|\[(?P<v6>[0-9a-fA-F:.]+)\]:)?(?P<port>[0-9]{1,5})\Z")


class TargetError(ValueError):
    """The text is not a target; the message says what is allowed."""


@dataclass(frozen=True)
class Target:
    """proto: tcp, udp or sctp. port: 1..65535. address: None for a service on the host itself."""

    proto: str
    port: int
    address: str | None = None

    @property
    def number(self) -> int:
        """The protocol's number in the IP header."""
        return PROTOCOLS[self.proto]

    def __str__(self) -> str:
        if self.address is None:
            return f"{self.proto}/{self.port}"
        shown = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.proto}/{shown}:{self.port}"

    def to_dict(self) -> dict[str, Any]:
        return {"proto": self.proto, "port": self.port, "address": self.address}


def parse(text: str) -> Target:
    """Read a target; raises TargetError with where, what and what is allowed."""
    found = _FORM.match(text.strip()) if isinstance(text, str) else None
    if found is None or found["proto"] not in PROTOCOLS or not 1 <= int(found["port"]) <= 65535:
        raise TargetError(f"target {str(text)[:80]!r} is not understood; allowed is {SYNTAX}")
    address = found["v4"] or found["v6"]
    if address is not None:
        try:
            address = str(ipaddress.ip_address(address))
        except ValueError:
            raise TargetError(f"target {text[:80]!r}: {address!r} is not an IP address; allowed is {SYNTAX}") from None
    return Target(found["proto"], int(found["port"]), address)
