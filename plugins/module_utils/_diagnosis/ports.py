# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Is the target port open on this host, by whom, and for whom? (D02, D10)"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import (
    Facts,
    is_loopback,
    is_wildcard,
    shown_address,
    shown_process,
)
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.module_utils._firewall.fixes import word

REQUIREMENT = ["D02", "D10"]


@dataclass
class Moved:
    """A rule sends packets for the target on. here: to this host itself. address, port: None when not known. sure: it does."""

    rule: str
    address: str | None
    port: int | None
    here: bool
    sure: bool

    def __str__(self) -> str:
        port = "a port that is not known" if self.port is None else f"port {self.port}"
        verb = "sends" if self.sure else "may send"
        return f"{self.rule} {verb} it to {port} of {'this host' if self.here else self.address or 'another host'}"


def find(facts: Facts, moved: list[Moved]) -> list[Finding]:
    """moved: rules that send the target's packets elsewhere; then nobody needs to listen on the port itself."""
    target = facts.target
    if target is None or target.address is not None or not facts.known("sockets"):
        return []
    listeners = facts.listeners(target.proto, target.port)
    dead = [one for one in moved if one.here and one.port is not None and not facts.listeners(target.proto, one.port)]
    if listeners and dead and all(one.sure for one in dead):
        return [_moved_away(facts, dead)]
    if not listeners:
        return [_nobody(facts, dead)] if len(dead) == len(moved) else []
    reached = {4: covered(facts, listeners, 4), 6: covered(facts, listeners, 6)}
    present = {family for family in (4, 6) if any(one["family"] == family for one in facts.global_addresses())}
    missing = sorted(family for family in present if not reached[family])
    if not missing:
        return []
    return [_elsewhere(facts, listeners, missing, present)]


def covered(facts: Facts, listeners: list[dict[str, Any]], family: int) -> list[str]:
    """The host's global addresses of one family on which somebody listens."""
    out = []
    for one in facts.global_addresses():
        if one["family"] == family and any(accepts(listener, one["address"], family) for listener in listeners):
            out.append(one["address"])
    return out


def accepts(listener: dict[str, Any], address: str, family: int) -> bool:
    """A socket on ``::`` takes IPv4 too unless it is v6only."""
    bound = listener["address"]
    if bound == address:
        return True
    if not is_wildcard(bound):
        return False
    return bool(listener["family"] == family or (family == 4 and listener["family"] == 6 and not listener.get("v6only")))


def _nobody(facts: Facts, dead: list[Moved]) -> Finding:
    target = facts.asked
    everyone = (facts.section("sockets") or {}).get("listeners") or []
    others = sorted({(one["port"], one.get("process") or "?") for one in everyone if one["proto"] == target.proto})
    shown = ", ".join(f"{port} ({process})" for port, process in others[:12]) or "none"
    return Finding(
        id="port-not-listening",
        grade="proven",
        severity="critical",
        subject=f"{target}",
        summary=f"Nothing listens on {target}: a connection is refused by the host itself.",
        evidence=[
            f"no {target.proto} socket listens on port {target.port}",
            f"{target.proto} ports that are listened on: {shown}",
            *(f"{one}, where nothing listens" for one in dead),
        ],
        fix=[f"# start the service that should listen on {target}, then check: ss -lnp 'sport = :{target.port}'"],
        requirement=REQUIREMENT,
        data={"proto": target.proto, "port": target.port},
    )


def _moved_away(facts: Facts, dead: list[Moved]) -> Finding:
    """Somebody listens, but a rule sends the packets on to a port where nobody does."""
    target = facts.asked
    return Finding(
        id="port-not-listening",
        grade="proven",
        severity="critical",
        subject=f"{target}",
        summary=f"{dead[0]}, where nothing listens: a connection to {target} is refused.",
        evidence=[f"{one}, where nothing listens" for one in dead],
        fix=[f"# remove or mend the rule {dead[0].rule}, or start what should listen on port {dead[0].port}"],
        requirement=REQUIREMENT,
        data={"proto": target.proto, "port": dead[0].port},
    )


def _elsewhere(facts: Facts, listeners: list[dict[str, Any]], missing: list[int], present: set[int]) -> Finding:
    target = facts.asked
    addresses = sorted({one["address"] for one in listeners})
    loopback = all(is_loopback(address) for address in addresses)
    whole = set(missing) == present
    places = ", ".join(shown_address(address, target.port) for address in addresses)
    families = " and ".join(f"IPv{family}" for family in missing)
    who = shown_process(listeners[0])
    if loopback:
        summary = f"{target} listens only on loopback ({places}): no other host can reach it."
    else:
        summary = f"{target} listens only on {places}: it is not reachable over {families}."
    unit = listeners[0].get("unit")
    wanted = "[::] (both families)" if 6 in present else "0.0.0.0"
    fix = [f"# let {who} listen on {wanted} instead of {places}"]
    if unit and str(unit).endswith(".service"):
        fix.append(f"systemctl restart {word(str(unit))}")
    unserved = [one["address"] for one in facts.global_addresses() if one["family"] in missing]
    return Finding(
        id="port-listens-elsewhere",
        grade="proven",
        severity="critical" if whole or 4 in missing else "warning",
        subject=f"{target} on {', '.join(addresses)}",
        summary=summary,
        evidence=[f"{shown_process(one)} listens on {shown_address(one['address'], one['port'])}" for one in listeners]
        + [f"addresses of this host that nobody listens on: {', '.join(unserved[:8])}"],
        fix=fix,
        requirement=REQUIREMENT,
        data={"addresses": addresses, "missing_families": missing, "pid": listeners[0].get("pid"), "unit": unit},
    )
