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

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import is_loopback
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.module_utils._firewall.fixes import delete, word
from ansible_collections.netops.fleet.plugins.module_utils._firewall.model import Rule
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet.peers import Comparison, Deviation
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet.text import clean

#: Seconds a clock must be off for certain. TLS and Kerberos fail at minutes, log correlation and leases at seconds.
CLOCK_LIMIT = 5.0
_SYSCTL = re.compile(r"\A[A-Za-z0-9_./@:-]+\Z")
_MAX_PROGRAMS = 16
_MAX_LISTED = 40
_MAX_PROBES = 256
_RULES = ("rule", "chain", "table", "set", "policy", "firewall")
_KINDS = {
    "resolver": "resolver-differs",
    "nameserver": "resolver-differs",
    "dns": "resolver-differs",
    "names": "resolver-differs",
}
#: Words of an answer's verdict that mean the traffic passes, and that nothing could be said. Others mean it does not.
GOOD = frozenset("ok works working reachable accept accepted open pass passes answered yes healthy clear".split())
UNSURE = frozenset(("unknown", "unclear", "could not tell", "partial", "unsure"))


def broken(answer: dict[str, Any] | None) -> bool:
    """Whether the host's own answer says that the target's traffic fails."""
    return answer is not None and answer["verdict"] not in GOOD and answer["verdict"] not in UNSURE


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
    """First pass: collect every host's probes of its peers, joined by the name of the probed host."""

    def __init__(self) -> None:
        self.seen: dict[str, PeerProbes] = {}

    def count(self, host: str, evidence: dict[str, Any], known: dict[str, list[str]]) -> None:
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


def fleet_findings(
    host: str,
    evidence: dict[str, Any],
    findings: list[dict[str, Any]],
    answer: dict[str, Any] | None,
    deviations: list[Deviation],
    comparison: Comparison,
    view: PeerProbes | None,
    clock: dict[str, float] | None,
) -> list[dict[str, Any]]:
    """The host's findings, its own and the fleet's. ``findings`` is not changed; what explains a deviation gets a line of it."""
    own = [{**finding, "evidence": list(finding.get("evidence", []))} for finding in findings]
    for finding in own:
        _shared(finding, host, comparison)
    left = _fold(own, deviations)
    silent = view is not None and view.silent * 2 > view.total and _listens(evidence)
    failing = broken(answer) or silent
    new = _programs([one for one in left if one.kind == "bpf" and one.usual is None], evidence, failing, bool(own))
    left = [one for one in left if not (one.kind == "bpf" and one.usual is None)]
    new += _sysctls([one for one in left if one.kind == "sysctl"])
    new += _listed("resolver-differs", "warning", "resolver", [one for one in left if one.kind in _KINDS], evidence)
    new += _listed("rule-differs", "warning", "rule", [one for one in left if one.kind in _RULES], evidence)
    rest: dict[str, list[Deviation]] = {}
    for one in left:
        if one.kind != "sysctl" and one.kind not in _KINDS and one.kind not in _RULES:
            rest.setdefault(one.kind, []).append(one)
    for kind, some in sorted(rest.items()):
        new += _listed("object-differs", "info", kind, some, evidence)
    if view is not None and silent:
        reach = _not_reached(host, evidence, view)
        cause = next((one for one in own if one["severity"] == "critical" and one["grade"] == "proven"), None)
        if cause is None:
            new.append(reach)
        else:
            cause["evidence"].append(reach.summary)
    if clock is not None and (clock["low"] > CLOCK_LIMIT or clock["high"] < -CLOCK_LIMIT):
        offset = _clock(host, clock)
        told = next((one for one in own if one["id"] == "clock-offset"), None)
        if told is None:
            new.append(offset)
        else:
            told["evidence"].append(offset.summary)
    return own + [finding.to_dict() for finding in new]


def _shared(finding: dict[str, Any], host: str, comparison: Comparison) -> None:
    """Say on how many hosts the blamed object is, so that a fault of all is seen as one."""
    for key in _objects(finding)[:3]:
        tally = comparison.tally(host, key)
        if tally is not None and tally[0] > 0:
            finding["evidence"].append(f"peers: on {tally[0]} of {tally[1]} hosts of {comparison.group(host)}: {clean(key, 200)}")


def _objects(finding: dict[str, Any]) -> list[str]:
    """Canonical keys a finding says it is about: ``data.object`` or ``data.objects``."""
    data = finding.get("data") or {}
    keys = data.get("objects") if isinstance(data.get("objects"), list) else [data.get("object")]
    return [key for key in keys if isinstance(key, str)]


def _fold(own: list[dict[str, Any]], deviations: list[Deviation]) -> list[Deviation]:
    """Deviations that no finding of the host explains; the others become lines of the finding that does."""
    left: list[Deviation] = []
    for one in deviations:
        cause = next((finding for finding in own if _explains(finding, one)), None)
        if cause is None:
            left.append(one)
            continue
        line = f"peers: {one.where()}: {clean(one.key, 200)}"
        if line not in cause["evidence"] and len(cause["evidence"]) < 100:
            cause["evidence"].append(line)
    return left


def _explains(finding: dict[str, Any], one: Deviation) -> bool:
    """Whether the deviation is the blamed object, or the table or chain that came with a blamed rule."""
    if one.key in _objects(finding):
        return True
    if finding["grade"] == "different":
        return False
    data = finding.get("data") or {}
    if one.kind in _RULES:
        text = data.get("text") or data.get("rule")
        if isinstance(text, str) and len(text) > 3 and text in one.key:
            return True
        table, family, chain = data.get("table"), data.get("family"), data.get("chain")
        if isinstance(table, str) and one.usual is None and one.kind in ("table", "chain", "policy"):
            words = one.key.split()
            fits = table in words and (not isinstance(family, str) or family in words)
            return fits and (one.kind == "table" or not isinstance(chain, str) or chain in words)
        return False
    if one.kind == "sysctl":
        name = one.key.split(" ", 1)[-1]
        return name in (data.get("sysctl"), data.get("name")) or name in finding["subject"].split()
    if one.kind == "bpf":
        name, tag = data.get("name"), data.get("tag")
        return isinstance(name, str) and name in one.key.split() and (not isinstance(tag, str) or tag in one.key.split())
    return False


def hook_entry(evidence: dict[str, Any], key: str) -> dict[str, Any] | None:
    """The entry of sections.hooks that an object key stands for: by its own key, else by hook place, name and tag."""
    words = set(key.split())
    best: tuple[int, dict[str, Any]] | None = None
    for entry in evidence["sections"].get("hooks") or []:
        if key in (entry.get("object"), entry.get("key")):
            found: dict[str, Any] = entry
            return found
        telling = [entry.get(part) for part in ("tag", "name", "hook", "dev", "device", "link", "interface")]
        score = sum(1 for part in telling if isinstance(part, str) and part and part in words)
        wrong = any(isinstance(entry.get(part), str) and entry[part] and entry[part] not in words for part in ("tag", "name"))
        if score >= 2 and not wrong and (best is None or score > best[0]):
            best = (score, entry)
    return best[1] if best else None


def shown_owner(entry: dict[str, Any] | None) -> str:
    """A hook's owner in one line."""
    owner = (entry or {}).get("owner") or (entry or {}).get("owners")
    if isinstance(owner, str):
        return clean(owner, 200)
    if isinstance(owner, list):
        shown = [shown_owner({"owner": one}) for one in owner[:4] if isinstance(one, (str, dict))]
        return ", ".join(shown) or "owner not told"
    if not isinstance(owner, dict):
        return "owner not told"
    name = owner.get("process") or owner.get("comm") or owner.get("name") or "?"
    parts = [f"pid {owner['pid']}"] if isinstance(owner.get("pid"), int) else []
    if isinstance(owner.get("unit"), str):
        parts.append(owner["unit"])
    return clean(f"{name} ({', '.join(parts)})" if parts else name, 200)


def _detach(entry: dict[str, Any] | None) -> list[str]:
    commands = (entry or {}).get("detach")
    if isinstance(commands, str) and commands:
        commands = [commands]
    if isinstance(commands, list) and commands and all(isinstance(one, str) for one in commands):
        found: list[str] = commands[:20]
        return found
    return ["# the way to detach it could not be told; stop its owner, or see: bpftool net show; bpftool link show"]


def _programs(found: list[Deviation], evidence: dict[str, Any], failing: bool, explained: bool) -> list[Finding]:
    """Programs on the packet path that the peers do not have."""
    out: list[Finding] = []
    # Something else already explains the failure: then the program is only unlike the peers.
    grade = "likely" if failing and not explained else "different"
    for one in found[:_MAX_PROGRAMS]:
        entry = hook_entry(evidence, one.key)
        owner = shown_owner(entry)
        unit = next((part for part in re.findall(r"[A-Za-z0-9@_.:-]+\.service", owner)), None)
        fix = _detach(entry)
        if unit is not None:
            fix = [*fix, f"# if it comes back, its owner attaches it again: systemctl status {unit}"]
        evidence_lines = [f"peers: {one.where()}", f"object: {clean(one.key, 400)} = {clean(one.have, 400)}", f"owner: {owner}"]
        if failing and grade == "likely":
            evidence_lines.append("the traffic asked for fails on this host, and no finding of its own explains it")
        out.append(
            Finding(
                "bpf-program-foreign",
                grade,
                "critical" if grade == "likely" else "warning",
                clean(f"BPF program {one.key.removeprefix('bpf ')}", 400),
                clean(f"a program on the packet path that the peers do not have: {one.where()}; owner {owner}", 600),
                evidence_lines,
                fix,
                ["D04"],
                {"object": one.key, "owner": owner, **_numbers(entry)},
            )
        )
    if len(found) > _MAX_PROGRAMS:
        out.append(_fold_list("bpf-program-foreign", "warning", "bpf", found[_MAX_PROGRAMS:], []))
    return out


def _numbers(entry: dict[str, Any] | None) -> dict[str, Any]:
    return {key: entry[key] for key in ("id", "prog_id", "link_id") if entry and isinstance(entry.get(key), int)}


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
    return Finding(name, "different", severity, clean(subject, 400), clean(summary, 800), lines, fix, ["D14"], data)


def _line(one: Deviation) -> str:
    peers = f"{one.usual_count} of {one.total} hosts of {one.group}"
    key = clean(one.key, 300)
    if one.usual is None:
        return f"{key}: only {one.where()}, {peers} do not have it"
    if one.have is None:
        return f"{key}: missing here, {peers} have it"
    return f"{key}: {clean(one.have, 200)} here, {clean(one.usual, 200)} on {peers}"


def _rule_fixes(found: list[Deviation], evidence: dict[str, Any]) -> list[str]:
    """Commands that remove the extra rules. Only where the evidence names exactly one rule of that text in that chain."""
    rules = (evidence["sections"].get("firewall") or {}).get("rules")
    fixes: list[str] = []
    for one in found[:_MAX_LISTED]:
        if one.kind != "rule" or one.usual is not None or not isinstance(rules, list):
            continue
        fitting = []
        for raw in rules:
            try:
                rule = Rule.from_dict(raw)
            except (KeyError, TypeError, ValueError, AttributeError):
                continue
            if isinstance(rule.text, str) and rule.text and rule.text in one.key and str(rule.chain) in one.key.split():
                fitting.append(rule)
        if len(fitting) == 1:
            fixes.append(delete(fitting[0]))
    return ["# only if the peers are right:", *fixes] if fixes else []


def _listens(evidence: dict[str, Any]) -> bool:
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


def _not_reached(host: str, evidence: dict[str, Any], view: PeerProbes) -> Finding:
    target = evidence["target"]
    shown = f"{target['proto']}/{target['port']}"
    name = clean(host, 100)
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
        ],
        ["# the packets are lost between the peers and the socket: see this host's coverage for what could not be checked"],
        ["D01"],
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
            "# then start the time service that this host should use: systemctl restart chronyd (or systemd-timesyncd)",
        ],
        ["D11"],
        {"low": low, "high": high},
    )
