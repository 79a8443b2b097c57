#!/usr/bin/python

# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The work is done by the action plugin of this name; this file is its documentation.

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_firewall
short_description: Sort hosts by the fingerprint of their rules, and report who differs
version_added: 0.1.0
author:
  - netops.fleet contributors (@netops-fleet)
description:
  - Hosts with the same rules need one plan of M(netops.fleet.firewall_consolidate), made on one of them.
  - Says who differs from most hosts of its inventory group and in which rules, whose rules moved since they were planned for, and
    who still has what was applied.
  - Runs once for all hosts of the play and touches the controller only.
  - Used by the role C(firewall_sets), entry points C(plan) and C(drift), which show the order of the steps.
options:
  step:
    description:
      - V(sort) names one host for each fingerprint.
      - V(report) writes C(firewall.json) and prints it.
    type: str
    choices: [sort, report]
    required: true
  read:
    description: The name under which the hosts registered what M(netops.fleet.firewall_consolidate) with C(state=read) returned.
    type: str
    required: true
  rules:
    description:
      - With O(step=report), the name under which the hosts that O(step=sort) named registered what the module returned with
        C(rules=true), as C(state=read) or C(state=planned).
    type: str
  folder:
    description:
      - With O(step=report), the folder on the controller for the report. Plans that were brought here lie in its folder C(plans),
        named by their fingerprint.
    type: path
extends_documentation_fragment:
  - netops.fleet.attributes
  - netops.fleet.attributes.reader
seealso:
  - module: netops.fleet.firewall_consolidate
  - module: netops.fleet.fleet_rollout
"""

EXAMPLES = r"""
- name: Which hosts have the same rules?
  netops.fleet.firewall_consolidate:
    state: read
  register: rules

- name: One host for each kind of rules
  netops.fleet.fleet_firewall:
    step: sort
    read: rules
  run_once: true
"""

RETURN = r"""
makers:
  description: The first host of each fingerprint, with the fingerprint.
  returned: with O(step=sort)
  type: dict
  sample:
    gpu01: 2f1c9a3e5d7b8c6a1e0f9d8c7b6a5e4d
compare:
  description: Those of them whose rules are needed to say in which rules hosts differ.
  returned: with O(step=sort)
  type: list
  elements: str
report:
  description: The report's file.
  returned: with O(step=report)
  type: str
kinds:
  description: How many different fingerprints there are.
  returned: with O(step=report)
  type: int
plans:
  description: Host to the plan on the controller that is for its rules. Empty where there is nothing to fold.
  returned: with O(step=report)
  type: dict
"""
