# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This plugin util is PRIVATE to the collection. It can change at any time.
"""What an evidence file may hold. A host is not trusted: every part used later is checked here for type and length.

Hand-written, because it runs twice over every host of a fleet and a general validator costs more than the comparison itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

SCHEMA = 1
STATUSES = ("ok", "unreachable", "timeout", "failed", "invalid", "skipped")
#: Not in an envelope: a host that was asked and left no file.
NO_ANSWER = "no answer"
GRADES = ("proven", "likely", "different")
SEVERITIES = ("critical", "warning", "info")
VERDICTS = ("blocked", "open", "unknown")
STEPS = ("ok", "bad", "unknown")
COVERAGE = ("ok", "partial", "failed", "skipped")

MAX_TEXT = 16_384
MAX_NAME = 256
MAX_OBJECTS = 20_000
MAX_KEY = 1_024
MAX_VALUE = 8_192
MAX_FINDINGS = 2_000
MAX_LINES = 500
MAX_ENTRIES = 200_000
_MAX_PROBLEMS = 20

#: The type of each section's data. None is allowed everywhere: a section that was not read.
_SECTIONS: dict[str, type] = {
    "links": list,
    "addresses": list,
    "routes": list,
    "policy_rules": list,
    "neighbours": list,
    "sockets": dict,
    "drops": dict,
    "drop_reasons": dict,
    "sysctls": dict,
    "interrupts": dict,
    "conntrack": dict,
    "names": dict,
    "clock": dict,
    "hooks": list,
    "firewall": dict,
    "probes": list,
    "locality": dict,
    "walks": list,
    "pairs": list,
    "machine": dict,
    "kernel_log": list,
    "tunnels": dict,
    "physical": list,
    "configured": dict,
    "services": dict,
    "installed": dict,
    "mesh": dict,
    "kubernetes": dict,
}


class _Problems:
    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, where: str, what: str) -> None:
        if len(self.found) < _MAX_PROBLEMS:
            self.found.append(f"{where}: {what}")

    def text(self, value: object, where: str, limit: int = MAX_TEXT) -> None:
        if not isinstance(value, str):
            self.add(where, f"is {_kind(value)}, must be text")
        elif len(value) > limit:
            self.add(where, f"is {len(value)} characters long, allowed are {limit}")

    def number(self, value: object, where: str) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self.add(where, f"is {_kind(value)}, must be a number")

    def one_of(self, value: object, where: str, allowed: tuple[str, ...]) -> None:
        if not isinstance(value, str) or value not in allowed:
            self.add(where, f"must be one of {', '.join(allowed)}")

    def lines(self, value: object, where: str) -> None:
        for index, line in enumerate(self.items(value, where, MAX_LINES)):
            self.text(line, f"{where}[{index}]")

    def items(self, value: object, where: str, limit: int = MAX_ENTRIES) -> list[Any]:
        if not isinstance(value, list):
            self.add(where, f"is {_kind(value)}, must be a list")
            return []
        if len(value) > limit:
            self.add(where, f"has {len(value)} entries, allowed are {limit}")
            return []
        return value

    def mapping(self, value: object, where: str, keys: Iterable[str] = ()) -> dict[str, Any] | None:
        if not isinstance(value, dict):
            self.add(where, f"is {_kind(value)}, must be a mapping")
            return None
        missing = [key for key in keys if key not in value]
        if missing:
            self.add(where, f"lacks {', '.join(missing)}")
            return None
        return value


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    names: dict[type, str] = {dict: "a mapping", list: "a list", str: "text", int: "a number", float: "a number"}
    return names.get(type(value), type(value).__name__)


def validate(evidence: object) -> list[str]:
    """Problems of one host's evidence, at most 20 lines "where: what"; empty when it is of the schema."""
    problems = _Problems()
    if not isinstance(evidence, dict):
        return [f"evidence is {_kind(evidence)}, must be a mapping"]
    if evidence.get("schema") != SCHEMA or isinstance(evidence.get("schema"), bool):
        return [f"schema is {str(evidence.get('schema'))[:40]!r}, this version of the collection reads {SCHEMA}"]
    parts = ("collector", "host", "window", "coverage", "sections", "objects", "findings")
    if problems.mapping(evidence, "evidence", parts) is None:
        return problems.found
    _head(problems, evidence)
    _coverage(problems, evidence["coverage"])
    _sections(problems, evidence["sections"])
    _objects(problems, evidence["objects"])
    for index, finding in enumerate(problems.items(evidence["findings"], "findings", MAX_FINDINGS)):
        _finding(problems, finding, f"findings[{index}]")
    if evidence.get("answer") is not None:
        _answer(problems, evidence["answer"])
    return problems.found


def finding_problems(findings: object, answer: object) -> list[str]:
    """The same check for findings and an answer that were computed again."""
    problems = _Problems()
    for index, finding in enumerate(problems.items(findings, "findings", MAX_FINDINGS)):
        _finding(problems, finding, f"findings[{index}]")
    if answer is not None:
        _answer(problems, answer)
    return problems.found


def _head(problems: _Problems, evidence: dict[str, Any]) -> None:
    for part in ("collector", "host", "window"):
        mapping = problems.mapping(evidence[part], part)
        for key, value in (mapping or {}).items():
            if isinstance(value, str):
                problems.text(value, f"{part}.{key[:40]}")
            elif value is not None and not isinstance(value, (int, float)):
                problems.add(f"{part}.{key[:40]}", f"is {_kind(value)}, must be text or a number")
    target = evidence.get("target")
    if target is not None and problems.mapping(target, "target", ("proto", "port")) is not None:
        problems.text(target["proto"], "target.proto", 16)
        problems.number(target["port"], "target.port")
        if target.get("address") is not None:
            problems.text(target["address"], "target.address", 64)


def _coverage(problems: _Problems, coverage: object) -> None:
    for index, entry in enumerate(problems.items(coverage, "coverage", 200)):
        where = f"coverage[{index}]"
        if problems.mapping(entry, where, ("section", "status")) is None:
            continue
        problems.text(entry["section"], f"{where}.section", 64)
        problems.one_of(entry["status"], f"{where}.status", COVERAGE)
        for number, gap in enumerate(problems.items(entry.get("gaps", []), f"{where}.gaps", 1000)):
            if problems.mapping(gap, f"{where}.gaps[{number}]", ("what", "why")) is not None:
                problems.text(gap["what"], f"{where}.gaps[{number}].what")
                problems.text(gap["why"], f"{where}.gaps[{number}].why")


def _sections(problems: _Problems, sections: object) -> None:
    mapping = problems.mapping(sections, "sections")
    for name, data in (mapping or {}).items():
        wanted = _SECTIONS.get(name)
        if wanted is None or data is None:
            continue  # a newer collector may know more sections; they are stored and not used
        if not isinstance(data, wanted):
            problems.add(f"sections.{name}", f"is {_kind(data)}, must be {'a list' if wanted is list else 'a mapping'}")
        elif wanted is list:
            entries = problems.items(data, f"sections.{name}")
            for index, entry in enumerate(entries):
                if not isinstance(entry, dict):
                    problems.add(f"sections.{name}[{index}]", f"is {_kind(entry)}, must be a mapping")
                    break


def _objects(problems: _Problems, objects: object) -> None:
    mapping = problems.mapping(objects, "objects")
    if mapping is None:
        return
    for key, value in mapping.items():
        if len(key) > MAX_KEY or not isinstance(value, str) or len(value) > MAX_VALUE:
            problems.add(
                f"objects.{key[:60]}", f"must be text of at most {MAX_VALUE} characters under a key of at most {MAX_KEY}"
            )
            return


def _finding(problems: _Problems, finding: object, where: str) -> None:
    keys = ("id", "grade", "severity", "subject", "summary")
    mapping = problems.mapping(finding, where, keys)
    if mapping is None:
        return
    problems.text(mapping["id"], f"{where}.id", 100)
    problems.one_of(mapping["grade"], f"{where}.grade", GRADES)
    problems.one_of(mapping["severity"], f"{where}.severity", SEVERITIES)
    problems.text(mapping["subject"], f"{where}.subject")
    problems.text(mapping["summary"], f"{where}.summary")
    for part in ("evidence", "fix", "requirement"):
        problems.lines(mapping.get(part, []), f"{where}.{part}")
    problems.mapping(mapping.get("data", {}), f"{where}.data")


def _answer(problems: _Problems, answer: object) -> None:
    mapping = problems.mapping(answer, "answer", ("verdict", "text"))
    if mapping is None:
        return
    problems.one_of(mapping["verdict"], "answer.verdict", VERDICTS)
    problems.text(mapping["text"], "answer.text")
    for index, step in enumerate(problems.items(mapping.get("steps", []), "answer.steps", 50)):
        where = f"answer.steps[{index}]"
        if problems.mapping(step, where, ("step", "result")) is not None:
            problems.text(step["step"], f"{where}.step", 100)
            problems.one_of(step["result"], f"{where}.result", STEPS)
            if step.get("detail") is not None:
                problems.text(step["detail"], f"{where}.detail")
