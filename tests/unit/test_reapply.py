# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program of a unit whose change is taken back while it waits for the lock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.netops.fleet.plugins.module_utils._safety import journal, objects
from ansible_collections.netops.fleet.plugins.module_utils._tuning import irq, nic, reapply


@pytest.mark.parametrize("program", [irq, nic])
def test_it_does_nothing(
    program: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The unit's file is what the way back removes; this machine has none."""
    monkeypatch.setattr(objects, "systemd", lambda: True)
    given = {name: option.get("default") for name, option in program.ARGUMENTS.items()}
    given["nics"] = ["no-such-link"]
    if program is nic:
        settings = {"channels": {}, "rings": {}, "coalesce": {}, "features": {}, "txqueuelen": None}
        given["nics"] = [{"match": ["no-such-link"], **settings}]
    reapply.save(str(tmp_path), program._MEMORY, {"options": given})
    assert program.main(["--folder", str(tmp_path)]) == 0
    assert f"{program.AGAIN.unit}.service was taken back" in capsys.readouterr().out
    assert journal.Journal(str(tmp_path)).live == {}
