# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The recipes of docs/findings that need whole hosts are run as printed: each must bring out its finding on gpu02, and end."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest

from tests import tools
from tests.lab.lab import Lab, names

PAGES = sorted((tools.ROOT / "docs" / "findings").glob("*.md"))
_BLOCK = re.compile(r"^## Try it in the lab$.*?^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
#: What the recipes call, without making the controller's own environment first.
_MAKE = re.compile(r"""^make diagnose INVENTORY="\$inventory"(?: DIAGNOSE_ARGS='([^']*)')?$""", re.MULTILINE)


def recipe(page: Path) -> str | None:
    """The page's block of commands, where it boots a lab."""
    block = _BLOCK.search(page.read_text(encoding="utf-8"))
    return block[1] if block and "tests.lab up" in block[1] else None


#: Findings by the commands that bring them out: some pages share them.
RECIPES: dict[str, set[str]] = {}
for _page in PAGES:
    RECIPES.setdefault(recipe(_page) or "", set()).add(_page.stem)
RECIPES.pop("", None)


def test_every_finding_of_the_fleet_has_a_recipe() -> None:
    wanted = {
        "bpf-program-foreign",
        "sysctl-differs",
        "resolver-differs",
        "rule-differs",
        "object-differs",
    }
    assert wanted <= set().union(*RECIPES.values())


@pytest.mark.lab
@pytest.mark.parametrize("printed", RECIPES, ids=lambda printed: "+".join(sorted(RECIPES[printed])))
def test_recipe_brings_out_its_finding(printed: str, tmp_path: Path) -> None:
    name = f"recipe-{os.getpid()}"
    script = printed.replace("--name try", f"--name {name}")
    assert len(_MAKE.findall(script)) == 1

    def playbook(line: re.Match[str]) -> str:
        return f'ansible-playbook -i "$inventory" playbooks/diagnose.yml -e diagnose_output={tmp_path} {line[1] or ""}'

    environment = {
        "ANSIBLE_CONFIG": str(tools.ROOT / "ansible.cfg"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    try:
        tools.passes(["bash", "-euo", "pipefail", "-c", _MAKE.sub(playbook, script)], env=environment, timeout_s=400)
        assert name not in names(), "the recipe leaves its lab"
    finally:
        if name in names():
            Lab(name).down()
    report = json.loads((tmp_path / "latest" / "report.json").read_text())
    found = {(host["name"], finding["id"]) for host in report["hosts"] for finding in host["findings"]}
    assert {("gpu02", finding) for finding in RECIPES[printed]} <= found
    faulty = set(re.findall(r"fault inject \S+ (\S+)", printed)) | {"gpu02"}
    assert {host for host, _finding in found} <= faulty, f"a healthy host has a finding: {sorted(found)}"
