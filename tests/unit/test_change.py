# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carrying differences out: when systemd is told to read its files again, and what a rollout does not allow."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from ansible_collections.netops.fleet.plugins.module_utils._safety import change, journal, objects
from ansible_collections.netops.fleet.plugins.module_utils._safety.objects import Object, file_state
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
