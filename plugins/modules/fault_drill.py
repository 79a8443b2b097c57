#!/usr/bin/python

# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: fault_drill
short_description: Inject a fault on a host, and take it back whatever happens
version_added: 0.1.0
author:
  - netops.fleet contributors (@netops-fleet)
description:
  - Breaks a host on purpose, for a drill. The role P(netops.fleet.drill#role) chooses faults of a library and measures how
    long it takes to find them.
  - Before the fault is injected, the way back is written on the host, and a timer that runs it is armed, by systemd where it
    runs. The host returns by itself when the controller dies.
  - One drill at a time. What is injected does not survive a reboot, nor does the way back.
options:
  state:
    description: V(injected) arms the timer, then injects. V(reverted) takes the fault back now.
    type: str
    choices: [injected, reverted]
    required: true
  name:
    description: Name of the drill.
    type: str
    required: true
  inject:
    description: Lines for C(sh -eu) that break the host. Needed for O(state=injected).
    type: str
  revert:
    description:
      - Lines for C(sh) that mend it; every one is run, whatever became of the one before. Needed for O(state=injected).
      - A line whose exit status is not 0 failed; one that may fail ends in C(|| true). While a line has failed, the drill counts
        as on, and O(state=reverted) fails, says which lines did, and tries them once more each time.
    type: str
  environment:
    description: Variables of these lines. C(LINK) and C(GATEWAY4) of the default route are set unless they are given.
    type: dict
    default: {}
  seconds:
    description: After so many seconds the host takes the fault back by itself, 5 to 3600.
    type: int
    default: 120
extends_documentation_fragment:
  - netops.fleet.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    support: full
    platforms: linux
seealso:
  - module: netops.fleet.host_evidence
"""

EXAMPLES = r"""
- name: Drop the model port for at most a minute
  netops.fleet.fault_drill:
    state: injected
    name: port-drop
    seconds: 60
    environment:
      PORT: 1678
    inject: |
      nft add table inet drill
      nft 'add chain inet drill in { type filter hook input priority -10; }'
      nft add rule inet drill in tcp dport "$PORT" drop
    revert: nft delete table inet drill

- name: Take it back
  netops.fleet.fault_drill:
    state: reverted
    name: port-drop
"""

RETURN = r"""
drill:
  description: Name of the drill.
  returned: success
  type: str
environment:
  description: The variables that the lines were given.
  returned: when O(state) is V(injected)
  type: dict
deadline:
  description: Unix time at which the host takes the fault back by itself; null in check mode.
  returned: when O(state) is V(injected)
  type: float
injected:
  description: Unix time, by the host's clock, at which the fault was in.
  returned: when O(state) is V(injected), not in check mode
  type: float
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.netops.fleet.plugins.module_utils._safety import drill, lock


def main() -> None:
    module = AnsibleModule(argument_spec=drill.ARGUMENTS, supports_check_mode=True)
    try:
        module.exit_json(**drill.run(module.params, module.check_mode))
    except (drill.DrillError, lock.Busy, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
