# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The walk agrees with the kernel on random rules and packets of fixed seeds, and on every case it was once wrong about."""

from __future__ import annotations

import collections
import json
import subprocess
import sys
from typing import Any

import pytest

from tests.kernel.conftest import ROOT, environment
from tests.kernel.rulesets import WIDE

pytestmark = pytest.mark.kernel

#: Seeds of cases the walk was once wrong about: packets to the host's own addresses over lo, masquerading there, NAT chains where
#: nothing tracks connections, one map asked by two selectors, ``fib`` over lo, reverse lookups under policy rules, a rule
#: that may drop in front of the one that does, the status of a connection over lo, ``fib`` over lo without an interface,
#: a policy behind a rule that may not be met.
ONCE_WRONG = (131, 141, 146, 175, 232, 249, 313, 1029, 1246, 2264, 20007, 110140, 110181, 110330)


def run(first: int, count: int, packets: int) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.kernel.differential", str(first), str(count), str(packets)],
        cwd=ROOT,
        env=environment(ROOT),
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def agreed(results: list[dict[str, Any]], wanted: int) -> None:
    wrong = [one for one in results if one["result"] not in ("agree", "unknown", "refused")]
    assert not wrong, json.dumps(wrong[:3], indent=1)
    kinds = collections.Counter(one["result"] for one in results)
    assert kinds["agree"] >= wanted, kinds
    assert kinds["unknown"] <= len(results) // 20, [one["why"] for one in results if one["result"] == "unknown"]
    # Each kind of end is among them: a walk that always says the same would not get here.
    verdicts = collections.Counter(one["verdict"] for one in results if one["result"] == "agree")
    assert min(verdicts["accept"], verdicts["drop"], verdicts["reject"]) >= wanted // 20, verdicts


def test_random_rules_and_packets() -> None:
    agreed(run(1, 60, 8), 440)


def test_more_of_the_languages() -> None:
    agreed(run(WIDE, 30, 8), 180)


@pytest.mark.parametrize("seed", ONCE_WRONG)
def test_cases_that_were_wrong_once(seed: int) -> None:
    results = run(seed, 1, 8)
    assert results and all(one["result"] in ("agree", "unknown") for one in results), json.dumps(results, indent=1)[:4000]
    assert any(one["result"] == "agree" for one in results)
