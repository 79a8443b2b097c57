# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal as files: folding of old changes, marks, damage. (Death at each step: tests/kernel/test_journal_crash.py.)"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.netops.fleet.plugins.module_utils._safety import filters, journal, objects, portable, rollback
from ansible_collections.netops.fleet.plugins.module_utils._safety.journal import Journal, JournalError
from ansible_collections.netops.fleet.plugins.module_utils._safety.objects import Object, capture, file_state, put

LONG_AGO = time.time() - 10 * journal.KEEP_WHOLE


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path / "journal")


def change(folder: str, path: Path, text: str | None, now: float = 0.0) -> str:
    """What a changer does to one file."""
    found = Journal(folder)
    target, state = Object("file", str(path)), None if text is None else file_state(text)
    name = found.begin("test", [(target, capture(target), state)], now)
    put(target, state)
    found.done(name)
    return name


def test_a_grown_journal_keeps_originals_and_young_changes_whole(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old ones lose only that they can be taken back alone."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("as it was")
    old = change(folder, one, "first", LONG_AGO)
    for number in range(30):
        change(folder, one, f"{number} of many", LONG_AGO + number)
    mark = Journal(folder).mark()
    young = [change(folder, one, "young"), change(folder, two, "new")]
    monkeypatch.setattr(journal, "MAX_JOURNAL", 100)
    before = os.path.getsize(Journal(folder).path)
    young.append(change(folder, two, "newer"))
    found = Journal(folder)
    assert os.path.getsize(found.path) < before / 2 and found.problems == []
    assert found.after(found.changes[0].id) == young
    assert found.after(mark) == young, "the marked change is folded away; time tells what is younger"
    with pytest.raises(JournalError, match="too old to be taken back alone"):
        rollback.undo(found, [old])
    steps = rollback.undo(found, young)
    assert [step.verdict for step in steps] == ["restore", "restore"]
    assert one.read_text() == "29 of many" and not two.exists()
    again = rollback.run(Journal(folder))
    assert [step.verdict for step in again] == ["restore"] and one.read_text() == "as it was"
    assert Journal(folder).changes == []


def test_folding_again_and_again_ends(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all is young nothing is folded, nor lost; where all is live and old it is folded once."""
    monkeypatch.setattr(journal, "MAX_JOURNAL", 100)
    names = [change(folder, tmp_path / f"{number}", "x") for number in range(5)]
    assert [one.id for one in Journal(folder).changes] == names
    for number in range(5, 8):
        change(folder, tmp_path / f"{number}", "x", LONG_AGO + number)
    assert len(Journal(folder).live) == 8
    assert all(step.verdict == "restore" for step in rollback.run(Journal(folder)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["journal"]


def test_ids_differ_within_one_millisecond(folder: str) -> None:
    found = Journal(folder)
    names: list[Any] = [found.begin("test", [], 1000.0) for _number in range(3)]
    assert len(set(names)) == 3 and found.after(names[0]) == names[1:]


def test_a_rollout_takes_back_its_own_changes_only(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rollouts at once over one host, and somebody by hand: each file is one's own, and one is all three's."""
    mine, theirs, both = tmp_path / "mine", tmp_path / "theirs", tmp_path / "both"
    mark = Journal(folder).mark()
    monkeypatch.setenv(journal.RUN, "tune-1")
    ours = [change(folder, mine, "mine"), change(folder, both, "mine")]
    monkeypatch.setenv(journal.RUN, "tune-2")
    change(folder, theirs, "theirs")
    change(folder, both, "theirs")
    monkeypatch.delenv(journal.RUN)
    change(folder, tmp_path / "hand", "by hand")
    found = Journal(folder)
    assert found.after(mark, "tune-1") == ours and len(found.after(mark)) == 5
    assert found.after(mark, "tune-3") == []
    steps = rollback.undo(found, found.after(mark, "tune-1"))
    assert {Path(step.target.name).name: step.verdict for step in steps} == {"mine": "restore", "both": "foreign"}
    assert not mine.exists() and both.read_text() == theirs.read_text() == "theirs"


@pytest.mark.parametrize("mark", ["", "none", "x", "0", "0-0-0", "../..", "0-0\n", "g-1"])
def test_what_is_no_mark_takes_nothing_back(folder: str, mark: str) -> None:
    with pytest.raises(JournalError, match="is no mark"):
        Journal(folder).after(mark)


def test_a_kind_of_a_newer_version_fails_alone(folder: str, tmp_path: Path) -> None:
    """It is told and kept in the journal; the rest goes back."""
    file = tmp_path / "file"
    found = Journal(folder)
    found.begin("newer", [(Object("hologram", "a"), {"value": 1}, {"value": 2})])
    change(folder, file, "x")
    steps = rollback.run(Journal(folder))
    assert {str(step.target): step.verdict for step in steps} == {f"file {file}": "restore", "hologram a": "failed"}
    assert "kinds are" in rollback.failed(steps)[0] and not file.exists()
    assert [str(target) for target in Journal(folder).live] == ["hologram a"]


#: Two states of each kind that differ, of the shape that its functions compare.
STATES: dict[str, list[dict[str, Any] | None]] = {
    **{kind: [{"value": "1"}, {"value": "2"}] for kind in ("sysctl", "irq", "nic", "sysfs")},
    "file": [file_state("a"), file_state("b")],
    "dir": [{"mode": 0o755}, None],
    "unit": [{"enabled": True, "active": True}, {"enabled": True, "active": False}],
    "ipset": [{"type": "hash:net", "family": 2, "digest": digest} for digest in "ab"],
    **{kind: [filters.state_of({"chains": {"input": [rule]}}, []) for rule in "ab"] for kind in ("iptables", "nft")},
    **{kind: [{"digest": digest} for digest in "ab"] for kind in ("nftset", "nfttable")},
    "packed": [{"digest": digest, "mode": 0o600} for digest in "ab"],
    "irqbalance": [{"line": "a"}, {"line": "b"}],
    "hugepages": [{"pages": 1}, {"pages": 2}],
    "service": [{"cpus": "0"}, {"cpus": "1"}],
}
PROGRAMS = ("_safety.cli", "_tuning.adaptive", "_tuning.irq", "_tuning.nic")
UTILS = "ansible_collections.netops.fleet.plugins.module_utils"


def package(program: str, folder: Path) -> str:
    """Path of a program as it is put on hosts."""
    path = folder / "program.pyz"
    path.write_bytes(portable.build(f"{UTILS}.{program}"))
    return str(path)


@pytest.mark.parametrize("program", PROGRAMS)
def test_each_program_reads_a_journal_of_every_kind(program: str, folder: str, tmp_path: Path) -> None:
    """Kinds are imported when they are met; on a host without the collection they must be in the package."""
    found = Journal(folder)
    assert sorted(STATES) == sorted(objects.KINDS)
    for number in (0, 1):
        found.begin("test", [(Object(kind, f"/{kind}"), None, states[number]) for kind, states in STATES.items()])
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        f"from {UTILS}._safety import journal, objects\n"
        "found = journal.Journal(sys.argv[2])\n"
        "print(found.problems, sorted((each.kind, len(entry.wrote)) for each, entry in found.live.items()))\n"
        "assert sys.argv[1] in journal.__file__ and all(objects.known(name) for name in objects.KINDS)\n"
    )
    words = [sys.executable, "-I", "-S", "-c", code, package(program, tmp_path), folder]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == f"[] {sorted((kind, 2) for kind in objects.KINDS)}", done.stderr
    assert done.returncode == 0, done.stderr


def test_the_program_that_reserves_pages_at_boot_runs(tmp_path: Path) -> None:
    """It needs no journal. What is asked for is not there."""
    words = [
        sys.executable,
        "-I",
        "-S",
        package("_tuning.pages_boot", tmp_path),
        "--pages",
        "/sys/none=1",
        "--set",
        "/sys/none/a=b",
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    told = ["<4>/sys/none: this kernel does not have it", "<4>/sys/none/a: No such file or directory"]
    assert done.stdout.splitlines() == told


def test_what_was_given_back_is_known_after_folding(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old change that set it is of no use any more; the young one that gave it back can be taken back alone."""
    file = tmp_path / "file"
    for number in range(30):
        change(folder, file, f"{number}", LONG_AGO + number)
    monkeypatch.setenv(journal.RUN, "7-1")
    monkeypatch.setattr(journal, "MAX_JOURNAL", 100)
    found, target = Journal(folder), Object("file", str(file))
    name = found.begin("test", [(target, capture(target), None)])
    put(target, None)
    found.done(name, [target])
    found = Journal(folder)
    assert [one.folded for one in found.changes] == [True, False] and found.live == {} and found.revocable() == [name]
    rollback.undo(found, [name])
    assert file.read_text() == "29" and not found.in_force(name) and found.revocable() == []


def test_a_full_disk_leaves_no_half_of_a_change(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal is as it was before: nothing of a change that never began, and the next one is whole."""
    change(folder, tmp_path / "one", "x")
    found = Journal(folder)
    before = Path(found.path).read_bytes()
    write = os.write

    def short(descriptor: int, data: bytes) -> int:
        if len(data) < 100:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data[:100])

    monkeypatch.setattr(os, "write", short)
    with pytest.raises(JournalError, match="No space left on device"):
        found.begin("test", [(Object("file", str(tmp_path / "two")), None, file_state("x"))])
    monkeypatch.undo()
    assert Path(found.path).read_bytes() == before and len(found.live) == 1
    again = found.begin("test", [])
    assert [one.id for one in Journal(folder).unfinished()] == [again] and Journal(folder).problems == []
