# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""The rules of a plan in the files that load them at boot: only lines that are the plan's old rules are replaced. Pure.

A file that says the same in other words is left as it is. Its rules give the same verdicts, one by one.
"""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._safety import filters

_COUNTS = re.compile(r"\A\[\d+:\d+\] ?")
_TABLE = re.compile(r"\A\s*table\s+(?:(\S+)\s+)?(\S+)\s*\{\s*\Z")
_CHAIN = re.compile(r"\A\s*chain\s+(\S+)\s*\{\s*\Z")
#: Lines of a chain that are no rules.
_HEAD = re.compile(r"\A(type|policy|flags|comment|devices?)\b|\A#|\A\Z")


def iptables(text: str, chains: list[dict[str, Any]]) -> tuple[str, str]:
    """(the file with these chains of one back end and family as planned, why it is left alone or "")."""
    lines = text.split("\n")
    places: dict[tuple[str, str], list[int]] = {}
    table = ""
    for number, line in enumerate(lines):
        if line[:1] == "*":
            table = line[1:].strip()
        words = _COUNTS.sub("", line).split(" ", 2)
        if words[0] == "-A" and len(words) > 1:
            places.setdefault((table, words[1]), []).append(number)
    gone: set[int] = set()
    blocks: dict[int, list[str]] = {}
    for one in chains:
        found = places.get((one["table"], one["chain"]), [])
        if [_COUNTS.sub("", lines[number]) for number in found] != [rule["text"] for rule in one["before"]]:
            return text, f"its rules of {one['table']} {one['chain']} are not those of this host"
        gone.update(found)
        blocks[found[0]] = [_kept(one, after, [lines[number] for number in found]) for after in one["after"]]
    return "\n".join(_replaced(lines, gone, blocks)), ""


def _kept(chain: dict[str, Any], after: dict[str, Any], lines: list[str]) -> str:
    """A rule that stays keeps its line, counters and all."""
    first = after["from"][0]
    same = len(after["from"]) == 1 and chain["before"][first]["text"] == after["text"]
    return lines[first] if same else str(after["text"])


def _replaced(lines: list[str], gone: set[int], blocks: dict[int, list[str]]) -> list[str]:
    found: list[str] = []
    for number, line in enumerate(lines):
        if number in blocks:
            found += blocks[number]
        if number not in gone:
            found.append(line)
    return found


def nft(text: str, chains: list[dict[str, Any]], sets: list[dict[str, Any]]) -> tuple[str, str]:
    """(the file with these chains as planned and their sets in their tables, why it is left alone or "")."""
    lines = text.split("\n")
    tables: dict[tuple[str, str], list[int]] = {}
    rules: dict[tuple[str, str, str], list[int]] = {}
    table: tuple[str, str] | None = None
    chain = ""
    depth = 0
    for number, line in enumerate(lines):
        plain = line.split("#", 1)[0] if '"' not in line else line
        head = _TABLE.match(plain) if depth == 0 else None
        inner = _CHAIN.match(plain) if depth == 1 and table is not None else None
        if head is not None:
            table = (head[1] or "ip", head[2])
            tables.setdefault(table, []).append(number)
        elif inner is not None:
            chain = inner[1]
        elif depth == 2 and chain and table is not None and line.strip() != "}" and not _HEAD.match(line.strip()):
            rules.setdefault((*table, chain), []).append(number)
        depth += plain.count("{") - plain.count("}")
        if depth < 2:
            chain = chain if inner is not None else ""
        if depth == 0:
            table = None
    gone: set[int] = set()
    blocks: dict[int, list[str]] = {}
    for one in chains:
        found = rules.get((one["family"], one["table"], one["chain"]), [])
        if [filters.plain(lines[number].strip()) for number in found] != [rule["text"] for rule in one["before"]]:
            return text, f"its rules of {one['family']} {one['table']} {one['chain']} are not those of this host"
        indent = lines[found[0]][: len(lines[found[0]]) - len(lines[found[0]].lstrip())]
        old = [lines[number] for number in found]
        gone.update(found)
        blocks[found[0]] = [
            line if line in old else f"{indent}{line}" for line in (_kept(one, after, old) for after in one["after"])
        ]
    heads: dict[int, list[str]] = {}
    for made in sets:
        places = tables.get((made["family"], made["table"]), [])
        if not places:
            return text, f"it does not have the table {made['family']} {made['table']}"
        heads.setdefault(places[0], []).extend(_set_lines(made))
    found_lines: list[str] = []
    for number, line in enumerate(lines):
        found_lines += blocks.get(number, [])
        if number not in gone:
            found_lines.append(line)
        found_lines += heads.get(number, [])
    return "\n".join(found_lines), ""


def _set_lines(made: dict[str, Any]) -> list[str]:
    elements = ",\n\t\t\t".join(f'{text} comment "{comment}"' if comment else text for text, comment in made["elements"])
    size = filters.room(made)
    kind = "flags interval" if size is None else f"size {size}"
    return [f"\tset {made['name']} {{", f"\t\ttype {made['type']}", f"\t\t{kind}", f"\t\telements = {{ {elements} }}", "\t}"]
