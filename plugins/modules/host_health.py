#!/usr/bin/python

# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_health
short_description: A baseline of a host's health before a change, and the gate after it
version_added: 0.1.0
author:
  - netops.fleet contributors (@netops-fleet)
description:
  - Diagnoses the host and probes it. Without O(baseline) it fails when the host is too sick to be changed, and returns a
    baseline. With O(baseline) it fails when anything is worse than in it.
  - Worse is a new finding, more losses per second, a probe that fails, or a change by this collection that was cut short.
  - Reading changes nothing on the host.
options:
  baseline:
    description: What RV(health) was before the change.
    type: dict
  window:
    description: Seconds over which losses are counted.
    type: float
    default: 2.0
  worst:
    description: Without O(baseline), findings as bad as this fail the module.
    type: str
    choices: [critical, warning, info, none]
    default: critical
  http:
    description: URLs that the host must be able to fetch, such as a service of its own.
    type: list
    elements: str
    default: []
  allow:
    description: Losses per second, beyond twice those of the baseline, that are still well.
    type: dict
    default: {}
    suboptions:
      retransmits:
        description: TCP segments sent again.
        type: float
        default: 50.0
      overflows:
        description: Connections that an accept queue dropped.
        type: float
        default: 0.5
      drops:
        description: Packets that NICs, queues and sockets dropped.
        type: float
        default: 100.0
  timeout:
    description: Seconds each probe may take.
    type: float
    default: 2.0
extends_documentation_fragment:
  - netops.fleet.attributes
  - netops.fleet.attributes.reader
seealso:
  - module: netops.fleet.host_evidence
"""

EXAMPLES = r"""
- name: Take a baseline
  netops.fleet.host_health:
    window: 0.5
  register: before

- name: Fail if the host is worse than before
  netops.fleet.host_health:
    window: 0.5
    baseline: "{{ before.health }}"
"""

RETURN = r"""
health:
  description:
    - Findings, losses per second and probes.
    - C(mark) is where the journal of changes stands; what is changed after it can be taken back with
      M(netops.fleet.change_journal) and its option O(netops.fleet.change_journal#module:since).
  returned: always
  type: dict
reasons:
  description: Why the host is too sick, or what is worse.
  returned: always
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import health


def main() -> None:
    module = AnsibleModule(argument_spec=health.ARGUMENTS, supports_check_mode=True)
    result = health.run(module.params)
    if result["reasons"]:
        what = "This host is worse than before" if module.params["baseline"] else "This host is too sick to be changed"
        module.fail_json(msg=f"{what}: {'; '.join(result['reasons'])}", changed=False, **result)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
