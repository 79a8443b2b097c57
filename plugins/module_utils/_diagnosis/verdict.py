# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Verdicts for packets named by the caller: options read, the host read once, each packet walked. (D10, D15, D20, D21)"""

from __future__ import annotations

import ipaddress
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import letpass, world
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts, neighbour_of
from ansible_collections.netops.fleet.plugins.module_utils._firewall import symbols, walk
from ansible_collections.netops.fleet.plugins.module_utils._firewall.packet import ICMP, ICMPV6, SYN, TCP, Packet, first_state

STATES = ("auto", "new", "established", "related", "invalid", "untracked")
#: A port a client would choose: outside every service range.
_CLIENT_PORT = 49152
_PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132, "icmp": 1, "icmpv6": 58}

#: Options of one packet; their documentation stands in plugins/modules/packet_verdict.py.
PACKET: dict[str, Any] = {
    "direction": {"type": "str", "choices": ["incoming", "outgoing"], "default": "incoming"},
    "interface": {"type": "str", "default": "auto"},
    "source": {"type": "str"},
    "destination": {"type": "str", "required": True},
    "protocol": {"type": "str", "default": "tcp"},
    "source_port": {"type": "int"},
    "destination_port": {"type": "int"},
    "icmp_type": {"type": "str"},
    "icmp_code": {"type": "int"},
    "tcp_flags": {"type": "list", "elements": "str", "choices": ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"]},
    "state": {"type": "str", "choices": list(STATES), "default": "auto"},
    "mark": {"type": "int", "default": 0},
    "source_mac": {"type": "str"},
    "tos": {"type": "int"},
    "ttl": {"type": "int"},
    "length": {"type": "int"},
    "uid": {"type": "int"},
    "gid": {"type": "int"},
}


class PacketError(ValueError):
    """An option of a packet is not allowed; the message says which and what is."""


def _address(options: dict[str, Any], name: str) -> str | None:
    text = options.get(name)
    if text is None:
        return None
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise PacketError(f"{name} {text!r} is no IP address") from None


def packet_of(options: dict[str, Any], host: world.Host) -> Packet:
    """The packet of one entry of ``packets``; what is left out is filled in from the host. Raises PacketError."""
    daddr, saddr = _address(options, "destination"), _address(options, "source")
    if daddr is None:
        raise PacketError("destination is missing")
    family = 6 if ":" in daddr else 4
    if saddr is not None and (":" in saddr) != (family == 6):
        raise PacketError(f"source {saddr} and destination {daddr} are not of one family")
    proto = _protocol(str(options.get("protocol") or "tcp"), family)
    kind = options.get("icmp_type")
    number = None
    if proto in (ICMP, ICMPV6):
        try:
            number = symbols.integer(symbols.scalar("icmp" if proto == ICMP else "icmpv6", str(kind or "echo-request")))
        except symbols.OddError:
            raise PacketError(f"icmp_type {kind!r} is neither a number nor a name that nft knows") from None
    ported = proto in (6, 17, 132)
    for name in ("source_port", "destination_port"):
        if options.get(name) is not None and not (ported and 0 <= int(options[name]) <= 65535):
            raise PacketError(f"{name} is {options[name]}; allowed are 0 to 65535, for tcp, udp and sctp")
    if ported and options.get("destination_port") is None:
        raise PacketError(f"destination_port is missing for protocol {options.get('protocol')}")
    flags = None
    if proto == TCP:
        flags = SYN if not options.get("tcp_flags") else 0
        for one in options.get("tcp_flags") or ():
            flags |= symbols.TCP_FLAGS[one]
    state = str(options.get("state") or "auto")
    outgoing = options.get("direction") == "outgoing"
    facts = Facts({"sections": host.sections})
    interface = str(options.get("interface") or "auto")
    if interface != "auto" and interface not in facts.links:
        raise PacketError(f"interface {interface!r} is not there; there are {', '.join(sorted(facts.links))[:300]}")
    if not outgoing and saddr is None:
        saddr = _neighbour(facts, daddr)
    iif = "" if outgoing else interface if interface != "auto" else _way_in(facts, host, family, saddr, daddr)
    told = {name: options.get(name) for name in ("tos", "ttl", "length", "uid", "gid")}
    made = first_state(proto, flags, number) if state == "auto" else state
    return Packet(
        family=family,
        proto=proto,
        saddr=saddr,
        daddr=daddr,
        sport=(_CLIENT_PORT if options.get("source_port") is None else int(options["source_port"])) if ported else None,
        dport=int(options["destination_port"]) if ported else None,
        iif=iif,
        oif="" if not outgoing else interface if interface != "auto" else None,
        ct_state=made,
        ct_status=frozenset() if made == "new" else None,
        ct_mark=0 if made == "new" else None,
        tcp_flags=flags,
        icmp_type=number,
        icmp_code=(int(options["icmp_code"]) if options.get("icmp_code") is not None else 0) if number is not None else None,
        mark=int(options.get("mark") or 0),
        own=outgoing,
        smac=str(options["source_mac"]).lower() if options.get("source_mac") else None,
        dmac=facts.links.get(str(iif), {}).get("mac") if iif else None,
        lower=facts.under(iif) if iif else (),
        bridge=bool(iif) and facts.links.get(str(iif), {}).get("kind") == "bridge",
        **told,
    )


def _protocol(text: str, family: int) -> int:
    name = "icmpv6" if text == "icmp" and family == 6 else text
    if name in _PROTOCOLS:
        return _PROTOCOLS[name]
    if name.isdigit() and int(name) < 256:
        return int(name)
    raise PacketError(f"protocol {text!r}; allowed are {', '.join(_PROTOCOLS)} or a number up to 255")


def _neighbour(facts: Facts, daddr: str) -> str | None:
    own = next((one for one in facts.items("addresses") if one["address"] == daddr), None)
    return neighbour_of(daddr, own["prefix"]) if own is not None and own["link"] != "lo" else None


def _way_in(facts: Facts, host: world.Host, family: int, saddr: str | None, daddr: str) -> str | None:
    """The interface a packet of this sender would come in by: that of the way back, else the one with the destination."""
    if host.router is not None and saddr is not None:
        found = host.router.lookup(Packet(family, 0), saddr, None, "lo", None, 0, own=True)
        if found.kind == "unicast" and len(found.devs) == 1:
            return found.devs[0]
        if found.kind == "local":
            return "lo"
    links = [one["link"] for one in facts.items("addresses") if one["address"] == daddr]
    return str(links[0]) if len(links) == 1 else None


def answer(host: world.Host, walker: walk.Walker, packet: Packet) -> dict[str, Any]:
    """The verdict of one packet, as the module returns it."""
    follow = walker.outgoing if packet.own else walker.incoming
    decision = follow(packet)
    certain = decision.verdict != walk.UNKNOWN
    grade = None if not certain else "likely" if decision.verdict == walk.ACCEPT and _blind(host) else "proven"
    end = decision.packet
    return {
        "verdict": decision.verdict,
        "grade": grade,
        "text": _text(packet, decision),
        "decided_by": decider(decision),
        "path": decision.path,
        "why": decision.why,
        "possible": [one.to_dict() for one in decision.possible[:16]],
        "fix": letpass.commands(lambda without: follow(packet, without), packet, decision),
        "packet": _shown(packet),
        "packet_after": _shown(end) if end is not None else None,
    }


def _blind(host: world.Host) -> bool:
    """Programs that may drop were not all seen."""
    return host.hooks is None or any(gap.what.startswith(("hooks", "firewall")) for gap in host.gaps)


def decider(decision: walk.Decision) -> dict[str, Any] | None:
    """What decided: ``{kind: rule | policy | route | policy_rule | sysctl | hook, text, where, ...}``; None for nothing."""
    if decision.verdict == walk.UNKNOWN:
        return None
    if decision.rule is not None:
        rule = decision.rule
        found: dict[str, Any] = {"kind": "rule", "where": rule.where(), "text": rule.text}
        found.update({key: value for key, value in rule.to_dict().items() if key not in ("parts", "text", "verdict")})
        if decision.key is not None:
            found["element"] = decision.key
        return found
    what = decision.object
    if what is None:
        return None
    found = {"kind": what["kind"], "where": what["text"], "text": what["text"]}
    if decision.chain is not None:
        chain = decision.chain
        found.update(backend=chain.backend, family=chain.family, table=chain.table, chain=chain.name, owner=chain.owner)
    if "hook" in what:
        entry = what["hook"]
        found.update(hook={key: entry.get(key) for key in ("hook", "direction", "interface", "name", "id", "link_id", "owners")})
    return found


def _text(packet: Packet, decision: walk.Decision) -> str:
    ports = f":{packet.dport}" if packet.dport is not None else ""
    shown = f"[{packet.daddr}]" if ports and ":" in str(packet.daddr) else packet.daddr
    what = f"protocol {packet.proto} {packet.saddr or 'this host'} → {shown}{ports}"
    if decision.verdict == walk.UNKNOWN:
        return f"{what}: unknown, because {decision.why}"
    found = decider(decision)
    if found is None:
        return f"{what}: {decision.verdict}"
    by = f"{found['where']}: {found['text']}" if found["kind"] == "rule" else found["where"]
    earlier = "".join(f"; or by {one.name()}: {one.why}" for one in decision.possible[:3])
    return f"{what}: {decision.verdict} by {by}{earlier}"


def _shown(packet: Packet) -> dict[str, Any]:
    names = ("family", "proto", "saddr", "daddr", "sport", "dport", "iif", "oif", "ct_state", "mark", "icmp_type")
    return {name: getattr(packet, name) for name in names}


def verdicts(asked: list[dict[str, Any]], host: world.Host) -> list[dict[str, Any]]:
    """One answer for each packet, in order. Raises PacketError, with the packet's place (1-based)."""
    walker = host.walker()
    found = []
    for number, options in enumerate(asked, 1):
        try:
            packet = packet_of(options, host)
        except PacketError as error:
            raise PacketError(f"packet {number}: {error}") from None
        found.append(answer(host, walker, packet))
    return found
