# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m tests.lab``: the lab's command line."""

from __future__ import annotations

import sys

from tests.lab.lab import main

sys.exit(main())
