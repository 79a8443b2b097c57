# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Losses below the socket: NIC, softnet, qdisc, connection tracking, Open vSwitch; deltas over the window, and the knob for each.

(D13, D32)
"""

from __future__ import annotations

from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.queues import window
from ansible_collections.netops.fleet.plugins.module_utils._firewall.fixes import word

#: Counters of a link that mean "the card or its ring was too slow"; rx_dropped is not among them: it also counts
#: frames of protocols nobody asked for.
_NIC = ("rx_missed_errors", "rx_fifo_errors", "rx_over_errors", "tx_fifo_errors", "tx_carrier_errors", "rx_crc_errors")

#: Part of the connection table in use from which on it is a finding.
CONNTRACK_SHARE = 0.8


def find(facts: Facts) -> list[Finding]:
    return softnet(facts) + nic(facts) + qdisc(facts) + conntrack(facts) + datapaths(facts) + ipsec(facts)


def _grown(facts: Facts, layer: str) -> dict[str, int]:
    layers = (facts.section("drops") or {}).get("layers") or {}
    return {name: int(one.get("delta") or 0) for name, one in (layers.get(layer) or {}).items() if one.get("delta")}


def softnet(facts: Facts) -> list[Finding]:
    if (facts.evidence.get("host") or {}).get("container"):
        return []  # these queues belong to the machine: whose packets were lost cannot be told from in here
    dropped = {name: count for name, count in _grown(facts, "softnet").items() if name.endswith("dropped")}
    if not dropped:
        return []
    total = sum(dropped.values())
    backlog = (facts.section("sysctls") or {}).get("net.core.netdev_max_backlog")
    larger = max(2 * int(backlog), 4096) if backlog and str(backlog).isdigit() else 4096
    return [
        Finding(
            id="softnet-drops",
            grade="proven",
            severity="warning",
            subject="net.core.netdev_max_backlog",
            summary=f"The kernel's per-CPU input queue was full: {total} packets dropped {window(facts)}.",
            evidence=[f"{name} grew by {count} {window(facts)}" for name, count in sorted(dropped.items())[:8]]
            + [f"net.core.netdev_max_backlog is {backlog or 'not known'}"],
            fix=[
                f"sysctl -w net.core.netdev_max_backlog={larger}",
                "# if one CPU drops and others do not: spread the NIC's interrupts (RSS, RPS)",
            ],
            requirement=["D13"],
        )
    ]


def nic(facts: Facts) -> list[Finding]:
    by_link: dict[str, dict[str, int]] = {}
    for layer in ("nic", "driver"):
        for key, count in _grown(facts, layer).items():
            link, _space, counter = key.partition(" ")
            if layer == "driver" or counter in _NIC:
                by_link.setdefault(link, {})[counter] = count
    out = []
    for link, counters in sorted(by_link.items()):
        driver_only = not any(name in _NIC for name in counters)
        if driver_only:
            continue  # a driver's own names vary in meaning: they explain a loss, they do not prove one
        crc = any("crc" in name for name in counters)
        fix = (
            [f"# bad frames on {link}: check cable, transceiver and switch port (ethtool -m {word(link)})"]
            if crc
            else [
                f"ethtool -g {word(link)}",
                f"# then raise the rings to the maximum it prints: ethtool -G {word(link)} rx MAX tx MAX",
            ]
        )
        out.append(
            Finding(
                id="nic-drops",
                grade="proven",
                severity="warning",
                subject=link,
                summary=f"{link} lost {sum(counters[name] for name in counters if name in _NIC)} frames {window(facts)}.",
                evidence=[f"{name} grew by {count} {window(facts)}" for name, count in sorted(counters.items())[:12]],
                fix=fix,
                requirement=["D13", "D23"],
                data={"link": link},
            )
        )
    return out


def qdisc(facts: Facts) -> list[Finding]:
    out = []
    for key, count in sorted(_grown(facts, "qdisc").items()):
        if not key.endswith(" drops"):
            continue
        place = key[: -len(" drops")]
        link = place.split(" ", 1)[0]
        out.append(
            Finding(
                id="qdisc-drops",
                grade="proven",
                severity="warning",
                subject=place,
                summary=f"The queue of {place} dropped {count} packets {window(facts)}.",
                evidence=[f"drops of {place} grew by {count} {window(facts)}", _queue_length(facts, link)],
                fix=[
                    f"tc -s qdisc show dev {word(link)}",
                    f"# a shaper's limit is meant; otherwise: ip link set dev {word(link)} txqueuelen 10000",
                ],
                requirement=["D13"],
                data={"link": link},
            )
        )
    return out


def _queue_length(facts: Facts, link: str) -> str:
    found = facts.links.get(link, {})
    return f"{link}: qdisc {found.get('qdisc', 'not known')}, txqueuelen {found.get('qlen', 'not known')}"


def conntrack(facts: Facts) -> list[Finding]:
    found: dict[str, Any] | None = facts.section("conntrack")
    if not found or not found.get("max"):
        return []
    count, limit = int(found.get("count") or 0), int(found["max"])
    stat = found.get("stat") or {}
    lost = {name: int(stat.get(name) or 0) for name in ("drop", "early_drop") if int(stat.get(name) or 0) > 0}
    if not lost and count < CONNTRACK_SHARE * limit:
        return []
    full = bool(lost) or count >= limit
    return [
        Finding(
            id="conntrack-nearly-full",
            grade="proven" if full else "likely",
            severity="critical" if full else "warning",
            subject="net.netfilter.nf_conntrack_max",
            summary=f"The connection table holds {count} of {limit} entries ({count / limit:.0%}); once full it drops new ones.",
            evidence=[f"nf_conntrack_count {count}, nf_conntrack_max {limit}, a finding from {CONNTRACK_SHARE:.0%} on"]
            + [f"{name} grew by {value} {window(facts)}" for name, value in lost.items()],
            fix=[
                f"sysctl -w net.netfilter.nf_conntrack_max={limit * 2}",
                "# and keep it: a file in /etc/sysctl.d; look for one source that opens too many",
            ],
            requirement=["D13", "D20"],
            data={"count": count, "max": limit},
        )
    ]


#: How often ovs-vswitchd could not put a flow into its datapaths, which were full.
_LIMIT_HIT = "upcall_flow_limit_hit"


def datapaths(facts: Facts) -> list[Finding]:
    """Open vSwitch's: packets of new flows that ovs-vswitchd was too slow to take, and tables with no room for more flows."""
    grown = _grown(facts, "ovs")
    switch: dict[str, Any] = (facts.section("installed") or {}).get("ovs") or {}
    rooms = {one["name"]: one for one in switch.get("datapaths") or []}
    lost = {name[: -len(" lost")]: count for name, count in grown.items() if name.endswith(" lost")}
    full = {name for name, one in rooms.items() if one["flows"] >= one["limit"]}
    if not full and grown.get(_LIMIT_HIT) and len(rooms) == 1:
        full = set(rooms)  # the counter is that of all datapaths together
    return [_datapath(facts, name, lost.get(name, 0), name in full, rooms.get(name)) for name in sorted(full | set(lost))]


def _datapath(facts: Facts, name: str, lost: int, full: bool, room: dict[str, Any] | None) -> Finding:
    hits = _grown(facts, "ovs").get(_LIMIT_HIT, 0)
    said, evidence, fix = [], [], ["ovs-appctl upcall/show"]
    if lost:
        said.append(f"{lost} packets of new flows were lost {window(facts)}, as ovs-vswitchd did not take them in time")
        evidence.append(f"lost of {name} grew by {lost} {window(facts)}")
        fix.append(
            "# is ovs-vswitchd short of a processor (top -H -p $(pidof ovs-vswitchd)), or does somebody open very many flows?"
        )
    if full:
        said.append("it had no room for further flows, so that all their packets take the slow way through ovs-vswitchd")
        fix += [
            f"# who makes so many? ovs-appctl dpctl/dump-flows {word(name)}",
            "# room for more, where the limit is not lower because the processors are busy: "
            "ovs-vsctl set Open_vSwitch . other_config:flow-limit=400000",
        ]
    if room:
        evidence.append(f"{name}: {room['flows']} flows, at most {room['limit']}")
    if full and hits:
        evidence.append(f"{_LIMIT_HIT} grew by {hits} {window(facts)}")
    return Finding(
        id="ovs-datapath-overloaded",
        grade="proven",
        severity="warning",
        subject=name,
        summary=f"Open vSwitch's datapath {name} is overloaded: {'; '.join(said)}.",
        evidence=evidence,
        fix=fix,
        requirement=["D13", "D32"],
        data={"lost": lost, "full": full},
    )


#: What the kernel's counters of IPsec point at (Documentation/networking/xfrm_proc.rst).
_IPSEC = {
    "XfrmInNoStates": "packets come in for which no state was agreed on: the keys of the two sides differ, or one side restarted",
    "XfrmOutNoStates": "a policy demands IPsec and no state was agreed on: does the key daemon run, and reach the peer?",
    "XfrmInStateProtoError": "packets do not decrypt: the keys differ",
    "XfrmInStateSeqError": "packets come too late or twice for the replay window",
    "XfrmInTmplMismatch": "packets come in the clear, or in another way than the policy demands",
    "XfrmInNoPols": "no policy allows what was decrypted",
    "XfrmOutPolBlock": "a policy blocks what is sent",
    "XfrmInPolBlock": "a policy blocks what comes in",
}


def ipsec(facts: Facts) -> list[Finding]:
    """Packets that IPsec's policies and states did not let through."""
    grown = _grown(facts, "ipsec")
    if not grown:
        return []
    worst = max(grown, key=lambda name: grown[name])
    return [
        Finding(
            id="ipsec-drops",
            grade="proven",
            severity="critical",
            subject=worst,
            summary=f"IPsec dropped {sum(grown.values())} packets {window(facts)}: {_IPSEC.get(worst, worst)}.",
            evidence=[f"{name} grew by {count} {window(facts)}" for name, count in sorted(grown.items())] + _agreed(facts),
            fix=["ip xfrm policy", "ip -s xfrm state", "# then the log of the key daemon (strongSwan: swanctl --list-sas)"],
            requirement=["D21"],
        )
    ]


def _agreed(facts: Facts) -> list[str]:
    found: dict[str, Any] | None = (facts.section("tunnels") or {}).get("ipsec")
    if not found:
        return []
    ways = sorted({f"{one['source']} to {one['target']}" for one in found["states"]})
    return [f"{found['policies']} policies, states of {len(ways)} ways" + (f": {', '.join(ways[:6])}" if ways else "")]
