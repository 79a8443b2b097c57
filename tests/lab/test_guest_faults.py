# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""As tests/faults/test_faults.py, for faults that need a distribution's kernel or a machine of their own."""

from __future__ import annotations

import pytest

from tests.faults import emulated, runner

FAULTS = [one for one in runner.load(runner.FAULTS) if runner.in_guest(one)]

pytestmark = [pytest.mark.lab, pytest.mark.machine]


@pytest.fixture(scope="module")
def outcomes() -> dict[str, runner.Outcome]:
    return {one.name: one for one in emulated.run(FAULTS)}


@pytest.mark.parametrize("entry", FAULTS, ids=lambda entry: entry.name)
def test_the_cause_comes_first(outcomes: dict[str, runner.Outcome], entry: runner.Entry) -> None:
    outcome = outcomes[entry.name]
    assert outcome.first, f"wanted {entry['expect']}, told: {outcome.told()}"
    assert outcome.stray == [], outcome.told()
    assert outcome.after == [], "findings remain after the fault was taken back"
