# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Consequences go to their cause: what fails only because something below it is broken is told with it, not beside it. Pure."""

from __future__ import annotations

from collections.abc import Callable

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import hooked
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import SEVERITIES, Finding

_MOST_LINES = 12
#: How the walk of a target names it that no route leads there.
_NO_ROUTE = "no route to "

Explains = Callable[[Facts, Finding, Finding], bool]


def attach(facts: Facts, findings: list[Finding]) -> list[Finding]:
    """The findings without those that another one explains; that one tells them, and is as bad as the worst of them."""
    left = list(findings)
    for name, explains in _EXPLAINS:
        for cause in [one for one in left if one.id == name]:
            for other in [one for one in left if one is not cause and explains(facts, cause, one)]:
                left.remove(other)
                _note(cause, other)
    return left


def _note(cause: Finding, consequence: Finding) -> None:
    told = cause.data.setdefault("consequences", [])
    told.append({"id": consequence.id, "subject": consequence.subject})
    if len(told) <= _MOST_LINES:
        cause.evidence.append(f"consequence: {consequence.summary}")
    # Whatever the other explained is explained by this one now.
    cause.data["consequences"] += consequence.data.get("consequences") or []
    if SEVERITIES.index(consequence.severity) < SEVERITIES.index(cause.severity):
        cause.severity = consequence.severity


def _unreachable(other: Finding) -> bool:
    """Something elsewhere that does not answer."""
    if other.id in ("target-unreachable", "ping-unreachable", "http-probe-failed", "resolver-dead", "overlay-peer-dead"):
        return other.data.get("status", "timeout") in hooked.SILENT
    return other.id == "connections-piled-up" and other.data.get("state") == "SYN_SENT"


def _by_link(facts: Facts, cause: Finding, other: Finding) -> bool:
    link = cause.data.get("link")
    if other.data.get("dev") == link or (other.id == "interface-no-address" and other.data.get("link") == link):
        return True
    ways = {hop.get("dev") for route in facts.default_routes() for hop in facts.hops(route)}
    return _unreachable(other) and link in ways and ways <= {link, None}


def _by_neighbour(facts: Facts, cause: Finding, other: Finding) -> bool:
    if not _unreachable(other):
        return False
    if cause.data.get("role") == "default gateway":
        return not _on_link(facts, other.data.get("address"))
    return bool(other.data.get("address") == cause.data.get("address"))


def _on_link(facts: Facts, address: object) -> bool:
    """Is an address in a subnet of this host, so that no gateway is needed for it?"""
    import ipaddress

    try:
        number = ipaddress.ip_address(str(address))
    except ValueError:
        return False
    return any(
        number in ipaddress.ip_network(f"{one['address']}/{one['prefix']}", strict=False) for one in facts.items("addresses")
    )


def _by_rule(facts: Facts, cause: Finding, other: Finding) -> bool:
    """A rule that stops the target stops its probe, and leaves its connections half open."""
    target = facts.target
    if target is None:
        return False
    if target.address is not None and other.id == "target-unreachable":
        return True
    if target.address is not None and other.data.get("address") == target.address and _unreachable(other):
        return other.data.get("port") in (None, target.port)
    states = ("SYN_SENT",) if target.address is not None else ("SYN_RECV",)
    return (
        other.id == "connections-piled-up"
        and other.data.get("state") in states
        and other.data.get("port") == f"{target.proto}/{target.port}"
    )


def _by_queue(_facts: Facts, cause: Finding, other: Finding) -> bool:
    port = cause.data.get("port")
    return (
        port is not None
        and other.id == "connections-piled-up"
        and other.data.get("port") == f"tcp/{port}"
        and other.data.get("state") in ("SYN_RECV", "CLOSE_WAIT")
    )


def _by_resolver(_facts: Facts, cause: Finding, other: Finding) -> bool:
    """What cannot be resolved, where every server that was asked is dead, or fails for that very name."""
    if other.data.get("status") != "no_name":
        return False
    if cause.id == "resolver-fails" or other.id == "name-unresolved":
        asked = other.data.get("servers") or [cause.data.get("server")]
        return cause.data.get("name") in (None, other.data.get("name")) and cause.data.get("server") in asked
    return True


def _by_route(_facts: Facts, cause: Finding, other: Finding) -> bool:
    addresses = cause.data.get("addresses") or []
    if other.id == "name-unresolved":
        return bool(other.data["servers"]) and set(other.data["servers"]) <= set(addresses)
    return _unreachable(other) and other.data.get("address") in addresses


def _by_own_link(_facts: Facts, cause: Finding, other: Finding) -> bool:
    """Routes go with the address that they need."""
    return other.id == "route-config-differs" and other.data.get("link") == cause.data.get("link")


def _by_lost_route(_facts: Facts, cause: Finding, other: Finding) -> bool:
    """What lies where a route of the configuration led to: nothing leads there now, or something else does."""
    if other.id == "route-missing":
        return all(_within(one, cause.data["routes"]) for one in other.data.get("addresses") or [None])
    if other.id == "firewall-drops-target":
        return other.subject.startswith(_NO_ROUTE) and _within(other.subject[len(_NO_ROUTE) :], cause.data["routes"])
    # Beyond a lost default route another one may lead as well.
    narrow = [one for one in cause.data["routes"] if not one.endswith("/0")]
    return _unreachable(other) and _within(other.data.get("address"), narrow)


def _within(address: object, networks: list[str]) -> bool:
    import ipaddress

    try:
        number = ipaddress.ip_address(str(address))
    except ValueError:
        return False
    return any(number in ipaddress.ip_network(one) for one in networks)


def _by_ports(_facts: Facts, cause: Finding, other: Finding) -> bool:
    if other.id == "connections-piled-up":
        return other.data.get("state") == "TIME_WAIT" or other.data.get("port") == cause.data.get("port")
    return other.id == "target-unreachable" and other.data.get("status") == "error"


def _by_reverse_path(_facts: Facts, cause: Finding, other: Finding) -> bool:
    return other.id == "reverse-path-drops" and "rp_filter" in cause.subject


def _by_handshake(_facts: Facts, _cause: Finding, other: Finding) -> bool:
    return other.id == "connections-piled-up" and other.data.get("state") == "SYN_RECV"


def _by_black_hole(_facts: Facts, cause: Finding, other: Finding) -> bool:
    if other.id == "http-probe-failed":
        return bool(other.data.get("address") == cause.data["address"])
    return other.id == "tcp-retransmits"


def _by_machine(_facts: Facts, cause: Finding, other: Finding) -> bool:
    """A program that is starved answers late, and its queues fill."""
    if cause.id == "descriptors-exhausted":
        return other.id in ("accept-queue-overflow", "connections-piled-up")
    if cause.id == "oom-killed":
        return other.id == "memory-short"
    return other.id in ("accept-queue-overflow", "udp-receive-drops") and cause.id == "service-throttled"


def _by_ipsec(_facts: Facts, _cause: Finding, other: Finding) -> bool:
    return _unreachable(other) or other.id == "tcp-retransmits"


def _by_tunnel(facts: Facts, cause: Finding, other: Finding) -> bool:
    """What is asked for through the tunnel."""
    link, address = cause.data.get("link"), other.data.get("address")
    if other.id == "neighbour-failed" and other.data.get("dev") == link:
        return True
    return _unreachable(other) and other.data.get("link") != link and bool(address) and facts.way_out(str(address)) == link


def _by_netem(facts: Facts, cause: Finding, other: Finding) -> bool:
    """What is late or lost because this host's own queue makes it so."""
    link = cause.data.get("link")
    if other.id == "tcp-retransmits":
        return bool(cause.data.get("lossy"))
    if other.id == "qdisc-drops":
        return other.subject.startswith(f"{link} netem ")
    if other.id == "path-latency-jump" and other.data.get("hop") != 1:
        return False
    known = ("round-trip-slow", "path-latency-jump") if cause.data.get("slow") else ()
    if other.id in known or (other.id == "path-loss" and cause.data.get("lossy")):
        address = other.data.get("address")
        return other.data.get("dev") == link or (bool(address) and facts.way_out(str(address)) == link)
    return False


def _by_source(facts: Facts, cause: Finding, other: Finding) -> bool:
    """What is asked for through a tunnel that has no address to send from, and what is lost where it begins."""
    lost = other.id == "nic-drops" and other.data.get("link") == cause.data.get("link")
    return lost or _by_tunnel(facts, cause, other)


#: (cause, whether it explains another finding), the lowest layer first: each consequence goes to the deepest cause.
_EXPLAINS: tuple[tuple[str, Explains], ...] = (
    ("interface-no-carrier", _by_link),
    ("link-impaired", _by_netem),
    ("interface-no-address", _by_own_link),
    ("interface-config-differs", _by_own_link),
    ("neighbour-failed", _by_neighbour),
    ("ipsec-drops", _by_ipsec),
    ("tunnel-inside-itself", _by_tunnel),
    ("tunnel-local-missing", _by_source),
    ("overlay-peer-dead", _by_tunnel),
    ("oom-killed", _by_machine),
    ("descriptors-exhausted", _by_machine),
    ("service-throttled", _by_machine),
    ("route-refuses", _by_route),
    ("route-missing", _by_route),
    ("route-detour", _by_route),
    ("bpf-program-refuses", _by_rule),
    ("tc-filter-drops-target", _by_rule),
    ("firewall-drops-target", _by_rule),
    ("firewall-drops-target", _by_reverse_path),
    ("firewall-drops-outgoing", _by_route),
    ("firewall-drops-answers", _by_rule),
    ("mtu-black-hole", _by_black_hole),
    ("ephemeral-ports-exhausted", _by_ports),
    ("syn-queue-overflow", _by_handshake),
    ("accept-queue-overflow", _by_queue),
    ("resolver-dead", _by_resolver),
    ("resolver-fails", _by_resolver),
    ("name-unresolved", _by_resolver),
    # Last: what it explains has its own consequences by now.
    ("route-config-differs", _by_lost_route),
)
