# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Evidence as findings read it: sections by name, gaps by section, and a few questions asked again and again."""

from __future__ import annotations

import ipaddress
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.target import Target
from ansible_collections.netops.fleet.plugins.module_utils._firewall import model

LISTENING = "LISTEN"


class Facts:
    """One host's evidence. A section that was not read is None: a finding must not read that as "nothing there"."""

    def __init__(self, evidence: dict[str, Any], ruleset: model.Ruleset | None = None) -> None:
        self.evidence = evidence
        self._ruleset = ruleset
        self._sections: dict[str, Any] = evidence.get("sections") or {}
        raw = evidence.get("target")
        self.target = Target(raw["proto"], raw["port"], raw.get("address")) if raw else None

    def section(self, name: str) -> Any:
        return self._sections.get(name)

    @property
    def asked(self) -> Target:
        """The target, for findings that are only made when there is one."""
        if self.target is None:
            raise ValueError("this evidence is about no target")
        return self.target

    def ruleset(self) -> model.Ruleset | None:
        """The packet filter; built once from its section unless the reader's own object was handed in."""
        raw = self._sections.get("firewall")
        if self._ruleset is None and raw is not None:
            self._ruleset = model.Ruleset.from_dict(raw)
        return self._ruleset

    def items(self, name: str) -> list[dict[str, Any]]:
        """A section that is a list; empty when it was not read (check ``known`` where that matters)."""
        found = self._sections.get(name)
        return found if isinstance(found, list) else []

    def known(self, name: str) -> bool:
        return self._sections.get(name) is not None

    def gaps(self, section: str) -> list[dict[str, str]]:
        for entry in self.evidence.get("coverage") or []:
            if entry["section"] == section:
                return list(entry.get("gaps") or [])
        return []

    @property
    def links(self) -> dict[str, dict[str, Any]]:
        return {link["name"]: link for link in self.items("links")}

    def global_addresses(self) -> list[dict[str, Any]]:
        """Addresses others can reach: global scope, link up, usable."""
        links = self.links
        return [
            one
            for one in self.items("addresses")
            if one.get("scope") == "global"
            and one["link"] != "lo"
            and not {"tentative", "dadfailed"} & set(one.get("flags") or [])
            and links.get(one["link"], {}).get("up", True)
        ]

    def own(self, address: str) -> bool:
        return any(one["address"] == address for one in self.items("addresses"))

    def default_routes(self) -> list[dict[str, Any]]:
        return [one for one in self.items("routes") if one.get("dst") == "default" and one.get("type") in (None, "unicast")]

    def listeners(self, proto: str, port: int) -> list[dict[str, Any]]:
        sockets = self.section("sockets") or {}
        return [one for one in sockets.get("listeners") or [] if one["proto"] == proto and one["port"] == port]

    def probes(self, kind: str) -> list[dict[str, Any]]:
        return [one for one in self.items("probes") if one.get("kind") == kind]


def is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address.split("%", 1)[0]).is_loopback
    except ValueError:
        return False


def is_wildcard(address: str) -> bool:
    return address in ("0.0.0.0", "::", "*")


def neighbour_of(address: str, prefix: int) -> str:
    """Another address of the same subnet: the sender a walk assumes when no peer is named."""
    network = ipaddress.ip_network(f"{address}/{prefix}", strict=False)
    own = ipaddress.ip_address(address)
    first = network.network_address + (1 if network.num_addresses > 2 else 0)
    if first == own:
        first = own + 1 if (own + 1) in network else own - 1
    return str(first)


def shown_process(listener: dict[str, Any]) -> str:
    """``python3 (pid 812, model-server.service)``"""
    if listener.get("pid") is None:
        return "a process that could not be told"
    unit = f", {listener['unit']}" if listener.get("unit") else ""
    return f"{listener.get('process') or '?'} (pid {listener['pid']}{unit})"


def shown_address(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
