# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The recipes of docs/findings are run as printed: each must bring out its finding, and take away what it made."""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernel.conftest import ROOT, environment

PAGES = sorted(path for path in (ROOT / "docs" / "findings").glob("*.md") if path.name != "README.md")
#: What stands for `make diagnose` inside the namespace: the collector, with the options given on the line.
COLLECT = """
import json, sys
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import collect
given = dict(word.split("=", 1) for word in sys.argv[2:])
lists = {name: given[name].split(",") if name in given else [] for name in ("names", "ping", "ntp", "http")}
lists["http"] = [{"url": url} for url in lists["http"]]
options = {name: spec.get("default") for name, spec in collect.ARGUMENTS.items()}
options |= {"target": given.get("target"), "window": 0.5, "probe_timeout": 1.0, **lists}
evidence = collect.collect(collect.Options.from_params(options))
with open(sys.argv[1], "w") as file:
    json.dump(evidence["findings"], file)
"""
_COUNTER = itertools.count(1)


def recipe(page: Path) -> str | None:
    """The page's block of commands, where it needs no more than a namespace."""
    block = re.search(r"^## Try it in the lab$.*?^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return block[1] if block and "ip netns add try" in block[1] else None


RECIPES = [page for page in PAGES if recipe(page)]


def test_most_pages_have_a_recipe() -> None:
    assert len(RECIPES) >= 15


@pytest.mark.kernel
@pytest.mark.parametrize("page", RECIPES, ids=lambda page: page.stem)
def test_recipe_brings_out_its_finding(page: Path, tmp_path: Path) -> None:
    name = f"nf-{os.getpid()}-d{next(_COUNTER)}"
    found = tmp_path / "findings.json"
    script = re.sub(r"\btry\b", name, recipe(page) or "")
    diagnose = re.compile(rf"^ip netns exec {name} make diagnose(?: DIAGNOSE_ARGS='([^']*)')?$", re.MULTILINE)
    assert len(diagnose.findall(script)) == 1

    def collector(line: re.Match[str]) -> str:
        options = re.findall(r"-e diagnose_(\S+=\S+)", line[1] or "")
        return shlex.join(["ip", "netns", "exec", name, sys.executable, "-c", COLLECT, str(found), *options])

    process = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", diagnose.sub(collector, script)],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=90)
        assert process.returncode == 0, output
        ids = {finding["id"] for finding in json.loads(found.read_text())}
        assert page.stem in ids, output
        assert not Path(f"/run/netns/{name}").exists() and not Path(f"/etc/netns/{name}").exists(), "the recipe leaves something"
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
        if Path(f"/run/netns/{name}").exists():
            subprocess.run(["ip", "netns", "del", name], check=False)
        if Path(f"/etc/netns/{name}").exists():
            subprocess.run(["rm", "-r", f"/etc/netns/{name}"], check=False)
