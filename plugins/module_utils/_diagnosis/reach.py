# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""What active probes of this host showed: ping, HTTP, and a target elsewhere. (D01, D04, D10)"""

from __future__ import annotations

from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import delays, hooked, tls
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts, shown_address
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.module_utils._firewall.fixes import word

#: Answers that do not speak against the target; UDP may stay silent.
PASSED = ("ok", "no_answer")

#: What each way of failing points at.
MEANING = {
    "refused": "the other side answers, but nothing listens there or a rule rejects it",
    "timeout": "no answer: a firewall drops it, the host is down, or the way back is broken",
    "unreachable": "there is no way there, or a router or the next hop says so",
    "reset": "the connection was accepted and then torn down",
    "prohibited": "a rule or a program of this host itself rejects it on the way out",
    "error": "the probe itself failed",
}


def find(facts: Facts) -> list[Finding]:
    return pings(facts) + https(facts) + remote_target(facts) + mtus(facts) + delays.find(facts)


def pings(facts: Facts) -> list[Finding]:
    out = []
    for one in facts.probes("ping"):
        status = str(one.get("status"))
        loss = one.get("loss_percent")
        if status == "ok":
            continue
        if loss is None:
            loss = 0.0 if status == "error" else 100.0
        if status == "error" or float(loss) <= 0:
            continue  # the probe could not be made: that is coverage, not a finding
        whole = float(loss) >= 100
        blocked = one.get("status") == "icmp_blocked"
        summary = f"{one['target']} does not answer ping" if whole else f"{loss:.0f} % of the pings to {one['target']} are lost"
        if blocked:
            summary += ", but TCP reaches it: ICMP is blocked on the way"
        out.append(
            Finding(
                id="ping-unreachable",
                grade="proven",
                severity="info" if blocked else "critical" if whole else "warning",
                subject=str(one["target"]),
                summary=f"{summary}.",
                evidence=[f"status {status}: {one.get('sent', 0)} sent, {one.get('received', 0)} answered, {loss} % lost"]
                + ([str(one["detail"])] if one.get("detail") else []),
                fix=[
                    f"ip route get {word(str(one['target']))}",
                    "# then: is the next hop's neighbour entry REACHABLE, and is the other host up?",
                ],
                requirement=["D01"],
                data={"address": str(one["target"]), "status": "icmp_blocked" if blocked else status},
            )
        )
    return out


def https(facts: Facts) -> list[Finding]:
    out = []
    for one in facts.probes("http"):
        if one.get("status") == "ok" or tls.explained(one):
            continue
        detail = f": {one['detail']}" if one.get("detail") else ""
        code = f" (HTTP {one['code']})" if one.get("code") else ""
        phases = one.get("phases_ms") or {}
        out.append(
            Finding(
                id="http-probe-failed",
                grade="proven",
                severity="critical",
                subject=str(one["target"]),
                summary=f"{one['target']}: {one['status']}{code}{detail}.",
                evidence=[f"{name}: {value:.1f} ms" for name, value in phases.items() if isinstance(value, (int, float))]
                + [MEANING.get(str(one.get("status")), "the endpoint answers, but not as expected")],
                fix=[f"curl -sv -o /dev/null {word(str(one['target']))}"],
                requirement=["D04"],
                data={"address": one.get("address"), "status": str(one["status"])},
            )
        )
    return out


def mtus(facts: Facts) -> list[Finding]:
    """Large packets vanish on the way, and nobody says so: connections open, and hang with the first data."""
    out = []
    for one in facts.probes("mtu"):
        if one.get("status") != "black_hole":
            continue
        sizes = one.get("mtu") or {}
        target, mtu, largest = str(one["target"]), sizes.get("link"), sizes.get("path")
        link = facts.way_out(target) or "?"
        out.append(
            Finding(
                id="mtu-black-hole",
                grade="proven",
                severity="critical",
                subject=f"{link} to {target}",
                summary=f"Packets of {mtu} bytes to {target} vanish, those of {largest} bytes arrive, and no answer says why.",
                evidence=[
                    f"the route allows {mtu} bytes; echo requests with DF of that size are lost, of {largest} bytes answered",
                    f"{link}: mtu {facts.links.get(link, {}).get('mtu', 'not known')}",
                ],
                fix=[
                    "# find the hop with the smaller MTU, or the firewall that drops ICMP 'fragmentation needed'; until then:",
                    f"ip route replace {word(target)} dev {word(link)} mtu {largest}",
                    "# or: sysctl -w net.ipv4.tcp_mtu_probing=1",
                ],
                requirement=["D24"],
                data={"address": target, "link": link, "mtu": mtu, "largest": largest},
            )
        )
    return out


def remote_target(facts: Facts) -> list[Finding]:
    """The target is elsewhere and this host cannot reach it."""
    target = facts.target
    if target is None or target.address is None:
        return []
    out = []
    for one in facts.probes(target.proto):
        if one.get("peer") or one.get("target") != shown_address(target.address, target.port) or one.get("status") in PASSED:
            continue
        out.append(_unreached(facts, one))
    return out


def _unreached(facts: Facts, one: dict[str, Any]) -> Finding:
    target = facts.asked
    address = target.address or ""
    status = str(one.get("status"))
    suspects = hooked.blamable(facts, status)
    found = Finding(
        id="target-unreachable",
        grade="proven",
        severity="critical",
        subject=str(target),
        summary=f"This host cannot reach {target}: {status}; {MEANING.get(status, 'see the evidence')}.",
        evidence=[f"probe to {target}: {status}" + (f" ({one['detail']})" if one.get("detail") else ""), *hooked.told(suspects)],
        fix=[f"ip route get {word(address)}", "# then diagnose the other side with the same target"],
        requirement=["D01", "D10"],
        data={"address": address, "port": target.port, "status": status},
    )
    if suspects:
        found.summary += f" On the way {len(suspects)} program(s) of this host may drop it: {hooked.shown(suspects)}."
        found.fix += ["# a program on the way that is not meant to be there is removed by:", *hooked.detach(suspects)]
        found.data["suspects"] = [str(one["key"]) for one in suspects if one.get("key")]
    return found
