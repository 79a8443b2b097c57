# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Remove what stops a packet: plan, record, removal, the files that would bring it back, and the way back.

A plan is a list of steps ``{kind: rule | command, text, do: [argv], undo: [argv], note}``; its id is a digest of what the plan
removes, so that a plan that was shown is the plan that is carried out, or nothing is.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import letpass, verdict, world
from ansible_collections.netops.fleet.plugins.module_utils._firewall import fixes, model, walk
from ansible_collections.netops.fleet.plugins.module_utils._firewall.packet import Packet
from ansible_collections.netops.fleet.plugins.module_utils._kernel import command
from ansible_collections.netops.fleet.plugins.module_utils._safety import records

#: Files from which distributions load rules at boot.
FILES = (
    "/etc/nftables.conf", "/etc/sysconfig/nftables.conf", "/etc/iptables/rules.v4", "/etc/iptables/rules.v6",
    "/etc/sysconfig/iptables", "/etc/sysconfig/ip6tables",
)  # fmt: skip
_MAX_FILE = 1 << 20
_COUNTER = re.compile(r"\bcounter(?: packets \d+ bytes \d+)?\b")


class RemedyError(Exception):
    """It cannot be done, or was not; the message says how far it came and what to do."""


@dataclass
class Step:
    """One object. by: what decided, as packet_verdict says it. do, undo: argument lists."""

    by: dict[str, Any]
    do: list[list[str]]
    undo: list[list[str]]
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {
            "where": self.by["where"],
            "text": self.by["text"],
            "do": [" ".join(shlex.quote(one) for one in argv) for argv in self.do],
            "undo": [" ".join(shlex.quote(one) for one in argv) for argv in self.undo],
            "note": self.note,
        }


@dataclass
class Plan:
    """verdict: as it is now. steps: empty for a packet that passes. obstacle: why no plan can be made."""

    verdict: dict[str, Any]
    steps: list[Step] = field(default_factory=list)
    obstacle: str = ""

    @property
    def id(self) -> str:
        said = json.dumps([[step.by["where"], _plain(step.by["text"]), step.do] for step in self.steps])
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        return {"id": self.id, "steps": [step.to_dict() for step in self.steps], "obstacle": self.obstacle}


def plan(host: world.Host, packet: Packet, suspected: bool = False) -> Plan:
    """What must go for the packet to pass. Nothing is changed. suspected: programs that may stop it are part of the plan."""
    walker = host.walker()
    follow = walker.outgoing if packet.own else walker.incoming
    found = Plan(verdict.answer(host, walker, packet))
    without: set[int] = set()
    decision = follow(packet)
    for _turn in range(letpass.MAX_OBJECTS):
        if decision.verdict == walk.ACCEPT:
            return found
        by = verdict.decider(decision)
        hook = (decision.object or {}).get("hook")
        if by is None:
            programs = [one for one in decision.possible if one.hook is not None]
            if not programs or len(programs) < len(decision.possible) or not suspected:
                found.obstacle = decision.why or "what stops the packet is not known"
                if programs and not suspected:
                    found.obstacle += "; a plan with suspected programs has it"
                return found
            _add_programs(found, programs, without)
            decision = follow(packet, frozenset(without))
            continue
        if decision.rule is not None:
            if decision.rule.owner != "user":
                found.obstacle = f"{by['where']} belongs to {decision.rule.owner}, which may write it again: change it there"
                return found
            found.steps.append(_rule_step(decision.rule, by))
            without.add(id(decision.rule))
        elif hook is not None:
            found.steps.append(_hook_step(hook, by))
            without.add(id(hook))
        else:
            found.obstacle = f"{by['where']}: only rules and programs are removed; see fix"
            return found
        decision = follow(packet, frozenset(without))
    found.obstacle = f"more than {letpass.MAX_OBJECTS} objects stop this packet"
    return found


def _add_programs(found: Plan, programs: list[walk.Possible], without: set[int]) -> None:
    """A step for each; programs of one service go together."""
    for one in programs:
        step = _hook_step(one.hook or {}, {"kind": "hook", "where": one.name(), "text": one.why})
        step.note = f"suspected: {one.why}" + (f"; {step.note}" if step.note else "")
        without.add(id(one.hook))
        if step.do not in [other.do for other in found.steps]:
            found.steps.append(step)


def _rule_step(rule: model.Rule, by: dict[str, Any]) -> Step:
    if rule.backend == model.NFT:
        place = [rule.family, rule.table, rule.chain]
        do = ["nft", "delete", "rule", *place, "handle", str(rule.handle)]
        text = re.sub(r"\bcounter packets \d+ bytes \d+", "counter", rule.text)
        # By its place, counted from 0, behind the rule before it: handles are others after a boot.
        way = ["insert", "rule", *place] if rule.line == 1 else ["add", "rule", *place, "index", str(rule.line - 2)]
        undo = ["nft", *way, *text.split(" ")]
        return Step(by, [do], [undo])
    tool = fixes.tool(rule.backend, rule.family)
    words = _words(rule.text)
    return Step(
        by,
        [[tool, "-w", "-t", rule.table, "-D", rule.chain, *words]],
        [[tool, "-w", "-t", rule.table, "-I", rule.chain, str(rule.line), *words]],
    )


def _words(text: str) -> list[str]:
    """What stands behind ``-A CHAIN``, with the quotes of iptables-save taken away."""
    found = re.findall(r'"(?:\\.|[^"\\])*"|\S+', text)[2:]
    return [re.sub(r"\\(.)", r"\1", one[1:-1]) if one[:1] == '"' else one for one in found]


def _hook_step(hook: dict[str, Any], by: dict[str, Any]) -> Step:
    """A program: its service is stopped and kept from the next boot, or it is detached."""
    lines = [str(one) for one in hook.get("detach") or [] if not str(one).startswith("#")]
    if not lines:
        raise RemedyError(f"{by['where']}: no command that detaches it is known")
    first = shlex.split(lines[0])
    if first[:2] == ["systemctl", "stop"]:
        unit = first[2]
        return Step(by, [["systemctl", "disable", "--now", unit]], [["systemctl", "enable", "--now", unit]], f"{unit} held it")
    return Step(by, [first], [], "a program that is detached is attached again by what loaded it, not by undo")


# --- carrying it out


def _carry_out(argvs: list[list[str]]) -> str:
    for argv in argvs:
        done = command.run(argv, timeout=60)
        if not done.ok:
            return f"{' '.join(argv)}: {done.why()}"
    return ""


def remove(found: Plan, confirm: str, files: Iterable[str], folder: str) -> dict[str, Any]:
    """Carry the plan out. Returns the record. Raises RemedyError, with everything put back that can be."""
    if found.obstacle:
        raise RemedyError(f"nothing was changed: {found.obstacle}")
    if confirm != found.id:
        raise RemedyError(
            f"nothing was changed: the plan is {found.id}, confirmed was {confirm or 'none'}; look at the plan again"
        )
    texts = [step.by["text"] for step in found.steps if step.by["kind"] == "rule"]
    saved = edits(texts, files)
    record = {
        "steps": [{"where": one.by["where"], "do": one.do, "undo": one.undo} for one in found.steps],
        "files": [{"path": path, "before": before, "after": after} for path, before, after in saved],
    }
    try:
        records.write(found.id, record, folder)
    except OSError as error:
        raise RemedyError(f"nothing was changed: {folder}: {error.strerror}") from None
    gone: list[Step] = []
    for step in found.steps:
        why = _carry_out(step.do)
        if why:
            left = [_carry_out(one.undo) for one in gone]  # in order: each counts on those before it
            records.remove(found.id, folder)
            raise RemedyError("; ".join([why, *(one for one in left if one)]) + "; what was removed before is back")
        gone.append(step)
    for path, _before, after in saved:
        _replace(path, after)
    return record


def undo(name: str, folder: str) -> list[str]:
    """Put back what the record ``name`` tells; returns what was put back. Raises RemedyError."""
    try:
        record = records.read(name, folder)
    except (OSError, ValueError) as error:
        raise RemedyError(str(error)) from None
    if record is None:
        return []
    done: list[str] = []
    for one in record["steps"]:  # in order: each place counts on those before it
        why = _carry_out(one["undo"])
        if why:
            raise RemedyError(f"{why}; the record is kept in {folder}")
        if one["undo"]:
            done.append(str(one["where"]))
    for one in record["files"]:
        if _text(one["path"]) != one["after"]:
            raise RemedyError(f"{one['path']} was changed since; the record is kept in {folder}, put the line back by hand")
        _replace(one["path"], one["before"])
        done.append(str(one["path"]))
    records.remove(name, folder)
    return done


# --- what brings rules back at boot


def _plain(text: str) -> str:
    return " ".join(_COUNTER.sub("", text).replace(";", " ").split())


def edits(texts: list[str], files: Iterable[str]) -> list[tuple[str, str, str]]:
    """(path, text now, text without the rules) of files that load one of these rules at boot."""
    wanted = {_plain(one) for one in texts}
    found = []
    for path in files:
        before = _text(path)
        if before is None:
            continue
        lines = before.splitlines(keepends=True)
        kept = [line for line in lines if _plain(re.sub(r"\A\[\d+:\d+\] ", "", line.strip())) not in wanted]
        if len(kept) < len(lines):
            found.append((path, before, "".join(kept)))
    return found


def _text(path: str) -> str | None:
    try:
        if os.stat(path).st_size > _MAX_FILE:
            return None
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return None


def _replace(path: str, text: str) -> None:
    """A new file in the old one's place, with its owner and mode."""
    old = os.stat(path)
    fresh = f"{path}.netops-fleet"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        os.fchmod(file.fileno(), old.st_mode & 0o7777)
        os.fchown(file.fileno(), old.st_uid, old.st_gid)
        file.flush()
        os.fsync(file.fileno())
    os.rename(fresh, path)
