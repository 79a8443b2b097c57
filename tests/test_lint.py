# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Linters and type checkers find nothing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import yaml

from tests import tools

PACKAGE = "ansible_collections.netops.fleet.plugins"


def test_ruff() -> None:
    tools.passes(["ruff", "check", "."])


def test_ruff_format() -> None:
    tools.passes(["ruff", "format", "--check", "."])


def test_mypy_plugins() -> None:
    tools.passes(["mypy", "-p", PACKAGE])


def test_mypy_tests() -> None:
    files = [str(path) for path in tools.shipped_files() if path.suffix == ".py" and path.parts[:2] == ("tests", "lab")]
    tools.passes(["mypy", *files, "tests/tools.py"], env={"MYPYPATH": f"{tools.ROOT}:{tools.ROOT / '.collections'}"})


def test_changelog(tmp_path: Path) -> None:
    """Fragments are well formed, and a release can be made of them. (A copy is released, under a version of its own.)"""
    tools.passes(["antsibull-changelog", "lint"])
    for path in tools.shipped_files():
        if path.parts[0] in ("changelogs", "galaxy.yml", "plugins", "meta", "roles"):
            (tmp_path / path.parent).mkdir(parents=True, exist_ok=True)
            shutil.copy2(tools.ROOT / path, tmp_path / path)
    (tmp_path / "changelogs" / "fragments" / "99-probe.yml").write_text("bugfixes:\n  - lint - a probe of the release notes.\n")
    tools.passes(["antsibull-changelog", "release", "--version", "99.0.0"], cwd=tmp_path)
    assert "a probe of the release notes" in (tmp_path / "CHANGELOG.md").read_text()


def test_every_source_file_has_its_licence_line() -> None:
    missing = []
    for path in tools.shipped_files():
        if path.parts[0] in ("plugins", "roles", "playbooks", "tests", "molecule") and path.suffix in (".py", ".sh"):
            head = (tools.ROOT / path).read_text(errors="replace")[:600]
            if head and "SPDX-License-Identifier: GPL-3.0-or-later" not in head:  # an empty __init__.py says nothing
                missing.append(str(path))
    assert missing == []


def test_ansible_lint(tmp_path: Path) -> None:
    """Profile production, nothing skipped; and the settings really say so."""
    settings = yaml.safe_load((tools.ROOT / ".ansible-lint").read_text())
    assert settings["profile"] == "production"
    assert not settings.get("skip_list") and not settings.get("warn_list")
    env = {
        "HOME": str(tmp_path),
        "ANSIBLE_HOME": str(tmp_path / "ansible"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PATH": f"{tools.BIN}{os.pathsep}{os.environ['PATH']}",
    }
    output = tools.passes(["ansible-lint", "--offline", "--strict", "--nocolor"], env=env)
    assert "production" in output, output
