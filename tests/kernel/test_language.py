# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every match and target of iptables and every expression of nft, alone, against the kernel's counters.

Never wrong, and "may" only where this is said of it (tests/kernel/words.py).
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.kernel import words
from tests.kernel.conftest import ROOT, environment

pytestmark = pytest.mark.kernel

#: What every kernel with a packet filter has; the rest is compared where it is there.
CORE = ("-p tcp -m tcp", "-m conntrack --ctstate NEW", "-m multiport --ports", "-m mark", "-m addrtype", "--return-nomatch")


def spoken(name: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.kernel.vocabulary", name],
        cwd=ROOT,
        env=environment(ROOT),
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def compared(told: list[list[Any]]) -> tuple[set[str], set[str]]:
    """Rules that had an answer for some packet, and those that had none for one. Fails on an answer that is not the kernel's."""
    wrong = [one for one in told if one[3] is not None and one[2] != one[3]]
    assert not wrong, wrong[:5]
    hit = {rule for rule, _packet, kernel, walk in told if kernel and walk}
    assert hit, "no rule matched any packet"
    return {one[0] for one in told if one[3] is not None}, {one[0] for one in told if one[3] is None}


@pytest.mark.parametrize("name", ["iptables-nft", "iptables-legacy"])
def test_matches_of_iptables(name: str) -> None:
    found = spoken(name)
    known, may = compared(found["told"])
    unsaid = [rule for rule in may if not any(part in f"{rule} " for part in words.MAY)]
    assert not unsaid
    for part in CORE:
        assert any(part in rule for rule in known), part


def test_expressions_of_nft() -> None:
    found = spoken("nft")
    _known, may = compared(found["told"])
    assert not [rule for rule in may if not rule.startswith(words.NFT_MAY)]
    assert len(found["refused"]) < 40


def test_matches_of_iptables_that_are_read_through_nft() -> None:
    """nft prints them as its own, and not always truly ("ct status dnat" for what is not so)."""
    found = spoken("mixed")
    known, may = compared(found["told"])
    assert any("ct state" in rule for rule in known) and len(may) > 50


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_targets_of_iptables(variant: str) -> None:
    found = spoken(f"targets-{variant}")["told"]
    wrong = [one for one in found if one[1] not in ("agree", "unknown")]
    assert not wrong, wrong
    unsaid = [one for one in found if one[1] == "unknown" and one[0] not in words.MAY_TARGETS]
    assert not unsaid
    assert {"LOG", "MARK", "REJECT", "standard", "SET"} <= {one[0] for one in found}


def test_statements_of_nft() -> None:
    found = spoken("targets-statements")["told"]
    wrong = [one for one in found if one[1] not in ("agree", "unknown")]
    assert not wrong, wrong
    unsaid = [one for one in found if one[1] == "unknown" and one[0] not in words.MAY_STATEMENTS]
    assert not unsaid
    assert {"mark", "notrack", "vmap", "reject", "goto", "add"} <= {one[0] for one in found}


def test_no_extension_is_forgotten() -> None:
    """Against what the machine's iptables ships, where that can be seen."""
    shipped = [
        re.fullmatch(r"lib(?:xt|ipt|ip6t)_(\w+)\.so", path.name)
        for folder in ("/usr/lib", "/usr/lib64")
        for path in Path(folder).glob("**/xtables/lib*.so")
    ]
    names = {one[1] for one in shipped if one is not None}
    assert "tcp" in names and "MARK" in names
    assert names <= words.MATCHES | words.TARGETS
