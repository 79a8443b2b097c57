# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of modules whose task declares all that they set."""

from __future__ import annotations


class ModuleDocFragment:
    """The way there, the way back, and the plan alone."""

    DOCUMENTATION = r"""
options:
  state:
    description:
      - V(present) applies the plan.
      - V(absent) returns all that this module changed to its originals.
      - V(planned) returns the plan and changes nothing.
    type: str
    choices: [present, absent, planned]
    default: present
  force:
    description: With O(state=absent), also restores what somebody else changed since.
    type: bool
    default: false
"""
