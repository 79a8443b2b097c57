# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Round trips that take too long, the hop from which a way is longer or loses packets, and harm done on purpose. (D06, D11)"""

from __future__ import annotations

import statistics
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import hops
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts, shown_address
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.module_utils._firewall.fixes import word

#: Milliseconds of the fastest reply. Within a subnet even one stretched over a continent stays below the first; the second is
#: more than light in fibre takes around the earth and back, queues included.
_NEAR_MS, _FAR_MS = 100.0, 500.0
#: A neighbour is unlike the others of its subnet that takes so many times their median, and so many milliseconds more.
_TIMES, _MORE_MS, _OTHERS = 10.0, 10.0, 2
#: A step on the way that no continent explains.
_LARGE_STEP_MS = 100.0
#: What shows that an address is there, whatever its way says.
_THERE = ("ok", "lossy", "icmp_blocked", "no_answer", "refused", "reset")


#: Of what netem does, so much breaks services: milliseconds, percent.
_BAD_DELAY_MS, _BAD_PERCENT = 100.0, 1.0


def find(facts: Facts) -> list[Finding]:
    return impaired(facts) + pings(facts) + paths(facts)


def impaired(facts: Facts) -> list[Finding]:
    """The queueing discipline netem on the way out: what a test, a drill or chaos tool left behind."""
    return [_impaired(str(link["name"]), one) for link in facts.items("links") for one in link.get("netem") or [] if _harm(one)]


def _harm(one: dict[str, Any]) -> list[str]:
    """What it does to packets, in words."""
    words = []
    if one["delay_ms"] or one["jitter_ms"]:
        jitter = f" ± {one['jitter_ms']:g} ms" if one["jitter_ms"] else ""
        words.append(f"holds each packet back for {one['delay_ms']:g} ms{jitter}")
    if one["loss_model"]:
        words.append("loses packets in bursts")
    for name, verb in (("loss", "loses"), ("corrupt", "corrupts"), ("duplicate", "doubles"), ("reorder", "reorders")):
        if one[f"{name}_percent"]:
            words.append(f"{verb} {one[f'{name}_percent']:g} %")
    if one["rate_bytes"]:
        words.append(f"sends no more than {one['rate_bytes'] * 8 / 1e6:g} Mbit/s")
    return words


def _impaired(link: str, one: dict[str, Any]) -> Finding:
    lossy = one["loss_model"] or max(one["loss_percent"], one["corrupt_percent"]) >= _BAD_PERCENT
    place = one["place"].split()
    return Finding(
        id="link-impaired",
        grade="proven",
        severity="critical" if lossy or one["delay_ms"] >= _BAD_DELAY_MS else "warning",
        subject=f"netem {link} {one['place']}",
        summary=f"The queueing discipline netem of {link} does harm on purpose: it {', '.join(_harm(one))}.",
        evidence=[
            f"netem {one['handle']} at {one['place']} of {link}, for what this host sends there: {harm}" for harm in _harm(one)
        ],
        fix=[
            "# a test, a drill or a chaos tool that still runs may set it again:",
            f"tc qdisc del dev {word(link)} {' '.join(place)}",
        ],
        requirement=["D06", "D13"],
        data={"link": link, "lossy": bool(lossy), "slow": bool(one["delay_ms"] or one["rate_bytes"])},
    )


def pings(facts: Facts) -> list[Finding]:
    """The fastest reply counts: a single late one, or the first behind a neighbour resolution, is no slow way."""
    timed = [one for one in facts.probes("ping") if one.get("rtt_ms") and not facts.own(_address(one))]
    links = {_address(one): hops.near(facts, _address(one)) for one in timed}
    out = []
    for one in timed:
        link = links[_address(one)]
        others = [_least(other) for other in timed if link and other is not one and links[_address(other)] == link]
        why = _slow(_least(one), link, others)
        if why is not None:
            out.append(_slow_ping(one, link, *why))
    return out


def _slow(least: float, link: str | None, others: list[float]) -> tuple[str, str] | None:
    """(grade, what it is measured by), or None for a round trip that may be as it should."""
    if link and least > _NEAR_MS:
        return "likely", f"{_NEAR_MS:.0f} ms are too many within the subnet of {link}"
    if least > _FAR_MS:
        return "likely", f"a way around the earth takes less than {_FAR_MS:.0f} ms"
    usual = statistics.median(others) if len(others) >= _OTHERS else None
    if usual is not None and unlike(least, usual):
        return "different", f"{len(others)} others in the subnet of {link} take {usual:g} ms (median of their fastest)"
    return None


def unlike(least: float, usual: float) -> bool:
    """Is a round trip far longer than the median of comparable ones? Both in milliseconds."""
    return least > max(_TIMES * usual, usual + _MORE_MS)


def _slow_ping(one: dict[str, Any], link: str | None, grade: str, measure: str) -> Finding:
    target, rtt = str(one["target"]), one["rtt_ms"]
    return Finding(
        id="round-trip-slow",
        grade=grade,
        severity="warning",
        subject=target,
        summary=f"Round trips to {target} take at least {rtt['min']:g} ms: {measure}.",
        evidence=[
            f"round trip min/avg/max {rtt['min']:g}/{rtt['avg']:g}/{rtt['max']:g} ms",
            f"{one.get('sent', 0)} sent, {one.get('received', 0)} answered, {one.get('loss_percent') or 0:g} % lost",
        ],
        fix=[
            f"tracepath -n {word(target)}",
            "# a queue that stays full? tc -s qdisc show; is the other host, or one on the way, short of processor time?",
        ],
        requirement=["D06", "D11"],
        data={"address": _address(one), "dev": link, "section": "probes"},
    )


def paths(facts: Facts) -> list[Finding]:
    out = []
    for one in facts.probes("path"):
        if one.get("hops") and one.get("jump"):
            out.append(_step(one))
        trouble = _trouble(facts, one) if one.get("hops") else None
        if trouble is not None:
            out.append(_loss(one, *trouble))
    return out


def _step(one: dict[str, Any]) -> Finding:
    target, jump = _address(one), one["jump"]
    before = [hop for hop in one["hops"] if hop["hop"] < jump["hop"] and hop["rtt_ms"]]
    known = (
        f"; hop {before[-1]['hop']} ({_names(before[-1])}) answers within {before[-1]['rtt_ms']['min']:g} ms" if before else ""
    )
    silent = jump["hop"] - 1 - (before[-1]["hop"] if before else 0)
    evidence = _lines(one)
    if silent:
        evidence.append(f"{silent} hop(s) before hop {jump['hop']} are silent: it may be any of them")
    if one.get("reached") and jump["hop"] == one["hops"][-1]["hop"]:
        evidence.append("this hop is the target: the last link, or the host itself, which may be busy")
    return Finding(
        id="path-latency-jump",
        grade="likely",
        severity="warning" if jump["by_ms"] >= _LARGE_STEP_MS else "info",
        subject=target,
        summary=f"The way to {target} takes {jump['by_ms']:g} ms longer from hop {jump['hop']} ({_names(jump)}) on{known}.",
        evidence=evidence,
        fix=[
            f"tracepath -n {word(target)}",
            "# far apart? then it is the distance; else look at the link before that hop: its load, its queue, another route",
        ],
        requirement=["D06", "D11"],
        data={"address": target, "hop": jump["hop"], "by_ms": jump["by_ms"], "section": "probes"},
    )


def _trouble(facts: Facts, one: dict[str, Any]) -> tuple[str, str, int] | None:
    """(grade, what happens, hop) of a way that loses packets; silence counts only where the address is silent as well."""
    status, target = str(one.get("status")), _address(one)
    if status == "lossy" and one.get("lossy_from"):
        last = one["hops"][-1]
        return (
            "likely",
            f"{last['loss_percent']:g} % of the packets to {target} are lost, from hop {one['lossy_from']} on",
            int(one["lossy_from"]),
        )
    heard = [hop for hop in one["hops"] if hop["received"]]
    if status not in ("unreachable", "timeout") or one.get("reached") or not heard or _there(facts, target):
        return None
    grade = "proven" if status == "unreachable" else "likely"
    return grade, f"The way to {target} ends: {one.get('detail')}", int(heard[-1]["hop"])


def _loss(one: dict[str, Any], grade: str, what: str, hop: int) -> Finding:
    target = _address(one)
    return Finding(
        id="path-loss",
        grade=grade,
        severity="warning",
        subject=target,
        summary=f"{what}.",
        evidence=_lines(one),
        fix=[
            f"tracepath -n {word(target)}",
            "# the link before that hop, in both directions: errors, drops, a packet filter; ways back may differ",
        ],
        requirement=["D06", "D11"],
        data={"address": target, "hop": hop, "section": "probes"},
    )


def _there(facts: Facts, address: str) -> bool:
    """Did the address answer another probe? Then a silent way is a packet filter's choice."""
    target = facts.target
    place = shown_address(address, target.port) if target is not None else None
    direct = [one for one in facts.probes("ping") if address in (one.get("address"), one.get("target"))]
    direct += [one for kind in ("tcp", "udp") for one in facts.probes(kind) if one.get("target") == place]
    return any(one.get("status") in _THERE for one in direct)


def _lines(one: dict[str, Any]) -> list[str]:
    """Every hop as a line."""
    lines = []
    for hop in one["hops"]:
        rtt = hop["rtt_ms"]
        took = f", {rtt['min']:g}/{rtt['avg']:g}/{rtt['max']:g} ms" if rtt else ""
        lines.append(f"hop {hop['hop']} {_names(hop)}: {hop['received']} of {hop['sent']} answered{took}")
    return lines


def _names(hop: dict[str, Any]) -> str:
    return ", ".join(str(one) for one in hop.get("addresses") or []) or "address not told"


def _address(one: dict[str, Any]) -> str:
    return str(one.get("address") or one["target"])


def _least(one: dict[str, Any]) -> float:
    return float(one["rtt_ms"]["min"])
