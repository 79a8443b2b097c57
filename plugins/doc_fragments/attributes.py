# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What modules of this collection say about check mode, diff mode and platforms."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and tell whether it would change something, without changing it.
  diff_mode:
    description: In diff mode tells what it changed, or in check mode would change.
  platform:
    description: Operating system family that the module can be run against.
    platforms: posix
"""

    #: For modules that only read.
    READER = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and tell whether it would change something, without changing it.
    support: full
    details:
      - The module only reads. It does the same with and without check mode.
  diff_mode:
    description: In diff mode tells what it changed, or in check mode would change.
    support: N/A
    details:
      - The module changes nothing.
  platform:
    description: Operating system family that the module can be run against.
    support: full
    platforms: linux
"""

    #: For modules that return facts.
    FACTS = r"""
options: {}
attributes:
  facts:
    description: Returns an C(ansible_facts) dictionary that updates the facts of the host.
    support: full
"""
