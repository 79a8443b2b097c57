# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drills: a fault is injected, found and taken back; also when what injected it is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.netops.fleet.plugins.filter import drill as filters
from tests.faults import runner
from tests.faults.world import World
from tests.kernel.conftest import ROOT, until

pytestmark = pytest.mark.kernel

_RUN = """
import json, sys
from ansible_collections.netops.fleet.plugins.module_utils._safety import drill
params = {"environment": {}, "seconds": 60, "inject": None, "revert": None, **json.loads(sys.argv[2])}
try:
    print(json.dumps(drill.run(params, False, sys.argv[1])))
except drill.DrillError as error:
    print(json.dumps({"error": str(error)}))
"""
_TABLE = {"inject": 'nft add table ip "$TABLE"', "revert": 'nft delete table ip "$TABLE"', "environment": {"TABLE": "drilled"}}


@pytest.fixture
def world() -> Iterator[World]:
    with World() as made:
        # The folder of drills is the machine's /run: this host gets one of its own.
        made.host.shell("mkdir -p /run/netops.fleet; mount -t tmpfs none /run/netops.fleet")
        yield made


def run(world: World, folder: str, **params: Any) -> dict[str, Any]:
    found: dict[str, Any] = world.host.python_json(_RUN, folder, json.dumps(params))
    return found


def tables(world: World) -> str:
    return world.host.run(["nft", "list", "tables"]).stdout


def play(world: World, home: Path, **given: Any) -> list[str]:
    variables = {
        "drill_host": "localhost",
        "drill_output": str(home / "reports"),
        "ansible_python_interpreter": sys.executable,
        **given,
    }
    playbook = str(ROOT / "playbooks" / "fault_drill.yml")
    tool = str(Path(sys.executable).parent / "ansible-playbook")
    return world.host.argv([tool, "-i", "localhost,", "-c", "local", "-e", json.dumps(variables), playbook])


def environment(home: Path) -> dict[str, str]:
    return {
        **os.environ,
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
    }


def test_the_host_takes_it_back_alone(world: World) -> None:
    folder = "/run/netops.fleet/drill"
    done = run(world, folder, state="injected", name="one", seconds=5, **_TABLE)
    assert done["changed"] and "drilled" in tables(world)
    assert "still on" in run(world, folder, state="injected", name="two", **_TABLE)["error"]
    until(lambda: "drilled" not in tables(world), 60)
    assert run(world, folder, state="reverted", name="one") == {"changed": False, "drill": "one"}


def test_taken_back_on_demand_and_a_fault_that_cannot_be_injected_leaves_nothing(world: World) -> None:
    folder = "/run/netops.fleet/drill"
    run(world, folder, state="injected", name="one", **_TABLE)
    assert "one is on" in run(world, folder, state="reverted", name="two")["error"]
    assert run(world, folder, state="reverted", name="one")["changed"] and "drilled" not in tables(world)
    broken = {**_TABLE, "inject": 'nft add table ip "$TABLE"; false'}
    assert "was taken back" in run(world, folder, state="injected", name="three", **broken)["error"]
    assert "drilled" not in tables(world)
    assert "way back" in run(world, folder, state="injected", name="four", inject="true")["error"]


FOLDER = "/run/netops.fleet/drill"


def marker(world: World) -> dict[str, Any]:
    """The marker of the drill that is on; empty when none is."""
    text = world.host.shell(f"cat {FOLDER}/drill.json 2>/dev/null || echo '{{}}'").stdout
    found: dict[str, Any] = json.loads(text)
    return found


def sleepers(identity: str) -> list[int]:
    """Pids of the processes, of any namespace, that wait for the deadline of a drill."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue  # it ended meanwhile
        if identity.encode("ascii") in words:
            found.append(int(path.parent.name))
    return found


def test_a_line_of_the_way_back_that_fails_is_told_and_tried_again(world: World) -> None:
    """The second line fails; the first and the third are run all the same, and later only the second has to succeed."""
    revert = 'nft delete table ip "$TABLE"\ncat /run/key\n# done\nif true; then\n  touch /run/netops.fleet/third\nfi'
    run(world, FOLDER, state="injected", name="one", **{**_TABLE, "revert": revert})
    for _again in range(2):
        error = run(world, FOLDER, state="reverted", name="one")["error"]
        assert "1 of 3 lines of its way back failed: 'cat /run/key'" in error and "No such file" in error
        assert f"{FOLDER}/revert.sh" in error and f"remove {FOLDER}/drill.json" in error
    assert "drilled" not in tables(world)
    world.host.shell("test -e /run/netops.fleet/third")
    assert "still on" in run(world, FOLDER, state="injected", name="two", **_TABLE)["error"]
    world.host.shell("touch /run/netops.fleet/key")
    world.host.shell(f"sed -i 's,cat /run/key,cat /run/netops.fleet/key,' {FOLDER}/revert.sh")
    assert run(world, FOLDER, state="reverted", name="one") == {"changed": True, "drill": "one"}
    assert run(world, FOLDER, state="reverted", name="one") == {"changed": False, "drill": "one"}


def test_a_timer_whose_way_back_fails_is_not_taken_for_a_host_that_mended_itself(world: World) -> None:
    run(world, FOLDER, state="injected", name="one", seconds=5, **{**_TABLE, "revert": "nft delete table ip other"})
    until(lambda: "No such file" in world.host.shell(f"cat {FOLDER}/revert.log 2>/dev/null || true").stdout, 60)
    assert "drilled" in tables(world)
    assert "may still be there" in run(world, FOLDER, state="reverted", name="one")["error"]


def test_a_fault_that_was_injected_by_half_is_taken_back_as_far_as_it_goes(world: World) -> None:
    half = {"inject": 'nft add table ip "$TABLE"; false', "revert": 'nft delete table ip other\nnft delete table ip "$TABLE"'}
    error = run(world, FOLDER, state="injected", name="one", **{**_TABLE, **half})["error"]
    assert "was taken back" in error and "these lines of the way back failed: 'nft delete table ip other'" in error
    assert "drilled" not in tables(world) and marker(world) == {}


@pytest.mark.parametrize("lines", ["if true; then", "echo 'x", "# nothing", "for x in"])
def test_a_way_back_that_is_no_shell_is_refused(world: World, lines: str) -> None:
    assert "revert" in run(world, FOLDER, state="injected", name="one", **{**_TABLE, "revert": lines})["error"]
    assert "drilled" not in tables(world)


def test_the_timer_of_an_earlier_drill_leaves_a_later_one_alone(world: World) -> None:
    run(world, FOLDER, state="injected", name="one", **_TABLE)
    first = marker(world)["id"]
    until(lambda: len(sleepers(first)) == 1 and world.host.shell(f"ls {FOLDER}").stdout.count(f"sleeper-{first}\n") == 1, 30)
    assert run(world, FOLDER, state="reverted", name="one")["changed"]
    until(lambda: not sleepers(first), 30)
    run(world, FOLDER, state="injected", name="two", **_TABLE)
    # What a timer that could not be ended does.
    world.host.run(["sh", f"{FOLDER}/revert.sh", first])
    assert "drilled" in tables(world) and marker(world)["name"] == "two"
    world.host.run(["sh", f"{FOLDER}/revert.sh", marker(world)["id"]])
    assert "drilled" not in tables(world) and marker(world) == {}


def test_a_drill_whose_maker_was_killed_before_the_timer_was_set_is_taken_back_by_the_next(world: World) -> None:
    run(world, FOLDER, state="injected", name="one", **_TABLE)
    made = marker(world)
    until(lambda: len(sleepers(made["id"])) == 1, 30)
    os.killpg(sleepers(made["id"])[0], signal.SIGKILL)
    world.host.run(["tee", f"{FOLDER}/drill.json"], input=json.dumps({**made, "deadline": 1.0}))
    other = {"inject": "nft add table ip later", "revert": "nft delete table ip later"}
    assert run(world, FOLDER, state="injected", name="two", **other)["changed"]
    assert "drilled" not in tables(world) and "later" in tables(world) and marker(world)["name"] == "two"
    # Where it cannot be taken back, no fault comes on top of it.
    world.host.run(["nft", "delete", "table", "ip", "later"])
    world.host.run(["tee", f"{FOLDER}/drill.json"], input=json.dumps({**marker(world), "deadline": 1.0}))
    assert "of the drill two may still be there" in run(world, FOLDER, state="injected", name="three", **_TABLE)["error"]
    assert "drilled" not in tables(world)


def test_a_drill_is_found_first_timed_and_taken_back(world: World, tmp_path: Path) -> None:
    argv = play(world, tmp_path, drill_fault="nft-drop-own-table", drill_window=0.5)
    done = subprocess.run(argv, env=environment(tmp_path), capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"first": true' in done.stdout and '"seconds": ' in done.stdout, done.stdout
    assert "tenant_guard" not in tables(world)


def test_a_controller_that_is_killed_leaves_a_host_that_mends_itself(world: World, tmp_path: Path) -> None:
    argv = play(world, tmp_path, drill_fault="nft-drop-own-table", drill_window=60, drill_seconds=20)
    process = subprocess.Popen(
        argv, env=environment(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        until(lambda: "tenant_guard" in tables(world), 120)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    until(lambda: "tenant_guard" not in tables(world), 90)


@pytest.mark.parametrize("entry", [one for one in runner.load(runner.FAULTS) if one["drill"]], ids=lambda one: one.name)
def test_faults_of_the_library_fit_another_host(entry: runner.Entry) -> None:
    plan = filters.fault_plan(entry.data, 8080, peer="192.0.2.9", link="bond0")
    text = yaml.safe_dump(plan)
    assert "10.77." not in text and "10.88.0.1" not in text and "1678" not in text and "eth0" not in text
    assert plan["inject"].strip() and plan["revert"].strip()
    used = {
        word for word in ("LINK", "PORT", "PEER4", "HOST4", "FAR4", "ASK", "SERVE", "PYTHON", "GATEWAY4") if f"${word}" in text
    }
    assert used <= {"LINK", "PORT", "PEER4", "GATEWAY4"}
