# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""The answer for a target: listening, firewall, hooks, reachability, route, in this order, and one sentence. (D10, D16)"""

from __future__ import annotations

from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import hooked
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts, shown_address, shown_process
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.firewall import Verdicts
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.reach import PASSED
from ansible_collections.netops.fleet.plugins.module_utils._firewall import walk

OK, BAD, DOUBT = "ok", "bad", "unknown"


def answer(facts: Facts, walked: Verdicts, findings: list[Finding]) -> dict[str, Any] | None:
    """{verdict: blocked | open | unknown, text, steps: [{step, result: ok|bad|unknown, detail}]}; None without a target."""
    target = facts.target
    if target is None:
        return None
    if target.address is None:
        steps = [
            _listening(facts, walked, findings),
            _firewall(walked, findings),
            _hooks(facts, findings),
            _reachability(facts),
            _route(facts, walked),
        ]
    else:
        steps = [_reachability(facts), _route(facts, walked), _hooks(facts, findings)]
    bad = next((step for step in steps if step["result"] == BAD), None)
    doubts = [step for step in steps if step["result"] == DOUBT]
    if bad is not None:
        return {
            "verdict": "blocked",
            "text": f"{target} is blocked here: {bad['detail']}{_suspected(facts, steps)}",
            "steps": steps,
        }
    if doubts:
        said = "; ".join(f"{step['step']}: {step['detail']}" for step in doubts)
        return {
            "verdict": "unknown",
            "text": f"Nothing found that blocks {target}, but not all could be told: {said}",
            "steps": steps,
        }
    return {"verdict": "open", "text": f"No known anomaly: nothing on this host blocks {target}.", "steps": steps}


def _suspected(facts: Facts, steps: list[dict[str, Any]]) -> str:
    """What a target elsewhere may fail by; one for this host names its own reason already."""
    step = next(one for one in steps if one["step"] == "hooks")
    if facts.asked.address is None or step["result"] == OK or not hooked.suspects(facts):
        return ""
    return f"; {step['detail']}"


def _step(step: str, result: str, detail: str) -> dict[str, Any]:
    return {"step": step, "result": result, "detail": detail}


def _of(findings: list[Finding], *ids: str) -> Finding | None:
    return next((one for one in findings if one.id in ids and one.severity == "critical"), None)


def _listening(facts: Facts, walked: Verdicts, findings: list[Finding]) -> dict[str, Any]:
    target = facts.asked
    if not facts.known("sockets"):
        return _step("listening", DOUBT, "sockets could not be read")
    found = _of(findings, "port-not-listening", "port-listens-elsewhere") or next(
        (one for one in findings if one.id == "accept-queue-overflow" and one.data.get("port") == target.port), None
    )
    if found is not None:
        return _step("listening", BAD, found.summary)
    listeners = facts.listeners(target.proto, target.port)
    moved = walked.moved()
    if moved and not listeners:
        # Who answers there is that host's matter; what this one does with the packet is known.
        return _step("listening", OK if any(one.sure for one in moved) else DOUBT, "; ".join(str(one) for one in moved[:3]))
    places = ", ".join(f"{shown_process(one)} on {shown_address(one['address'], one['port'])}" for one in listeners[:3])
    return _step("listening", OK, places)


def _firewall(walked: Verdicts, findings: list[Finding]) -> dict[str, Any]:
    found = next((one for one in findings if one.id == "firewall-drops-target"), None)
    if found is not None:
        return _step("firewall", BAD, found.summary)
    if walked.unread:
        return _step("firewall", DOUBT, walked.unread)
    unsure = next((flow for flow in walked.flows if flow.decision.verdict == walk.UNKNOWN), None)
    if unsure is not None:
        return _step("firewall", DOUBT, unsure.decision.why or "a rule could not be judged")
    if not walked.flows:
        return _step("firewall", DOUBT, "this host has no address others can reach")
    return _step("firewall", OK, f"{len(walked.flows)} packets walked through all rules, all accepted{_translated(walked)}")


def _hooks(facts: Facts, findings: list[Finding]) -> dict[str, Any]:
    """Programs on the target's way that may drop. Whether they belong there only peers can tell; a probe that got there, more."""
    if not facts.known("hooks"):
        return _step("hooks", DOUBT, "programs on the packet path could not be read")
    refused = _of(findings, "bpf-program-refuses")
    if refused is not None:
        return _step("hooks", BAD, f"likely: {refused.summary}")
    taken = _of(findings, "tc-filter-drops-target")
    if taken is not None:
        return _step("hooks", BAD, taken.summary if taken.grade == "proven" else f"likely: {taken.summary}")
    suspects = hooked.suspects(facts)
    if facts.asked.address is not None and any(one.get("status") == "ok" for one in _tried(facts)):
        passed = f"the probe passed {len(suspects)} program(s) that may drop: {hooked.shown(suspects)}"
        return _step("hooks", OK, (passed if suspects else "no known program on the way can drop") + _aside(facts))
    if suspects:
        return _step("hooks", DOUBT, f"{len(suspects)} program(s) may drop: {hooked.shown(suspects)}; compare with peers")
    gaps = facts.gaps("hooks")
    if gaps:
        return _step("hooks", DOUBT, "; ".join(gap["why"] for gap in gaps[:2]))
    if facts.asked.address is None:
        return _step("hooks", OK, "no program on the way in can drop")
    return _step("hooks", OK, "no program on the way out, or on that of the answers, can drop" + _aside(facts))


def _aside(facts: Facts) -> str:
    """The probe stands for the process that makes it: services in cgroups of their own may be treated otherwise."""
    others = hooked.aside(facts)
    return f"; {len(others)} program(s) may drop what processes of other cgroups send: {hooked.shown(others)}" if others else ""


def _reachability(facts: Facts) -> dict[str, Any]:
    """What probes of this host say; peers' probes of it are joined by the controller."""
    target = facts.asked
    if target.address is None:
        dead = [one for one in facts.items("neighbours") if one.get("state") == "failed" and one["address"] in _gateways(facts)]
        if dead:
            return _step("reachability", BAD, f"the default gateway {dead[0]['address']} does not answer on {dead[0]['dev']}")
        return _step(
            "reachability", OK, "the default gateway is not known to be dead" if _gateways(facts) else "no default gateway to ask"
        )
    tried = _tried(facts)
    if not tried:
        return _step("reachability", DOUBT, "no probe was made")
    bad = next((one for one in tried if one.get("status") not in PASSED), None)
    if bad is not None:
        return _step("reachability", BAD, f"probe to {target}: {bad.get('status')} {bad.get('detail') or ''}".strip())
    return _step("reachability", OK, f"probe to {target}: {tried[0].get('status')}")


def _tried(facts: Facts) -> list[dict[str, Any]]:
    """This host's own probes of a target elsewhere."""
    place = shown_address(facts.asked.address or "", facts.asked.port)
    return [one for one in facts.probes(facts.asked.proto) if one.get("target") == place and not one.get("peer")]


def _gateways(facts: Facts) -> set[str]:
    hops = [hop for route in facts.default_routes() for hop in facts.hops(route)]
    return {hop["via"] for hop in hops if hop.get("via")}


def _translated(walked: Verdicts) -> str:
    """Rules that give the target's packets another destination on the way; those of its own port are told as who listens."""
    return "".join(f"; {one}" for one in walked.moved()[:3])


def _route(facts: Facts, walked: Verdicts) -> dict[str, Any]:
    if not facts.known("routes"):
        return _step("route", DOUBT, "routes could not be read")
    if facts.gaps("routes"):
        return _step("route", DOUBT, facts.gaps("routes")[0]["why"])
    if facts.default_routes():
        ways = ", ".join(sorted({f"default dev {one.get('dev')}" for one in facts.default_routes()}))
        return _step("route", OK, ways + (_translated(walked) if facts.asked.address is not None else ""))
    count = sum(1 for one in facts.items("routes") if one.get("type") in (None, "unicast"))
    return _step("route", OK if count else BAD, f"{count} routes, no default route" if count else "no route to anywhere")
