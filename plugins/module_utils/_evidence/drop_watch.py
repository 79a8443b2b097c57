# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Dropped packets as they happen: reason and function, and with bpftrace also the interface, the addresses and the port.

bpftrace sees the network namespace it runs in; without it the tracer counts for the whole machine, by reason and function.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence import bpftrace, drop_reasons, tracing
from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Section
from ansible_collections.netops.fleet.plugins.module_utils._kernel import procfs, tracefs

SOURCES = ("auto", "bpftrace", "tracefs")
#: Different kinds of drops told, most first.
LIMIT = 500
_SYMBOL = re.compile(r'\{ (\d+), "(\w+)" \}')
_L4 = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"}

# Keys of one map, in this order: reason, function, Ethernet type, protocol, port, source, destination, interface.
_SCRIPT = r"""
tracepoint:skb:kfree_skb
{
    $skb = (struct sk_buff *)args->skbaddr;
    $ns = (uint64)0;
    $dev = $skb->dev;
    if ($dev != 0) { $ns = (uint64)$dev->nd_net.net->ns.inum; }
    if ($ns == 0 && $skb->sk != 0) { $ns = (uint64)$skb->sk->__sk_common.skc_net.net->ns.inum; }
    if ($ns == NETNS) {
        $l3 = (uint64)$skb->head + (uint64)$skb->network_header;
        $name = $dev != 0 ? $dev->name : "";
        if (args->protocol == 0x0800) {
            $ip = (struct iphdr *)$l3;
            $udp = (struct udphdr *)($l3 + (uint64)($ip->ihl) * 4);
            @d[(uint64)args->reason, ksym(args->location), (uint64)args->protocol, (uint64)$ip->protocol, (uint64)$udp->dest,
               ntop(2, $ip->saddr), ntop(2, $ip->daddr), $name] = count();
        } else if (args->protocol == 0x86dd) {
            $ip6 = (struct ipv6hdr *)$l3;
            $udp = (struct udphdr *)($l3 + 40);
            @d[(uint64)args->reason, ksym(args->location), (uint64)args->protocol, (uint64)$ip6->nexthdr, (uint64)$udp->dest,
               ntop(10, $ip6->saddr.in6_u.u6_addr8), ntop(10, $ip6->daddr.in6_u.u6_addr8), $name] = count();
        } else {
            @d[(uint64)args->reason, ksym(args->location), (uint64)args->protocol, (uint64)0, (uint64)0,
               ntop(2, 0), ntop(2, 0), $name] = count();
        }
    }
}
"""


def watch(seconds: float, source: str = "auto") -> Section:
    """Watch for ``seconds``. Changes nothing, and leaves nothing, also when killed.

    Data: ``{source, scope, seconds, total, lost, drops: [{reason, location, protocol, count}]}``, most first; by bpftrace each
    drop also has ``l4, from, to, port, interface``, null where the packet has none. null when nothing could be watched.
    """
    why = bpftrace.cannot()
    section = Section(None)
    if source == "bpftrace" and why:
        section.gap("drops", f"bpftrace: {why}")
        return section
    if source != "tracefs" and not why:
        running = tracing.begin("drops.bpftrace", _by_bpftrace, seconds + 120)
        section.gaps += running.gaps
        if running.channel is not None:
            time.sleep(seconds)
            answer = tracing.end(running)
            if "error" not in answer:
                section.data = answer
                if answer["lost"]:
                    section.gap("drops.lost", f"{answer['lost']} more drops found no room")
                return section
            section.gap("drops.bpftrace", str(answer["error"]))
        if source == "bpftrace":
            return section
    elif source == "auto":
        section.gap("drops.bpftrace", f"{why}: no interface, address and port")
    return _by_tracefs(seconds, section)


def _by_tracefs(seconds: float, section: Section) -> Section:
    reader = drop_reasons.DropReasons()
    running = reader.begin()
    if running.channel is not None:
        time.sleep(seconds)
    counted = reader.end(running)
    section.gaps += counted.gaps
    if counted.data is not None:
        data = counted.data
        section.data = {
            "source": "tracefs",
            **{key: data[key] for key in ("scope", "seconds", "total", "lost")},
            "drops": data["reasons"],
        }
    return section


def _by_bpftrace(told: tracing.Signal) -> dict[str, Any] | None:
    """In the child."""
    root = tracing.root()
    names = reasons(procfs.text_or_none(f"{root}/events/{drop_reasons.EVENT}/format", 1 << 16) or "")
    if not names:
        raise OSError(95, "this kernel gives no drop reasons (they came with 5.17)")
    tracefs.remove_stale(root)
    script = _SCRIPT.replace("NETNS", str(os.stat("/proc/self/ns/net").st_ino))
    found = bpftrace.run(script, told, form="json")
    if found is None:
        return None
    lines, lost, seconds = found
    drops = parse(lines, names)
    return {
        "source": "bpftrace",
        "scope": "netns",
        "seconds": round(seconds, 3),
        "total": sum(one["count"] for one in drops),
        "lost": lost,
        "drops": drops[:LIMIT],
    }


def reasons(form: str) -> dict[int, str]:
    """Number → name of drop reasons, from the event's format: the numbers change between kernels."""
    _before, _word, after = form.partition("REC->reason")
    return {int(number): name for number, name in _SYMBOL.findall(after)}


def _summed(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """bpftrace may print a key twice (its padding differs): counts of equal keys belong together."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        found[key] = found[key] + value if isinstance(value, int) and isinstance(found.get(key), int) else value
    return found


def parse(lines: Iterable[str], names: dict[int, str]) -> list[dict[str, Any]]:
    """The drops of the script's map, most first. Lines of other forms are passed over."""
    found: dict[str, int] = {}
    for line in lines:
        try:
            said = json.loads(line, object_pairs_hook=_summed)
        except ValueError:
            continue
        if isinstance(said, dict) and said.get("type") == "map":
            found.update(said["data"].get("@d") or {})
    drops = []
    for key, count in found.items():
        words = key.split(",", 7)  # a name of an interface may hold a comma
        if len(words) != 8 or not all(words[at].isdigit() for at in (0, 2, 3, 4)):
            continue
        ethertype, l4 = int(words[2]), int(words[3])
        port = int.from_bytes(int(words[4]).to_bytes(2, "little"), "big") if l4 in (6, 17, 132) else None
        ip = ethertype in (0x0800, 0x86DD)
        drops.append(
            {
                "reason": names.get(int(words[0]), words[0]),
                "location": words[1].split("+", 1)[0],
                "protocol": drop_reasons.protocol_name(ethertype),
                "l4": _L4.get(l4, str(l4)) if ip else None,
                "from": words[5] if ip else None,
                "to": words[6] if ip else None,
                "port": port,
                "interface": words[7] or None,
                "count": int(count),
            }
        )
    return sorted(drops, key=lambda one: (-one["count"], str(one)))
