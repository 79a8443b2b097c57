# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""The files from which this host loads rules and sets at boot, as a plan wants them; tried in a namespace of their own first.

A rule that names an ipset fails when the set is not there, and the whole file with it. So the rules of iptables are changed
only where the distribution loads ipsets before rules: netfilter-persistent with its ipset plugin (Debian), ipset.service
(RHEL). A file of nft holds its sets itself.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._firewall import boot_rules
from ansible_collections.netops.fleet.plugins.module_utils._firewall.model import IPSET, IPTABLES_LEGACY, NFT
from ansible_collections.netops.fleet.plugins.module_utils._kernel import command
from ansible_collections.netops.fleet.plugins.module_utils._safety import filters, objects
from ansible_collections.netops.fleet.plugins.module_utils._safety.change import Difference
from ansible_collections.netops.fleet.plugins.module_utils._safety.objects import Object

NFT_FILES = ("/etc/nftables.conf", "/etc/sysconfig/nftables.conf")
_PLUGIN = "/usr/share/netfilter-persistent/plugins.d/10-ipset"
#: (rules of IPv4, rules of IPv6, sets, what must be there for sets to be loaded first)
IPTABLES_FILES = (
    (
        "/etc/iptables/rules.v4",
        "/etc/iptables/rules.v6",
        "/etc/iptables/ipsets",
        "/usr/share/netfilter-persistent/plugins.d/10-ipset",
    ),
    ("/etc/sysconfig/iptables", "/etc/sysconfig/ip6tables", "/etc/sysconfig/ipset", "ipset.service"),
)
# Nothing of these lines is data; the words behind them are.
_LOAD_NFT = 'nft -f "$1" && nft list ruleset'
_LOAD_IPTABLES = 'ipset restore -exist -file "$1" && "$2" "$3" && "$4"'


@dataclass
class _File:
    path: str
    state: dict[str, Any]

    @property
    def text(self) -> str:
        return str(self.state.get("text", ""))


def changes(plan: dict[str, Any], root: str = "", sets_loaded: bool = False) -> tuple[list[Difference], list[str]]:
    """(files to be written, what the reader should know). Changes nothing.

    root: of the host's files, for tests. sets_loaded: something else loads the ipsets before any rule.
    """
    found: list[Difference] = []
    notes: list[str] = []
    native = [one for one in plan["chains"] if one["backend"] == NFT]
    if native:
        for path in NFT_FILES:
            _nft_file(root + path, native, [one for one in plan["sets"] if one["backend"] == NFT], found, notes)
    others = [one for one in plan["chains"] if one["backend"] != NFT]
    if others:
        for four, six, sets, needed in IPTABLES_FILES:
            _iptables_files(root, (four, six), sets, "" if sets_loaded else needed, others, plan["sets"], found, notes)
    return found, notes


def _read(path: str, notes: list[str]) -> _File | None:
    try:
        state = objects.capture(Object("file", path))
    except objects.ObjectError as error:
        notes.append(f"{error}: it is left as it is, and loads unfolded rules of the same verdicts at boot")
        return None
    return None if state is None or "text" not in state else _File(path, state)


def _too_large(text: str) -> str:
    return "" if len(text.encode("utf-8")) <= objects.MAX_FILE // 2 else "it is too large to be journalled"


def _left(notes: list[str], path: str, why: str) -> None:
    notes.append(f"{path} is left as it is: {why}. What it loads at boot is not folded")


def _nft_file(
    path: str, chains: list[dict[str, Any]], sets: list[dict[str, Any]], found: list[Difference], notes: list[str]
) -> None:
    file = _read(path, notes)
    if file is None:
        return
    text, why = boot_rules.nft(file.text, chains, sets)
    why = why or _too_large(text) or _tried(["sh", "-c", _LOAD_NFT, "sh"], [text], chains, lambda line: line.strip())
    if why:
        _left(notes, path, why)
        return
    found.append(Difference(Object("file", path), file.state, {**file.state, "text": text}))


def _iptables_files(
    root: str,
    rules: tuple[str, str],
    sets_path: str,
    needed: str,
    chains: list[dict[str, Any]],
    sets: list[dict[str, Any]],
    found: list[Difference],
    notes: list[str],
) -> None:
    """Rules of both families and their sets; nothing where sets are not loaded first. needed: "" when that is settled."""
    loaded: list[Difference] = []
    wanted: list[dict[str, Any]] = []
    for path, family in zip(rules, ("ip", "ip6")):
        mine = [one for one in chains if one["family"] == family]
        file = _read(root + path, notes) if mine else None
        if file is None:
            continue
        if needed and not _sets_first(root, needed):
            _left(notes, path, f"nothing loads ipsets before it ({needed} is not there)")
            continue
        tools = _tools(family, mine[0]["backend"])
        text, why = boot_rules.iptables(file.text, mine)
        if tools is None or len({one["backend"] for one in mine}) > 1:
            why = why or "the command that loads it at boot is of another back end than the rules"
        names = {word for one in mine for rule in one["after"] for word in str(rule["text"]).split(" ")}
        used = [one for one in sets if one["backend"] == IPSET and one["name"] in names]
        why = why or _too_large(text) or _too_large(_ipset_text(used))
        if not why and tools is not None:
            words = ["sh", "-c", _LOAD_IPTABLES, "sh"]
            why = _tried(words, [_ipset_text(used), text], mine, filters.plain, between=tools[0], last=tools[1])
        if why:
            _left(notes, path, why)
            continue
        wanted += used
        loaded.append(Difference(Object("file", file.path), file.state, {**file.state, "text": text}))
    if loaded and not needed:
        found += loaded
    elif loaded:
        # Sets before rules, here and on the way back in the other order.
        file = _read(root + sets_path, notes)
        before = None if file is None else file.state
        state = before or objects.file_state("", 0o600)
        text = ("" if file is None else file.text.rstrip("\n") + "\n" if file.text else "") + _ipset_text(wanted)
        found.append(Difference(Object("file", root + sets_path), before, {**state, "text": text}))
        found += loaded


def _sets_first(root: str, needed: str) -> bool:
    if needed.startswith("/"):
        return os.path.exists(root + needed)
    state = objects.capture(Object("unit", needed))
    return state is not None and bool(state["enabled"])


def _tools(family: str, backend: str) -> tuple[str, str] | None:
    """The commands a boot uses, where they speak to this back end."""
    plain = "ip6tables" if family == "ip6" else "iptables"
    answer = command.run([f"{plain}-restore", "--version"], timeout=5)
    legacy = "nf_tables" not in answer.out
    if not answer.ok or legacy != (backend == IPTABLES_LEGACY):
        return None
    return f"{plain}-restore", f"{plain}-save"


def _ipset_text(sets: list[dict[str, Any]]) -> str:
    lines = []
    for one in sets:
        comments = any(comment for _element, comment in one["elements"])
        if one["type"] == "bitmap:port":
            head = f"create {one['name']} bitmap:port range 0-65535"
        else:
            count = len(one["elements"])
            size = f"hashsize {max(1024, 1 << (count - 1).bit_length())} maxelem {max(65536, count + count // 4)}"
            head = f"create {one['name']} {one['type']} family {one['family']} {size}"
        lines.append(head + (" comment" if comments else ""))
        for element, comment in one["elements"]:
            clean = filters.comment(comment)
            lines.append(f"add {one['name']} {element}" + (f' comment "{clean}"' if clean else ""))
    return "".join(f"{line}\n" for line in lines)


@contextmanager
def _written(texts: list[str]) -> Iterator[list[str]]:
    with tempfile.TemporaryDirectory(prefix="netops_fleet_") as folder:
        paths = []
        for number, text in enumerate(texts):
            paths.append(os.path.join(folder, str(number)))
            with open(paths[-1], "w", encoding="utf-8") as file:
                file.write(text)
        yield paths


def _tried(
    words: list[str], texts: list[str], chains: list[dict[str, Any]], plain: Any, between: str = "", last: str = ""
) -> str:
    """Load the files in a new network namespace, as a boot would; why they do not come out as planned, or ""."""
    with _written(texts) as paths:
        argv = ["unshare", "--net", *words, paths[0], *([between] if between else []), *paths[1:], *([last] if last else [])]
        done = command.run(argv, timeout=120)
    if not done.ok:
        return f"tried in a namespace of its own it fails: {done.why()}"
    lines = [filters.plain(plain(line)) for line in done.out.split("\n")]
    for one in chains:
        rules = [rule["text"] for rule in one["after"]]
        if one["backend"] != NFT:
            seen = [line for line in lines if line.startswith(f"-A {one['chain']} ")]
        else:
            start = next((at for at, line in enumerate(lines) if line == rules[0]), -1)
            seen = lines[start : start + len(rules)] if start >= 0 else []
        if seen != rules:
            return f"tried in a namespace of its own, {one['table']} {one['chain']} is not as planned"
    return ""
