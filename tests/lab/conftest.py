# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small fleet for the tests that need one; booted at the first of them, gone after the last."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.lab.guest import Guest
from tests.lab.lab import Lab


@pytest.fixture(scope="session")
def fleet() -> Iterator[Lab]:
    """Two hosts, gpu01 and gpu02."""
    with Lab(f"t{os.getpid()}", hosts=2) as lab:
        yield lab


@pytest.fixture(scope="session")
def guest() -> Iterator[Guest]:
    """A distribution's kernel with all its modules, none of IPVS loaded yet when the first test asks for it."""
    with Guest() as running:
        yield running
