# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The work is done by the action plugin of this name; this file is its documentation.

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_rollout
short_description: Steps of a rollout that concern the fleet as a whole
version_added: 0.1.0
author:
  - netops.fleet contributors (@netops-fleet)
description:
  - Keeps a rollout's batches and failures on the controller, and holds the failures of the whole fleet against one budget.
    Ansible's own C(max_fail_percentage) counts per batch.
  - Runs once for all hosts of the batch and touches the controller only.
  - Used by C(playbooks/tune.yml), which shows the order of the steps.
options:
  step:
    description:
      - V(begin) makes the run's folder. Hosts that failed the preflight count against O(budget).
      - V(open) records the hosts of a batch.
      - V(judge) says who failed and whether the budget is spent.
      - V(close) writes the report, and fails when the rollout stopped.
    type: str
    choices: [begin, open, judge, close]
    required: true
  rollout:
    description: The folder that step V(begin) returned. Needed by all other steps.
    type: path
  output:
    description: With O(step=begin), the folder on the controller that holds the runs.
    type: path
    default: reports
  budget:
    description: With O(step=begin), how many hosts of the fleet may fail, as a number or a percentage such as V(5%).
    type: str
    default: "0"
  roles:
    description:
      - With O(step=begin), the full names of the roles that change a host, in their order.
      - Each has an entry point C(change) and registers what its modules returned under names that begin with C(__ROLE_), where
        ROLE is the last part of its name.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - netops.fleet.attributes
  - netops.fleet.attributes.reader
seealso:
  - module: netops.fleet.host_health
  - module: netops.fleet.sysctl_tuning
"""

EXAMPLES = r"""
- name: Begin a rollout in which two hosts may fail
  netops.fleet.fleet_rollout:
    step: begin
    budget: 2
  run_once: true
"""

RETURN = r"""
folder:
  description: The run's folder.
  returned: with step begin
  type: str
stop:
  description: Whether the budget is spent.
  returned: with step judge
  type: bool
back:
  description: Hosts of the batch that are to return to what they were.
  returned: with step judge
  type: list
  elements: str
keep:
  description: Hosts of the batch whose change waits for its confirmation and is to be kept.
  returned: with step judge
  type: list
  elements: str
bad:
  description: Hosts that count against the budget.
  returned: with steps begin and judge
  type: list
  elements: str
hosts:
  description: What each host came to.
  returned: with step close
  type: dict
"""
