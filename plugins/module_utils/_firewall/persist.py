# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Sets at the next boot: files, the unit that loads them before any rule, and a rehearsal of that boot in a namespace of its own.

A set must be there before a rule names it, else the whole file of rules fails to load and the host comes up without a firewall.
So one unit loads all sets, ordered before every service that is known to load rules: netfilter-persistent (Debian), iptables and
ip6tables (RHEL), nftables, ufw, firewalld. Where nftables.service starts from an empty ruleset, its own file includes the sets.
"""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._kernel import command
from ansible_collections.netops.fleet.plugins.module_utils._safety import files, objects, packed_file
from ansible_collections.netops.fleet.plugins.module_utils._safety.change import Difference
from ansible_collections.netops.fleet.plugins.module_utils._safety.objects import Object

FOLDER = "/etc/netops.fleet/sets"
UNIT = "netops-fleet-sets.service"
_UNIT_FILE = f"/etc/systemd/system/{UNIT}"
#: Services that load rules, and in what files.
RULES = (
    (
        "netfilter-persistent.service",
        (("iptables-restore", "/etc/iptables/rules.v4"), ("ip6tables-restore", "/etc/iptables/rules.v6")),
    ),
    ("iptables.service", (("iptables-restore", "/etc/sysconfig/iptables"),)),
    ("ip6tables.service", (("ip6tables-restore", "/etc/sysconfig/ip6tables"),)),
)
_LOADERS = tuple(unit for unit, _files in RULES) + ("nftables.service", "ufw.service", "firewalld.service")
#: Files from which a distribution makes ipsets at boot.
_OTHERS = ("/etc/iptables/ipsets", "/etc/sysconfig/ipset", "/etc/ipset.conf", "/etc/sysconfig/ipset.d/*.set")
_NFT_FILES = ("/etc/nftables.conf", "/etc/sysconfig/nftables.conf")
_INCLUDE = f'include "{FOLDER}/*.nft"'
_FLUSH = re.compile(r"^[ \t]*flush[ \t]+ruleset\b[^\n]*\n?", re.MULTILINE)

_UNIT_TEXT = """# Written by netops.fleet: sets, before the rules that name them.
[Unit]
Description=Load the sets of netops.fleet
DefaultDependencies=no
RequiresMountsFor={folder}
After=local-fs.target systemd-modules-load.service ipset.service
Before={before} network-pre.target
Wants=network-pre.target

[Service]
Type=oneshot
{starts}

[Install]
WantedBy=sysinit.target
"""


@dataclass
class Boot:
    """What the next boot needs. notes: what the reader should know."""

    changes: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def path_of(backend: str, name: str) -> str:
    """name: of an ipset, or ``FAMILY TABLE SET``."""
    # A set's name may hold what a file's name may not, such as a slash.
    safe = re.sub(r"[^A-Za-z0-9_.+-]", lambda found: f"%{ord(found[0]):02x}", name.replace(" ", "+"))
    return f"{FOLDER}/{safe}.{'nft' if backend == 'nft' else 'ipset'}"


def plan(backend: str, name: str, text: str | None) -> Boot:
    """text: of the set's file, None for a set that goes. Reads the host; changes nothing."""
    return plan_all([(backend, name, text)])


def folded(made: dict[str, Any]) -> list[Difference]:
    """What a plan of firewall_consolidate needs: its ipsets are there when somebody saves the rules. See apply.run."""
    from ansible_collections.netops.fleet.plugins.module_utils._firewall import apply, set_ipset

    backend = set_ipset.Ipset()
    ipsets = [apply.wanted_set(one) for one in made["sets"] if one["backend"] == "ipset"]
    return plan_all([("ipset", wanted.name, backend.boot_text(wanted)) for wanted in ipsets]).changes if ipsets else []


def plan_all(items: list[tuple[str, str, str | None]]) -> Boot:
    """As plan, for several sets (back end, name, text) at once."""
    boot = Boot()
    if not objects.systemd():
        names = ", ".join(name for _backend, name, _text in items)
        boot.notes.append(f"{names} lasts until the next boot: systemd does not run here, and no other way to load sets is known")
        return boot
    paths = {path_of(backend, name): text for backend, name, text in items}
    kept = {path for path, text in paths.items() if text is not None}
    present = set(glob.glob(f"{glob.escape(FOLDER)}/*.ipset") + glob.glob(f"{glob.escape(FOLDER)}/*.nft"))
    wanted = (present - set(paths)) | kept
    for folder in (os.path.dirname(FOLDER), FOLDER):
        if kept and not os.path.isdir(folder):
            boot.changes.append(Difference(Object("dir", folder), None, {"mode": 0o700}))
    for path, text in paths.items():
        _content(boot, path, text)
    for backend, name, _text in items:
        if backend == "ipset":
            _others(boot, name)
    conf = _nft_file() if any(one.endswith(".nft") for one in wanted | present) else None
    if conf is not None:
        _include(boot, conf, any(one.endswith(".nft") for one in wanted))
    _unit(boot, sorted(one for one in wanted if conf is None or one.endswith(".ipset")))
    return boot


def _content(boot: Boot, path: str, text: str | None) -> None:
    target = Object("packed", path)
    before = packed_file.capture(path)
    data = None if text is None else text.encode("utf-8")
    after = None if data is None else packed_file.compared(data, 0o600)
    if not packed_file.same(before, after):
        write = partial(files.write, path, data, 0o600) if data is not None else partial(files.remove, path)
        boot.changes.append(Difference(target, before, after, write=write))


def _unit(boot: Boot, paths: list[str]) -> None:
    """The unit loads these files; without any it goes."""
    target, file = Object("unit", UNIT), Object("file", _UNIT_FILE)
    there = objects.capture(file)
    text = unit_text(paths)
    after = objects.file_state(text) if paths else None
    state = {"enabled": True, "active": False}
    if not paths and there is not None:
        boot.changes.append(Difference(target, objects.capture(target), None))
    if not objects.same(file, there, after):
        boot.changes.append(Difference(file, there, after))
    if paths:
        present = objects.capture(target)
        if not objects.same(target, present, state):
            boot.changes.append(Difference(target, present, state))


def unit_text(paths: list[str]) -> str:
    ipset, nft = command.find("ipset") or "/usr/sbin/ipset", command.find("nft") or "/usr/sbin/nft"
    starts = [
        f"ExecStart={nft} -f {path}" if path.endswith(".nft") else f"ExecStart={ipset} restore -exist -file {path}"
        for path in paths
    ]
    # systemd reads a percent sign as the start of a specifier.
    escaped = "\n".join(line.replace("%", "%%") for line in starts)
    return _UNIT_TEXT.format(folder=FOLDER, before=" ".join(_LOADERS), starts=escaped)


def _others(boot: Boot, name: str) -> None:
    """A file of the distribution that makes the same set would add what it held when it was saved."""
    words = re.compile(rf"^(create|add|-N|-A) {re.escape(name)} [^\n]*\n?", re.MULTILINE)
    for pattern in _OTHERS:
        for path in sorted(glob.glob(pattern)):
            target = Object("file", path)
            try:
                state = objects.capture(target)
            except objects.ObjectError as error:
                boot.notes.append(f"whether {path} makes {name} too is not known: {error}")
                continue
            if state is None or "text" not in state or not words.search(state["text"]):
                continue
            boot.changes.append(Difference(target, state, {**state, "text": words.sub("", state["text"])}))
            boot.notes.append(f"{path} made {name} at boot as well; the set's own file does it from now on")


def _nft_file() -> str | None:
    """The file that nftables.service loads, where it is enabled and starts from an empty ruleset."""
    state = objects.capture(Object("unit", "nftables.service"))
    if state is None or not state["enabled"]:
        return None
    for path in _NFT_FILES:
        found = objects.capture(Object("file", path))
        if found is not None and _FLUSH.search(found.get("text", "")):
            return path
    return None


def _include(boot: Boot, path: str, wanted: bool) -> None:
    """One line behind "flush ruleset": sets and rules are one transaction then."""
    target = Object("file", path)
    state = objects.capture(target)
    if state is None:
        raise AssertionError(f"{path} was there when it was chosen")
    text = state["text"].replace(f"{_INCLUDE}\n", "")
    if wanted:
        place = [found.end() for found in _FLUSH.finditer(text)][-1]
        text = f"{text[:place]}{_INCLUDE}\n{text[place:]}"
    if text != state["text"]:
        boot.changes.append(Difference(target, state, {**state, "text": text}))


# --- rehearsal


@dataclass
class Rehearsal:
    """steps: (what was run, why it failed or ''). gap: why no rehearsal was possible. states: of sets afterwards."""

    steps: list[tuple[str, str]] = field(default_factory=list)
    gap: str = ""
    states: dict[str, Any] = field(default_factory=dict)

    def problems(self, name: str) -> list[str]:
        """What would fail because of the set ``name``."""
        return [_failure(step) for step in self.steps if step[1] and _about(step, name)]

    def others(self, name: str) -> list[str]:
        """What would fail for another reason, with the set and without it."""
        return [_failure(step) for step in self.steps if step[1] and not _about(step, name)]


def _about(step: tuple[str, str], name: str) -> bool:
    return FOLDER in step[0] or re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", step[1]) is not None


def _failure(step: tuple[str, str]) -> str:
    return f"at the next boot {step[0]} would fail: {step[1]}"


def commands() -> list[list[str]]:
    """What the next boot runs, in its order: sets, then the rules of services that are enabled."""
    found = []
    conf = _nft_file()
    for path in sorted(glob.glob(f"{glob.escape(FOLDER)}/*.ipset")):
        found.append(["ipset", "restore", "-exist", "-file", path])
    if conf is None:
        found += [["nft", "-f", path] for path in sorted(glob.glob(f"{glob.escape(FOLDER)}/*.nft"))]
    for unit, loads in RULES:
        if _enabled(unit):
            if unit == "netfilter-persistent.service" and os.path.isfile(_OTHERS[0]):
                found.append(["ipset", "restore", "-exist", "-file", _OTHERS[0]])
            found += [[tool, path] for tool, path in loads if os.path.isfile(path)]
    if _enabled("nftables.service"):
        found += [["nft", "-f", path] for path in _NFT_FILES if os.path.isfile(path)][:1]
    return found


def _enabled(unit: str) -> bool:
    state = objects.capture(Object("unit", unit))
    return state is not None and bool(state["enabled"])


def rehearse(targets: list[Object]) -> Rehearsal:
    """Run the next boot's commands in a new network namespace, and look at these objects there. The host's own is left alone."""
    from ansible_collections.netops.fleet.plugins.module_utils._kernel import netns

    found = Rehearsal()
    wanted = commands()

    def inside() -> dict[str, Any]:
        steps = []
        for words in wanted:
            done = command.run(words, timeout=300)
            steps.append([" ".join(words), "" if done.ok else done.why()])
        return {"steps": steps, "states": {str(one): _compared(objects.capture(one)) for one in targets}}

    try:
        answer = netns.apart(inside)
    except OSError as error:
        found.gap = f"the next boot could not be rehearsed: {error.strerror or error}"
        return found
    found.steps = [(str(step[0]), str(step[1])) for step in answer["steps"]]
    found.states = answer["states"]
    return found


def _compared(state: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if state is None else {key: value for key, value in state.items() if key not in ("data", "text")}
