# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""The answer for a target: listening, firewall, hooks, reachability, route, in this order, and one sentence. (D10, D16)"""

from __future__ import annotations

import os
import re
from typing import Any

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
            _hooks(facts),
            _reachability(facts),
            _route(facts, walked),
        ]
    else:
        steps = [_reachability(facts), _route(facts, walked), _hooks(facts)]
    bad = next((step for step in steps if step["result"] == BAD), None)
    doubts = [step for step in steps if step["result"] == DOUBT]
    if bad is not None:
        return {"verdict": "blocked", "text": f"{target} is blocked here: {bad['detail']}", "steps": steps}
    if doubts:
        said = "; ".join(f"{step['step']}: {step['detail']}" for step in doubts)
        return {
            "verdict": "unknown",
            "text": f"Nothing found that blocks {target}, but not all could be told: {said}",
            "steps": steps,
        }
    return {"verdict": "open", "text": f"No known anomaly: nothing on this host blocks {target}.", "steps": steps}


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


def _hooks(facts: Facts) -> dict[str, Any]:
    """Programs on the way in that may drop. Whether they belong there only peers can tell."""
    if not facts.known("hooks"):
        return _step("hooks", DOUBT, "programs on the packet path could not be read")
    suspects = [one for one in facts.items("hooks") if _on_the_way(facts, one) and one.get("can_drop") != "no"]
    if suspects:
        shown = {f"{one.get('name') or one.get('kind') or '?'} ({one['hook']} {_place(one)})" for one in suspects}
        names = ", ".join(sorted(shown)[:6])
        return _step("hooks", DOUBT, f"{len(suspects)} program(s) may drop: {names}; compare with peers")
    gaps = facts.gaps("hooks")
    if gaps:
        return _step("hooks", DOUBT, "; ".join(gap["why"] for gap in gaps[:2]))
    return _step("hooks", OK, "no program on the way in can drop")


#: Where a hook sees packets that come in for a service.
_INWARD = {
    "tc": ("ingress",),
    "tcx": ("ingress",),
    "xdp": ("ingress", None),
    "netkit": ("primary", "peer"),
    "netfilter": ("prerouting", "input"),
    "cgroup": ("inet_ingress",),
}


def _on_the_way(facts: Facts, hook: dict[str, Any]) -> bool:
    if (hook.get("interface") or {}).get("name") == "lo":
        return False
    group = hook.get("cgroup") or {}
    if hook.get("hook") == "cgroup" and (group.get("here") is False or not _holds_listener(facts, str(group.get("path")))):
        return False
    return hook.get("direction") in _INWARD.get(str(hook.get("hook")), ())


def _holds_listener(facts: Facts, path: str) -> bool:
    """Is a process that listens on the target in this cgroup or below it? One that could not be told may be."""
    target = facts.target
    if target is None or target.address is not None:
        return True
    place = re.sub(r"\A/sys/fs/cgroup(?:/unified)?", "", path).rstrip("/")
    for listener in facts.listeners(target.proto, target.port):
        own = listener.get("cgroup")
        if own is None or own == place or own.startswith(f"{place}/"):
            return True
    return False


def _place(hook: dict[str, Any]) -> str:
    group = str((hook.get("cgroup") or {}).get("path") or "")
    return str((hook.get("interface") or {}).get("name") or os.path.basename(group.rstrip("/")) or "this namespace")


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
    place = shown_address(target.address, target.port)
    tried = [one for one in facts.probes(target.proto) if one.get("target") == place and not one.get("peer")]
    if not tried:
        return _step("reachability", DOUBT, "no probe was made")
    bad = next((one for one in tried if one.get("status") not in PASSED), None)
    if bad is not None:
        return _step("reachability", BAD, f"probe to {target}: {bad.get('status')} {bad.get('detail') or ''}".strip())
    return _step("reachability", OK, f"probe to {target}: {tried[0].get('status')}")


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
