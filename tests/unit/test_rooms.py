# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Imports point downwards only, and what runs on hosts needs nothing but Python's own library."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = ROOT / "plugins"
PREFIX = "ansible_collections.netops.fleet.plugins."

#: Lower numbers may be imported by higher ones; the same room always.
RANK = {"_kernel": 0, "_evidence": 1, "_safety": 1, "_firewall": 2, "_tuning": 3, "_lvs": 3, "_diagnosis": 3}


def sources(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if path.name != "__init__.py")


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; AnsiballZ follows absolute ones"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


@pytest.mark.parametrize("path", sources(PLUGINS / "module_utils"), ids=lambda path: str(path.relative_to(PLUGINS)))
def test_imports_of_the_host_side_point_downwards(path: Path) -> None:
    room = path.relative_to(PLUGINS / "module_utils").parts[0]
    for name in imported(path):
        if name.startswith(PREFIX):
            parts = name[len(PREFIX) :].split(".")
            assert parts[0] == "module_utils", f"{path}: {name} is not on the host"
            other = parts[1]
            assert other == room or RANK[other] < RANK[room], f"{path}: {room} must not import {other}"
        else:
            top = name.split(".")[0]
            assert top in sys.stdlib_module_names or top == "__future__", f"{path}: {name} is no part of Python"


@pytest.mark.parametrize("path", sources(PLUGINS / "modules"), ids=lambda path: path.name)
def test_modules_are_thin(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    lines = sum((node.end_lineno or node.lineno) - node.lineno for node in functions)
    assert lines <= 80, f"{path}: {lines} lines of functions; logic belongs into module_utils"
    for name in imported(path):
        allowed = ("__future__", "ansible.module_utils", PREFIX + "module_utils", "typing")
        assert name.startswith(allowed), f"{path}: imports {name}"
