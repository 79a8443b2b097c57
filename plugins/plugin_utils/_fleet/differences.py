# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This plugin util is PRIVATE to the collection. It can change at any time.
"""Findings that only the fleet can make: unlike its peers, not reached by its peers, a clock apart from the controller's.

Evidence that is a consequence of an object already blamed on the host is added to that finding, not told twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import is_loopback, shown_address
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.objects import objects
from ansible_collections.netops.fleet.plugins.module_utils._firewall.fixes import delete, word
from ansible_collections.netops.fleet.plugins.module_utils._firewall.model import Rule
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet.peers import Comparison, Deviation
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet.text import clean

#: Seconds a clock must be off for certain. TLS and Kerberos fail at minutes, log correlation and leases at seconds.
CLOCK_LIMIT = 5.0
#: A rule or policy that can stop packets, in the words of nft and iptables-save; a digest of many rules may hold one.
_STOPS = re.compile(r"\b(?:drop|reject|DROP|REJECT|digest)\b")
_SYSCTL = re.compile(r"\A[A-Za-z0-9_./@:-]+\Z")
_MAX_PROGRAMS = 16
_MAX_LISTED = 40
_MAX_PROBES = 256
_RULES = ("rule", "rules", "chain")
_NAMES = ("resolver", "name")


def broken(answer: dict[str, Any] | None) -> bool:
    """Whether the host's own answer says that the target's traffic fails."""
    return answer is not None and answer["verdict"] == "blocked"


@dataclass
class PeerProbes:
    """What other hosts saw of one host. sources: per status the hosts that probed, bounded."""

    counts: dict[str, int] = field(default_factory=dict)
    sources: dict[str, list[str]] = field(default_factory=dict)
    targets: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def silent(self) -> int:
        return self.counts.get("timeout", 0)

    def line(self) -> str:
        return ", ".join(f"{count} of {self.total} peers: {clean(status, 40)}" for status, count in sorted(self.counts.items()))


class PeerView:
    """First pass: collect every host's probes of its peers, joined by the name of the probed host.

    reaching: hosts that reach a target elsewhere.
    """

    def __init__(self) -> None:
        self.seen: dict[str, PeerProbes] = {}
        self.reaching = 0

    def count(self, host: str, evidence: dict[str, Any], known: dict[str, list[str]]) -> None:
        self.reaching += _reaches(evidence)
        for probe in (evidence["sections"].get("probes") or [])[:_MAX_PROBES]:
            peer, status = probe.get("peer"), probe.get("status")
            if probe.get("kind") != "tcp" or not isinstance(peer, str) or not isinstance(status, str):
                continue
            if peer not in known or peer == host:
                continue
            view = self.seen.setdefault(peer, PeerProbes())
            status = status[:40]
            if len(view.counts) > 20 and status not in view.counts:
                status = "other"
            view.counts[status] = view.counts.get(status, 0) + 1
            sources = view.sources.setdefault(status, [])
            if len(sources) < 10:
                sources.append(host)
            target = probe.get("target")
            if isinstance(target, str) and (len(view.targets) < 4 or target in view.targets):
                view.targets[target[:100]] = view.targets.get(target[:100], 0) + 1


def _reaches(evidence: dict[str, Any]) -> bool:
    """Does a probe of this host get to the target, one elsewhere?"""
    target = evidence.get("target") or {}
    if not target.get("address"):
        return False
    place = shown_address(str(target["address"]), target["port"])
    probes = (evidence["sections"].get("probes") or [])[:_MAX_PROBES]
    return any(one.get("target") == place and not one.get("peer") and one.get("status") == "ok" for one in probes)


def fleet_answer(
    answer: dict[str, Any] | None, findings: list[dict[str, Any]], view: PeerProbes | None, target: str | None
) -> dict[str, Any] | None:
    """The host's answer with what its peers saw: a connection that was made, or not made, says more than any reading of rules."""
    if answer is None or target is None:
        return answer
    steps = [dict(step) for step in answer.get("steps", [])]
    if answer["verdict"] == "blocked" and any(one["id"] == "target-unreachable" for one in _consequences(findings)):
        return {**answer, "text": answer["text"] + _likely_by(findings, steps), "steps": steps}
    if view is None or answer["verdict"] == "blocked":
        return answer
    reach = next((step for step in steps if step["step"] == "reachability"), None)
    if reach is None:
        return answer
    reached = view.counts.get("ok", 0)
    if reached == view.total:
        reach.update(result="ok", detail=f"{reached} of {view.total} peers connect")
        text = f"{reached} of {view.total} peers connect to {target}."
        if answer["verdict"] != "open":
            text += f" {answer['text']}"
        return {"verdict": "open", "text": text, "steps": steps}
    if view.silent * 2 <= view.total:
        reach.update(result="unknown", detail=view.line())
        return {"verdict": "unknown", "text": f"Not all peers connect to {target}: {view.line()}.", "steps": steps}
    reach.update(result="bad", detail=f"{view.silent} of {view.total} peers get no answer")
    text = f"{target} is blocked here: {view.silent} of {view.total} peers get no answer"
    text += _likely_by(findings, steps)
    return {"verdict": "blocked", "text": text, "steps": steps}


def _consequences(findings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What fails by a program that the peers do not have."""
    return [each for one in findings if one["id"] == "bpf-program-foreign" for each in one["data"].get("consequences") or []]


def _likely_by(findings: list[dict[str, Any]], steps: list[dict[str, Any]]) -> str:
    """Words that name the program, where one is the likely reason; the step about hooks then says so too."""
    suspect = next((one for one in findings if one["id"] == "bpf-program-foreign" and one["grade"] == "likely"), None)
    if suspect is None:
        return ""
    for step in steps:
        if step["step"] == "hooks":
            step.update(result="bad", detail=suspect["summary"])
    return f"; likely by {suspect['subject']} ({suspect['data']['owner']})"


def fleet_findings(
    host: str,
    evidence: dict[str, Any],
    findings: list[dict[str, Any]],
    answer: dict[str, Any] | None,
    deviations: list[Deviation],
    comparison: Comparison,
    view: PeerProbes | None,
    clock: dict[str, float] | None,
    reaching: int = 0,
) -> list[dict[str, Any]]:
    """The host's findings, its own and the fleet's. ``findings`` is not changed; what explains a deviation gets a line of it.

    reaching: hosts that reach a target elsewhere.
    """
    own = [{**finding, "evidence": list(finding.get("evidence", []))} for finding in findings]
    blamed = [_blamed(finding, evidence) for finding in own]
    for finding, keys in zip(own, blamed):
        _shared(finding, keys, host, comparison)
    left = _fold(own, blamed, deviations)
    silent = view is not None and view.silent * 2 > view.total and listens(evidence)
    failing = broken(answer) or silent
    proven = [one for one in own if one["severity"] == "critical" and one["grade"] == "proven"]
    # A target that others reach: a program of this host alone, on the way there, is the likely reason.
    symptom = next((one for one in proven if reaching and _suspects(one) is not None), None)
    cause = next((one for one in proven if one is not symptom), None)
    hooked = {entry.get("key") for entry in evidence["sections"].get("hooks") or []}
    foreign = [one for one in left if one.usual is None and (one.kind == "bpf" or one.key in hooked)]
    new = _programs(foreign, evidence, failing and cause is None, _suspects(symptom))
    if symptom is not None and _explained(symptom, new):
        own.remove(symptom)
    left = [one for one in left if one not in foreign]
    new += _sysctls([one for one in left if one.kind == "sysctl"])
    new += _listed("resolver-differs", "warning", "resolver", [one for one in left if one.kind in _NAMES], evidence)
    rules = [one for one in left if one.kind in _RULES]
    stops = any(_STOPS.search(f"{one.key} {one.have or ''}") for one in rules)
    new += _listed("rule-differs", "warning" if stops else "info", "rule", rules, evidence)
    rest: dict[str, list[Deviation]] = {}
    for one in left:
        if one.kind != "sysctl" and one.kind not in _NAMES and one.kind not in _RULES:
            rest.setdefault(one.kind, []).append(one)
    for kind, some in sorted(rest.items()):
        new += _listed("object-differs", "info", kind, some, evidence)
    if view is not None and silent:
        suspects = [one for one in new if one.id == "bpf-program-foreign" and one.grade == "likely"]
        reach = _not_reached(host, evidence, view)
        for lines, data in (
            [(cause["evidence"], cause.setdefault("data", {}))] if cause else [(one.evidence, one.data) for one in suspects]
        ):
            lines.append(f"consequence: {reach.summary}")
            data.setdefault("consequences", []).append({"id": reach.id, "subject": reach.subject})
        if cause is None and not suspects:
            new.append(reach)
    if view is not None and not silent:
        new += _disagreement(host, evidence, own, view)
    if clock is not None and (clock["low"] > CLOCK_LIMIT or clock["high"] < -CLOCK_LIMIT):
        offset = _clock(host, clock)
        told = next((one for one in own if one["id"] == "clock-offset"), None)
        if told is None:
            new.append(offset)
        else:
            told["evidence"].append(offset.summary)
    return own + [finding.to_dict() for finding in new]


def _shared(finding: dict[str, Any], blamed: list[str], host: str, comparison: Comparison) -> None:
    """Say on how many hosts the blamed object is, so that a fault of all is seen as one."""
    for key in blamed[:3]:
        tally = comparison.tally(host, key)
        if tally is not None and tally[0] > 0:
            finding["evidence"].append(f"peers: on {tally[0]} of {tally[1]} hosts of {comparison.group(host)}: {clean(key, 200)}")


def _blamed(finding: dict[str, Any], evidence: dict[str, Any]) -> list[str]:
    """Canonical keys of the objects that a finding of the host is about, from its data."""
    data = finding.get("data") or {}
    keys = data.get("objects")
    found = [key for key in (keys if isinstance(keys, list) else [data.get("object")]) if isinstance(key, str)]
    parts: dict[str, Any] = {"addresses": evidence["sections"].get("addresses")}
    if isinstance(data.get("rule"), dict):
        parts["firewall"] = {"rules": [data["rule"]]}
    elif isinstance(data.get("chain"), dict):
        parts["firewall"] = {"chains": [data["chain"]]}
    if "firewall" in parts:
        try:
            found += objects({"sections": parts})
        except (KeyError, TypeError, AttributeError):
            pass  # data of another shape names no object; the deviation then stays a finding of its own
    if isinstance(data.get("sysctl"), str):
        found.append(f"sysctl {data['sysctl']}")
    if isinstance(data.get("link"), str):
        found += [f"{kind} {data['link']}" for kind in ("mtu", "qdisc", "link")]
    if finding["id"].startswith("port-") and evidence.get("target"):
        found.append(f"listener {evidence['target']['proto']}/{evidence['target']['port']}")
    return found


def _fold(own: list[dict[str, Any]], blamed: list[list[str]], deviations: list[Deviation]) -> list[Deviation]:
    """Deviations that no finding of the host explains; the others become lines of the finding that does."""
    left: list[Deviation] = []
    for one in deviations:
        cause = next((finding for finding, keys in zip(own, blamed) if _explains(finding, keys, one)), None)
        if cause is None:
            left.append(one)
            continue
        line = f"peers: {one.where()}: {clean(one.key, 200)}"
        if line not in cause["evidence"] and len(cause["evidence"]) < 100:
            cause["evidence"].append(line)
    return left


def _explains(finding: dict[str, Any], keys: list[str], one: Deviation) -> bool:
    """Whether the deviation is the blamed object, or what came in the same table with a blamed rule."""
    if one.key in keys:
        return True
    if one.kind == "name":
        return str(finding["id"]).startswith("resolver-")
    rule = (finding.get("data") or {}).get("rule")
    if one.kind in ("chain", "rule") and one.usual is None and isinstance(rule, dict):
        return one.key.startswith(f"{one.kind} {rule.get('backend')} {rule.get('family')} {rule.get('table')} ")
    return False


def hook_entries(evidence: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The entries of sections.hooks that an object key stands for: one, or several alike."""
    return [entry for entry in evidence["sections"].get("hooks") or [] if entry.get("key") == key]


def shown_owners(entries: list[dict[str, Any]]) -> str:
    """Who holds the hooks, in one line: ``netsec-agent (pid 977, netsec-agent.service)``."""
    shown: dict[str, None] = {}
    for entry in entries:
        owners = entry.get("owners")
        for owner in owners if isinstance(owners, list) else []:
            if not isinstance(owner, dict):
                continue
            told = [f"pid {owner['pid']}"] if isinstance(owner.get("pid"), int) else []
            if isinstance(owner.get("unit"), str):
                told.append(clean(owner["unit"], 100))
            shown[
                f"{clean(owner.get('process') or '?', 60)} ({', '.join(told)})"
                if told
                else clean(owner.get("process") or "?", 60)
            ] = None
    if not shown:
        pins = [pin for entry in entries for pin in entry.get("pin") or [] if isinstance(pin, str)]
        return f"none; kept by {clean(pins[0], 200)}" if pins else "not told"
    names = list(shown)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _detach(entries: list[dict[str, Any]]) -> list[str]:
    """The best command of each entry; each alone removes its attachment, so the others are told as remarks."""
    first: dict[str, None] = {}
    others: dict[str, None] = {}
    for entry in entries[:20]:
        commands = entry.get("detach")
        lines = [line for line in commands if isinstance(line, str)] if isinstance(commands, list) else []
        best = next((line for line in lines if not line.startswith("#")), None)
        if best is not None:
            first[best] = None
        for line in lines:
            if line != best:
                others[line if line.startswith("#") else f"# or: {line}"] = None
    if not first and not others:
        return ["# the way to detach it could not be told; stop its owner, or see: bpftool net show; bpftool link show"]
    return [*first, *list(others)[:6]]


def _suspects(finding: dict[str, Any] | None) -> list[str] | None:
    """Keys of the programs that a target elsewhere may fail by; None where the finding names none."""
    named = ((finding or {}).get("data") or {}).get("suspects")
    return named if isinstance(named, list) and named else None


def _explained(symptom: dict[str, Any], found: list[Finding]) -> bool:
    """A target elsewhere that fails by programs is told with them, where there are such."""
    blamed = [one for one in found if one.grade == "likely"]
    for one in blamed:
        one.evidence.append(f"consequence: {symptom['summary']}")
        one.data.setdefault("consequences", []).append({"id": symptom["id"], "subject": symptom["subject"]})
    return bool(blamed)


def _programs(
    found: list[Deviation], evidence: dict[str, Any], failing: bool, suspects: list[str] | None = None
) -> list[Finding]:
    """Programs on the packet path that the peers do not have: one finding each, but those that cannot drop together.

    suspects: keys of those that the failing traffic passes; None: any may.
    """
    out: list[Finding] = []
    harmless = [one for one in found if all(entry.get("can_drop") == "no" for entry in hook_entries(evidence, one.key))]
    if len(harmless) > 1:
        found = [one for one in found if one not in harmless]
        out.append(_harmless(harmless, evidence))
    for one in found[:_MAX_PROGRAMS]:
        entries = hook_entries(evidence, one.key)
        # One that cannot drop does not explain a failure: then it is only unlike the peers.
        passed = suspects is None or one.key in suspects
        grade = "likely" if failing and passed and any(entry.get("can_drop") != "no" for entry in entries) else "different"
        owner = shown_owners(entries)
        fix = _detach(entries)
        evidence_lines = [f"peers: {one.where()}", f"object: {clean(one.key, 400)} = {clean(one.have, 400)}", f"owner: {owner}"]
        evidence_lines += [clean(line, 300) for entry in entries[:1] for line in (entry.get("drop_evidence") or [])[:4]]
        if grade == "likely":
            evidence_lines.append("the traffic asked for fails on this host, and no finding of its own explains it")
        out.append(
            Finding(
                "bpf-program-foreign",
                grade,
                "critical" if grade == "likely" else "info" if one in harmless else "warning",
                clean(_hook_name(one.key), 400),
                clean(f"{_hook_kind(one.key)} on the packet path that the peers do not have: {one.where()}; owner {owner}", 600),
                evidence_lines,
                fix,
                ["D14"],
                {"object": one.key, "owner": owner, **_numbers(entries)},
            )
        )
    if len(found) > _MAX_PROGRAMS:
        out.append(_fold_list("bpf-program-foreign", "warning", "bpf", found[_MAX_PROGRAMS:], []))
    return out


def _hook_name(key: str) -> str:
    """``BPF program tcx ingress ...``; a filter with actions is none: ``filter tc ingress ...``."""
    return f"BPF program {key.removeprefix('bpf ')}" if key.startswith("bpf ") else key


def _hook_kind(key: str) -> str:
    return "a program" if key.startswith("bpf ") else "a traffic control filter" if key.startswith("filter ") else "a hook"


def _harmless(found: list[Deviation], evidence: dict[str, Any]) -> Finding:
    """Programs that cannot drop, in one finding: unlike the peers, but no cause of lost packets."""
    entries = [entry for one in found for entry in hook_entries(evidence, one.key)]
    finding = _fold_list("bpf-program-foreign", "info", "bpf", found, ["# only if the peers are right:", *_detach(entries)])
    owner = shown_owners(entries)
    finding.summary = clean(
        f"{len(found)} programs on the packet path that the peers do not have; none can drop; owner {owner}", 600
    )
    finding.requirement = ["D14"]
    finding.data.update(owner=owner, can_drop="no")
    return finding


def _numbers(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """What a program needs to find the hook again: ids of program and link, owners' pids."""
    out: dict[str, Any] = {}
    for name in ("id", "link_id"):
        out[name] = next((entry[name] for entry in entries if isinstance(entry.get(name), int)), None)
    for name in ("hook", "direction", "name", "tag", "can_drop"):
        out[name] = next((entry[name] for entry in entries if isinstance(entry.get(name), str)), None)
    owners = [owner for entry in entries for owner in entry.get("owners") or [] if isinstance(owner, dict)]
    out["owners"] = [{key: owner.get(key) for key in ("pid", "process", "unit")} for owner in owners[:8]]
    return out


def _sysctls(found: list[Deviation]) -> list[Finding]:
    fix = []
    for one in found[:_MAX_LISTED]:
        name = one.key.split(" ", 1)[-1]
        if one.usual is not None and one.have is not None and _SYSCTL.match(name) and one.usual.isprintable():
            fix.append(f"sysctl -w {word(name + '=' + one.usual)}")
    return [_fold_list("sysctl-differs", "warning", "sysctl", found, fix)] if found else []


def _listed(name: str, severity: str, kind: str, found: list[Deviation], evidence: dict[str, Any]) -> list[Finding]:
    if not found:
        return []
    fix = []
    if name == "rule-differs":
        fix = _rule_fixes(found, evidence)
    elif name == "resolver-differs":
        fix = ["# make the resolver what the peers use: see /etc/resolv.conf, resolvectl status"]
    return [_fold_list(name, severity, kind, found, fix)]


def _fold_list(name: str, severity: str, kind: str, found: list[Deviation], fix: list[str]) -> Finding:
    first = found[0]
    short = clean(first.key.split(" ", 1)[-1], 200)
    subject = f"{kind} {short}" if len(found) == 1 else f"{len(found)} objects of kind {kind}, first: {short}"
    lines = [_line(one) for one in found[:_MAX_LISTED]]
    if len(found) > _MAX_LISTED:
        lines.append(f"and {len(found) - _MAX_LISTED} more")
    summary = f"{_line(first)}" if len(found) == 1 else f"unlike its peers in {len(found)} objects; rarest: {_line(first)}"
    data = {"object": first.key} if len(found) == 1 else {"objects": [one.key for one in found[:_MAX_LISTED]]}
    return Finding(name, "different", severity, clean(subject, 400), clean(summary, 800), lines, fix, ["D34"], data)


def _line(one: Deviation) -> str:
    peers = f"{one.usual_count} of {one.total} hosts of {one.group}"
    key = clean(one.key, 300)
    if one.usual is None:
        return f"{key}: only {one.where()}, {peers} do not have it"
    if one.have is None:
        return f"{key}: missing here, {peers} have it"
    return f"{key}: {clean(one.have, 200)} here, {clean(one.usual, 200)} on {peers}"


def _rule_fixes(found: list[Deviation], evidence: dict[str, Any]) -> list[str]:
    """Commands that remove the extra rules."""
    wanted = [one.key for one in found[:_MAX_LISTED] if one.kind == "rule" and one.usual is None]
    rules = (evidence["sections"].get("firewall") or {}).get("rules")
    fixes: list[str] = []
    addresses = evidence["sections"].get("addresses")
    for raw in rules if wanted and isinstance(rules, list) else []:
        try:
            keys = objects({"sections": {"addresses": addresses, "firewall": {"rules": [raw]}}})
            if any(key in wanted for key in keys):
                fixes.append(delete(Rule.from_dict(raw)))
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
    return ["# only if the peers are right:", *fixes[:_MAX_LISTED]] if fixes else []


def listens(evidence: dict[str, Any]) -> bool:
    """Whether a socket waits for the target's traffic on an address that others can reach."""
    target, sockets = evidence.get("target"), evidence["sections"].get("sockets")
    listeners = sockets.get("listeners") if sockets else None
    if not target or not isinstance(listeners, list):
        return False
    for one in listeners:
        if isinstance(one, dict) and one.get("port") == target["port"] and one.get("proto") == target["proto"]:
            address = one.get("address")
            if not isinstance(address, str) or not is_loopback(address):
                return True
    return False


def _walked(evidence: dict[str, Any]) -> list[str]:
    """What the host's own walk says of the target: probe and walk stand side by side."""
    steps = (evidence.get("answer") or {}).get("steps") or []
    return [f"the host's own walk: {clean(one.get('detail'), 300)}" for one in steps if one.get("step") == "firewall"]


def _disagreement(host: str, evidence: dict[str, Any], own: list[dict[str, Any]], view: PeerProbes) -> list[Finding]:
    """The host's own walk says that the packet is stopped, and its peers connect all the same."""
    told = next((one for one in own if one["id"] == "firewall-drops-target" and one["grade"] == "proven"), None)
    target = evidence.get("target")
    if told is None or not target or view.counts.get("ok", 0) != view.total:
        return []
    stopped = (told.get("data") or {}).get("addresses")
    asked = {one.rpartition(":")[0].strip("[]") for one in view.targets}
    if not isinstance(stopped, list) or not asked <= {str(one) for one in stopped}:
        return []
    shown, name = f"{target['proto']}/{target['port']}", clean(host, 100)
    return [
        Finding(
            "walk-probe-disagree",
            "likely",
            "warning",
            f"{name} {shown}",
            f"The rules of {name} as they were read stop {shown}, and yet {view.total} peers connect to it",
            [
                f"the walk: {clean(told['summary'], 400)}",
                f"peers: {view.line()}",
                f"asked: {', '.join(clean(one, 100) for one in view.targets)}",
            ],
            ["# diagnose again: rules that changed between the two look like this; if it stays, the walk misreads that rule"],
            ["D10", "D15"],
        )
    ]


def _not_reached(host: str, evidence: dict[str, Any], view: PeerProbes) -> Finding:
    target = evidence["target"]
    shown = f"{target['proto']}/{target['port']}"
    name = clean(host, 100)
    fix = "# the packets are lost between the peers and the socket: see this host's coverage for what could not be checked"
    return Finding(
        "peer-cannot-connect",
        "proven",
        "critical" if view.silent == view.total else "warning",
        f"{name} {shown}",
        f"{view.silent} of {view.total} peers get no answer from {name} on {shown} although it listens",
        [
            f"peers: {view.line()}",
            f"no answer to {', '.join(clean(one, 100) for one in view.sources['timeout'])}",
            f"asked: {', '.join(clean(one, 100) for one in view.targets)}",
            *_walked(evidence),
        ],
        [fix],
        ["D10", "D33"],
        {"peers": view.total, "silent": view.silent},
    )


def _clock(host: str, clock: dict[str, float]) -> Finding:
    low, high = clock["low"], clock["high"]
    way = "ahead of" if low > 0 else "behind"
    least = low if low > 0 else -high
    return Finding(
        "clock-offset",
        "proven",
        "warning",
        f"clock of {clean(host, 100)}",
        f"the clock is at least {least:.1f} s {way} the controller's",
        [f"offset between {low:+.3f} s and {high:+.3f} s, from the times before and after the host's answer"],
        [
            "timedatectl status",
            "# then restart the host's time service: systemctl restart chronyd (or systemd-timesyncd)",
        ],
        ["D22"],
        {"low": low, "high": high},
    )
