# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Why a probe failed: what the network said to it, and how this host would have sent it."""

from __future__ import annotations

from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence import neighbours, routes
from ansible_collections.netops.fleet.plugins.module_utils._evidence.probing import family_of, source_of
from ansible_collections.netops.fleet.plugins.module_utils._kernel import icmp

_PROTOCOLS = {"tcp": 6, "tls": 6, "http": 6, "udp": 17, "quic": 17}
_DEFAULT_PORTS = {"quic": 443}
#: Outcomes at which the way there is in question.
_ON_THE_WAY = ("timeout", "unreachable", "no_answer", "refused", "prohibited", "error")


def explain(probe: dict[str, Any], result: dict[str, Any], watch: icmp.Watch) -> None:
    """Add ``icmp`` (who said what), ``route`` and ``neighbour`` to a failed result, and name the deciding one in ``detail``.

    icmp: ``{type, code, name, sender}``. route: ``{type, dev, via, prefsrc, link_mtu}`` or ``{error}``. neighbour: ``{address,
    dev, state, mac}`` of the next hop, null while this host has none for it.
    """
    address = str(result.get("address") or "").partition("%")[0]
    if result["status"] not in _ON_THE_WAY or family_of(address) is None:
        return
    port = _port(probe)
    protocol = _PROTOCOLS.get(str(probe.get("kind")))
    said = watch.find(protocol, address, None, port, 0.05) if protocol and port else None
    route = routes.lookup(address, source_of(probe))
    if said is not None and said.sender == route.get("prefsrc") != address:
        said = None  # this host's own word for a neighbour that does not answer, which says more
    if said is not None:
        result["icmp"] = said.to_dict()
        result["detail"] = f"{result['detail']}: {said.sender} says {said.name}"
    elif result["status"] == "refused" and protocol == 6:
        result["detail"] = f"{result['detail']}: RST, from the target or a firewall in its name"
    if result["status"] == "refused":
        return
    result["route"] = route
    if "error" in route:
        result["detail"] = f"{result['detail']}: this host has no route ({route['error']})"
        return
    if route["type"] != "unicast":
        if route["type"] in ("blackhole", "unreachable", "prohibit"):
            result["detail"] = f"{result['detail']}: a route of type {route['type']} of this host"
        return
    hop = route["via"] or address
    found = [one for one in neighbours.read().data if one["address"] == hop and one["dev"] == route["dev"]]
    if not found:
        result["neighbour"] = None
        return
    result["neighbour"] = {key: found[0][key] for key in ("address", "dev", "state", "mac")}
    if found[0]["state"] in ("failed", "incomplete") and said is None:
        which = "the target" if hop == address else "the gateway"
        result["detail"] = f"{result['detail']}: {which} {hop} does not answer on {route['dev']} (neighbour {found[0]['state']})"


def _port(probe: dict[str, Any]) -> int | None:
    if probe.get("url"):
        from urllib.parse import urlsplit

        try:
            parts = urlsplit(str(probe["url"]))
            return parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            return None
    port = probe.get("port") or _DEFAULT_PORTS.get(str(probe.get("kind")))
    return int(port) if port else None
