# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carrying differences out: when systemd is told to read its files again, and what a rollout does not allow."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.netops.fleet.plugins.module_utils._safety import act, change, journal, objects
from ansible_collections.netops.fleet.plugins.module_utils._safety.objects import Object, file_state
from ansible_collections.netops.fleet.plugins.module_utils._safety.release import released
from ansible_collections.netops.fleet.plugins.module_utils._tuning import change as tuning


def test_unit_files_are_read_again_before_what_needs_them_and_after_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drop-in that is written after a parameter is no less read than one before it."""
    said: list[str] = []
    units = tmp_path / "systemd" / "system"
    units.mkdir(parents=True)

    def reload(targets: Iterable[Object]) -> None:
        if any("/systemd/system/" in target.name for target in targets):
            said.append("reload")

    monkeypatch.setattr(objects, "reload_units", reload)
    real = objects.put
    monkeypatch.setattr(objects, "put", lambda target, state: (said.append(Path(target.name).name), real(target, state)))
    kind = objects.Kind(lambda _name: None, lambda _name, _state: None, lambda _one, _other: False)
    monkeypatch.setitem(objects.KINDS, "thing", lambda: {"thing": kind})
    changes = [
        change.Difference(Object("file", str(units / "first.conf")), None, file_state("x")),
        change.Difference(Object("thing", "one"), None, {}),
        change.Difference(Object("thing", "two"), None, {}),
        change.Difference(Object("file", str(units / "last.conf")), None, file_state("x")),
    ]
    change.apply(journal.Journal(str(tmp_path / "journal")), "test", changes, 0, list)
    assert said == ["first.conf", "reload", "one", "two", "last.conf", "reload"]


@pytest.mark.parametrize("check", [False, True])
def test_the_way_back_is_refused_inside_a_rollout_which_could_not_take_it_back(
    check: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, folder = tmp_path / "file.conf", tmp_path / "journal"
    change.apply(
        journal.Journal(str(folder)), "test", [change.Difference(Object("file", str(file)), None, file_state("x"))], 0, list
    )
    monkeypatch.setenv(journal.RUN, "7-1")
    with pytest.raises(change.ChangeError, match=r"run netops\.fleet\.rollback with rollback_owner=test instead"):
        tuning.back("test", str(folder), check, force=False)
    assert file.exists()
    monkeypatch.delenv(journal.RUN)
    assert tuning.back("test", str(folder), check, force=False)["changed"]
    assert file.exists() == check


def written(folder: Path, owner: str, *files: Path) -> None:
    changes = [change.Difference(Object("file", str(file)), None, file_state("x")) for file in files]
    change.apply(journal.Journal(str(folder)), owner, changes, 0, list)


def given_back(folder: Path, owner: str) -> str:
    found = journal.Journal(str(folder))
    return str(change.apply(found, owner, released(found, owner, ()), 0, list)["change"])


def since(folder: Path, mark: str, run: str) -> dict[str, Any]:
    return act.run({"state": "rolled_back", "since": mark, "run": run, "force": False}, False, str(folder))


def test_a_gate_takes_back_what_its_rollout_only_gave_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two changers on the host: what returns is its changer's again, and so each one's way back still works."""
    folder, one, two = tmp_path / "journal", tmp_path / "one", tmp_path / "two"
    written(folder, "first", one)
    written(folder, "second", two)
    mark = journal.Journal(str(folder)).mark()
    monkeypatch.setenv(journal.RUN, "7-1")
    given_back(folder, "first")
    given_back(folder, "second")
    monkeypatch.delenv(journal.RUN)
    assert not one.exists() and not two.exists() and not journal.Journal(str(folder)).live
    assert since(folder, mark, "7-1")["changed"] and one.exists() and two.exists()
    tuning.back("first", str(folder), check=False, force=False)
    assert not one.exists() and two.exists()
    tuning.back("second", str(folder), check=False, force=False)
    assert not two.exists() and not (folder / "journal.jsonl").exists()


def test_a_journal_of_what_was_given_back_goes_when_no_gate_can_want_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, file = tmp_path / "journal", tmp_path / "file"
    written(folder, "test", file)
    monkeypatch.setenv(journal.RUN, "7-1")
    given_back(folder, "test")
    change.finished(journal.Journal(str(folder)), "test")
    assert (folder / "journal.jsonl").exists()
    monkeypatch.setattr(journal, "KEEP_WHOLE", 0.0)
    change.finished(journal.Journal(str(folder)), "test")
    assert not (folder / "journal.jsonl").exists() and "7-1" in (folder / "history.jsonl").read_text()


def test_who_wants_the_originals_is_not_overruled_by_a_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, file = tmp_path / "journal", tmp_path / "file"
    written(folder, "test", file)
    mark = journal.Journal(str(folder)).mark()
    monkeypatch.setenv(journal.RUN, "7-1")
    given_back(folder, "test")
    monkeypatch.delenv(journal.RUN)
    assert not tuning.back("test", str(folder), check=False, force=False)["changed"]
    assert not since(folder, mark, "7-1")["changed"] and not file.exists()


def test_without_a_rollout_the_journal_goes_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    written(folder, "test", tmp_path / "file")
    given_back(folder, "test")
    assert not (folder / "journal.jsonl").exists()
