# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The search for a path's MTU over a path that loses packets; over real routers it is tests/kernel/test_net_probe.py's."""

from __future__ import annotations

import random
import time
from collections import Counter
from typing import Any

import pytest

from ansible_collections.netops.fleet.plugins.module_utils._evidence import probe_mtu
from ansible_collections.netops.fleet.plugins.module_utils._evidence.probing import Failed


class Path:
    """Loses a share of all packets, and each that is larger than ``takes``."""

    status, why = "timeout", ""

    def __init__(self, dice: random.Random, loss: float, takes: int) -> None:
        self.dice, self.loss, self.takes = dice, loss, takes

    def patience(self, tries: int) -> float:
        return 0.0

    def arrives(self, size: int, search: Any, tries: int, _deadline: float) -> bool | None:
        for _try in range(tries):
            if size <= self.takes and self.dice.random() >= self.loss:
                return True
        search.silent.append(size)
        return None


def outcomes(loss: float, takes: int, count: int = 4000) -> Counter[str]:
    dice = random.Random(1500)
    told: Counter[str] = Counter()
    for _turn in range(count):
        path: Any = Path(dice, loss, takes)
        deadline = time.monotonic() + 100
        try:
            found = probe_mtu._search(path, 576, 1500, 2, deadline)
            if probe_mtu._is_hole(found):
                probe_mtu._confirm(path, found, deadline)
            probe_mtu._tell({}, {}, found, 1500)
            told["ok"] += 1
        except Failed as failure:
            told[failure.status] += 1
    return told


@pytest.mark.parametrize("loss", [0.02, 0.1, 0.2, 0.3])
def test_plain_loss_is_no_black_hole(loss: float) -> None:
    told = outcomes(loss, 1500)
    assert told["black_hole"] <= 0.001 * sum(told.values()), told
    assert loss < 0.1 or told["lossy"] > 0, told


@pytest.mark.parametrize(("loss", "share"), [(0.0, 1.0), (0.02, 0.98), (0.1, 0.8)])
def test_a_black_hole_is_found_on_a_path_that_also_loses_packets(loss: float, share: float) -> None:
    told = outcomes(loss, 1400)
    assert told["black_hole"] >= share * sum(told.values()), told
    assert told["ok"] == 0, told
