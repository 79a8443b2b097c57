# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults: the cause comes first, nothing untrue beside it, silence once it is mended. Healthy hosts are silent."""

from __future__ import annotations

import pytest

from tests.faults import runner

FAULTS = [one for one in runner.load(runner.FAULTS) if not runner.in_guest(one)]
HEALTHY = runner.load(runner.HEALTHY)


@pytest.mark.kernel
@pytest.mark.parametrize("entry", FAULTS, ids=lambda entry: entry.name)
def test_the_cause_comes_first(entry: runner.Entry) -> None:
    outcome = runner.run(entry)
    assert outcome.first, f"wanted {entry['expect']}, told: {outcome.told()}"
    assert outcome.stray == [], outcome.told()
    assert outcome.after == [], "findings remain after the fault was taken back"


@pytest.mark.kernel
@pytest.mark.parametrize("entry", HEALTHY, ids=lambda entry: entry.name)
def test_a_healthy_host_is_silent(entry: runner.Entry) -> None:
    outcome = runner.run_healthy(entry)
    assert outcome.stray == [], outcome.told()
