# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""What statements do to a packet: marks, connection marks, NAT, notrack, sets. Pure: packet in, packet out."""

from __future__ import annotations

import socket
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._firewall import model
from ansible_collections.netops.fleet.plugins.module_utils._firewall.packet import Packet, address_number

NAT = frozenset({"dnat", "redirect", "snat", "masquerade", "netmap"})
#: Hooks where a mapping of networks is one of the destination.
TO_DESTINATION = ("prerouting", "output")
_ALL_BITS = 0xFFFFFFFF
#: Fields of the packet that a statement ``... set`` changes to something that is not followed.
_PAYLOAD = {
    "ip saddr": "saddr", "ip daddr": "daddr", "ip6 saddr": "saddr", "ip6 daddr": "daddr", "ip dscp": "tos", "ip6 dscp": "tos",
    "ip ecn": "tos", "ip ttl": "ttl", "ip6 hoplimit": "ttl", "ip length": "length", "tcp flags": "tcp_flags",
}  # fmt: skip


def marked(args: dict[str, Any], old: int | None, packet: Packet) -> int | None:
    """The mark after a statement (shape: model.Action); None when it is not known."""
    mask = args.get("mask", _ALL_BITS)
    if not isinstance(mask, int):
        return None
    if "from" in args:
        source = {"meta mark": packet.mark, "ct mark": packet.ct_mark}.get(str(args["from"]))
        keep, change = args.get("from_mask", _ALL_BITS), args.get("xor", 0)
        if source is None or not isinstance(keep, int) or not isinstance(change, int):
            return None
        value = (source & keep) ^ change
    else:
        given = args.get("value")
        if not isinstance(given, int):
            return None
        value = given
    if mask == _ALL_BITS:
        return value
    return None if old is None else (old & ~mask & _ALL_BITS) ^ value


def of_other_family(part: model.Action, packet: Packet) -> bool:
    """A mapping to an address of the other family: in a table of both families the rule does not match this packet."""
    if part.name not in NAT:
        return False
    family = part.args.get("family")
    if family in ("ip", "ip6"):
        return bool((family == "ip") != (packet.family == 4))
    address = part.args.get("addr", part.args.get("to"))
    text = address[1] if isinstance(address, list) and len(address) > 1 else address
    return isinstance(text, str) and (":" in text) != (packet.family == 6)


def asks_map(part: model.Action) -> dict[str, Any] | None:
    """The map that gives a value of this statement."""
    for value in part.args.values():
        if isinstance(value, dict) and "left" in value:
            return value
    return None


def with_value(part: model.Action, asked: dict[str, Any], value: Any) -> model.Action:
    """The statement with what the map gives in its place; value None: that is not known."""
    args = {key: one for key, one in part.args.items() if one is not asked}
    (name,) = (key for key, one in part.args.items() if one is asked)
    if isinstance(value, list) and value[:1] == ["concat"] and len(value) == 3:
        args.update(addr=value[1], port=value[2])
    else:
        args[name] = {"expression": f"map by {asked['left']}"} if value is None else value
    if value is None and name == "addr" and "concat" in part.args.get("type_flags", ()):
        args["port"] = args[name]
    return model.Action(part.name, args, part.terminal)


def apply(part: model.Action, rule: model.Rule, packet: Packet, notes: list[str], hook: str = "") -> Packet:
    """The packet behind a statement, as if the rule matched for certain. hook: of the base chain."""
    name = part.name
    if name == "mark":
        return packet.changed(mark=marked(part.args, packet.mark, packet))
    if name == "ct mark":
        if packet.ct_state in ("invalid", "untracked"):
            return packet
        return packet.changed(ct_mark=marked(part.args, packet.ct_mark, packet))
    if name == "notrack":
        # What is tracked already stays so (the second pass of a packet over lo).
        return packet if packet.original is not None else packet.changed(ct_state="untracked")
    if name in NAT:
        changed = _networks(part, packet, hook) if _is_netmap(part) else _mapped(part, packet)
        notes.append(f"{rule.where()}: {name} {_shown(part.args)} → {changed.saddr or '?'}:{_port(changed.sport)}"
                     f" → {changed.daddr or '?'}:{_port(changed.dport)}")  # fmt: skip
        return changed
    if name == "set update":
        names = [part.args[key] for key in ("set", "add-set", "del-set", "map-set") if key in part.args]
        where = (rule.family, rule.table) if rule.backend == model.NFT else (model.IPSET, "")
        touched = {(*where, str(one).split(" ", maxsplit=1)[0]) for one in names}
        packet = packet if packet.touched is None else packet.changed(touched=packet.touched | touched)
        return packet.changed(mark=None) if "map-mark" in part.args else packet
    if name.endswith(" set"):
        return _set(part, packet)
    if name in ("dscp", "tos", "ecn"):
        if "ecn-tcp-remove" in part.args:
            return packet if packet.tcp_flags is None else packet.changed(tcp_flags=packet.tcp_flags & 0x3F)
        return packet.changed(tos=None)
    if name in ("ttl", "hl"):
        return packet.changed(ttl=None)
    return packet


def _port(port: int | None) -> str:
    return "?" if port is None else str(port)


def _shown(args: dict[str, Any]) -> str:
    return " ".join(f"{key} {value}" for key, value in args.items())


def _set(part: model.Action, packet: Packet) -> Packet:
    left = part.name[:-4]
    field = _PAYLOAD.get(left)
    if field is None and left.endswith((" sport", " dport")):
        field = left.split(" ")[1]
    if field is None or ((left.startswith("ip ")) and packet.family == 6) or (left.startswith("ip6 ") and packet.family == 4):
        return packet
    value = part.args.get("value")
    if field in ("saddr", "daddr") and isinstance(value, str):
        return packet.changed(**{field: value})
    if field in ("sport", "dport", "ttl") and isinstance(value, int):
        return packet.changed(**{field: value})
    if left.endswith("dscp") and isinstance(value, int) and packet.tos is not None:
        return packet.changed(tos=packet.tos & 3 | value << 2)
    return packet.changed(**{field: None})


def _is_netmap(part: model.Action) -> bool:
    return part.name == "netmap" or "prefix" in part.args.get("type_flags", ())


def _networks(part: model.Action, packet: Packet, hook: str) -> Packet:
    """One network for another; the rest of the address stays (iptables' NETMAP, nft's ``dnat prefix to``)."""
    there = part.name == "dnat" or (part.name == "netmap" and hook in TO_DESTINATION)
    old = packet.daddr if there else packet.saddr
    to = part.args.get("to", part.args.get("addr"))
    new = None
    width, kind = (128, socket.AF_INET6) if packet.family == 6 else (32, socket.AF_INET)
    if old is not None and isinstance(to, list) and to[:1] == ["prefix"] and 0 <= int(to[2]) <= width:
        rest = (1 << (width - int(to[2]))) - 1
        was, base = address_number(old), address_number(str(to[1]))
        if was is not None and base is not None:
            new = socket.inet_ntop(kind, (base & ~rest | was & rest).to_bytes(width // 8, "big"))
    return _mapped(model.Action("dnat" if there else "snat", {"addr": new if new is not None else {"expression": "?"}}), packet)


def _mapped(part: model.Action, packet: Packet) -> Packet:
    """Addresses and ports behind a NAT statement. A port that is not named stays, unless the kernel finds it taken."""
    address, port = part.args.get("addr"), part.args.get("port")
    status = None if packet.ct_status is None else packet.ct_status | {"dnat" if part.name in ("dnat", "redirect") else "snat"}
    if part.name in ("dnat", "redirect"):
        new = packet.daddr if address is None else address if isinstance(address, str) else None
        if part.name == "redirect":
            new = _own_address(packet)
        number = packet.dport if port is None else port if isinstance(port, int) else None
        local = True if part.name == "redirect" else packet.local if new == packet.daddr else None
        changed = packet.changed(daddr=new, dport=number, local=local)
    else:
        new = address if part.name == "snat" and isinstance(address, str) else None
        if part.name == "masquerade" and packet.world is not None and packet.oif:
            new = packet.world.first_address(packet.family, packet.oif, packet.daddr)
        changed = packet.changed(saddr=new, sport=port if isinstance(port, int) else None)
    known = (changed.saddr, changed.daddr, changed.sport, changed.dport)
    if known == (packet.saddr, packet.daddr, packet.sport, packet.dport):
        return changed  # a mapping to what the packet has already leaves no trace on the connection
    return changed.changed(ct_status=None if None in known else status)


def _own_address(packet: Packet) -> str | None:
    """Where ``redirect`` sends a packet: loopback for the host's own, else the first address of the interface it came in by."""
    if packet.own:
        return "127.0.0.1" if packet.family == 4 else "::1"
    if packet.world is not None and packet.iif:
        return packet.world.redirected(packet.family, packet.iif, packet.saddr)
    return None
