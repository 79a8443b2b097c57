#!/usr/bin/python

# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nic_settings
short_description: Queues, rings, coalescing, offloads and queue length of NICs, planned, verified, with a way back
version_added: 0.1.0
author:
  - netops.fleet contributors (@netops-fleet)
description:
  - Sets what C(ethtool -L), C(-G), C(-C) and C(-K) set, and C(txqueuelen), by the kernel's own interface. No tool is needed.
  - A NIC is named, or matched by pattern or driver, so one task fits hosts with different NICs. What a driver does not have is
    skipped with the reason; what is beyond its limits is an error before anything is written.
  - Changing the number of queues, a ring or a hardware offload makes most drivers restart their queues, and some drop the link.
    Such a change is made with O(interrupt=true) only; else it is left, with a warning.
  - The task declares everything. What an earlier run set and this one does not want returns to its original.
  - A systemd unit and a udev rule set the same again at boot and when a NIC comes.
options:
  nics:
    description: Rules. A later one beats an earlier one where both match a NIC.
    type: list
    elements: dict
    default: []
    suboptions:
      match:
        description: Which NICs, by name, by pattern such as V(ens*), or by V(driver:mlx5_core). Software links never count.
        type: list
        elements: str
        default: ["*"]
      channels:
        description:
          - Numbers of queues, by C(combined), C(rx), C(tx).
          - V(auto) is one for each usable core of the NIC's node, within what the driver takes. V(max) is all that it takes.
        type: dict
        default: {}
      rings:
        description: Ring sizes, by C(rx), C(tx), C(rx-mini), C(rx-jumbo). V(max) is the most that the driver takes.
        type: dict
        default: {}
      coalesce:
        description: Interrupt moderation, such as C(rx-usecs), C(tx-frames), C(adaptive-rx).
        type: dict
        default: {}
      features:
        description: Offloads by the kernel's or ethtool's name, such as C(gro), C(tso), C(ntuple), C(rx-gro-hw); true or false.
        type: dict
        default: {}
      txqueuelen:
        description: Length of the link's transmit queue.
        type: int
  reserve:
    description: Processors that serve no interrupt, for V(auto) numbers of channels. A list such as V(0-3,8).
    type: str
    default: ""
  interrupt:
    description: Whether changes may stop a NIC's traffic for a moment.
    type: bool
    default: false
  persist:
    description: Whether a systemd unit and a udev rule set the same again at boot and when a NIC comes.
    type: bool
    default: true
  deadman:
    description:
      - Seconds within which M(netops.fleet.change_journal) must confirm a change that stops a NIC's traffic. Else the host takes
        it back alone, so a NIC that does not come back costs no visit.
      - V(0) sets no timer.
    type: int
    default: 0
extends_documentation_fragment:
  - netops.fleet.attributes
  - netops.fleet.declared
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  platform:
    support: full
    platforms: linux
seealso:
  - module: netops.fleet.irq_affinity
  - module: netops.fleet.change_journal
"""

EXAMPLES = r"""
- name: Show what would be set
  netops.fleet.nic_settings:
    state: planned
    nics:
      - match: ["driver:mlx5_core"]
        channels:
          combined: auto
        rings:
          rx: max

- name: A queue for each core of the node, adaptive interrupts; the fast NICs may pause for it
  netops.fleet.nic_settings:
    interrupt: true
    nics:
      - match: ["driver:mlx5_core", "driver:ice"]
        channels:
          combined: auto
        rings:
          rx: 8192
        coalesce:
          adaptive-rx: true
        features:
          ntuple: true
          lro: false
        txqueuelen: 10000

- name: Return to what was there before
  netops.fleet.nic_settings:
    state: absent
"""

RETURN = r"""
plan:
  description: One entry for each wanted setting of each NIC that a rule matches.
  returned: when O(state) is not V(absent)
  type: list
  elements: dict
  contains:
    nic:
      description: The interface.
      type: str
    setting:
      description: Such as C(rings.rx) or C(features.rx-gro).
      type: str
    present:
      description: Its present value. None when the NIC has no such setting.
      type: str
    wanted:
      description: The wanted value.
      type: str
    action:
      description: C(none), C(set) or C(skip).
      type: str
    why:
      description: Why it is skipped, or how its value was found.
      type: str
    interrupts:
      description: Whether changing it stops traffic for a moment.
      type: bool
skipped_settings:
  description: Settings that were left, with the reason.
  returned: when O(state) is not V(absent)
  type: dict
interrupted:
  description: NICs whose traffic stopped for a moment, or would.
  returned: when O(state) is not V(absent)
  type: list
  elements: str
changes:
  description: The differences, each with kind, name, before and after. C(changed) and the diff are made from this list.
  returned: success
  type: list
  elements: dict
notes:
  description: What the reader should know beside the plan.
  returned: when O(state) is not V(absent)
  type: list
  elements: str
change:
  description: The id of the change in the journal. None when nothing changed.
  returned: when O(state) is not V(absent)
  type: str
confirm_within:
  description: Seconds within which the change must be confirmed. None when no timer was set.
  returned: when O(state) is not V(absent)
  type: int
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.netops.fleet.plugins.module_utils._safety import journal, lock, objects
from ansible_collections.netops.fleet.plugins.module_utils._tuning import change, nic


def main() -> None:
    module = AnsibleModule(argument_spec=nic.ARGUMENTS, supports_check_mode=True)
    params = module.params
    try:
        result = nic.run(nic.Options.from_params(params), params, params["state"], module.check_mode, params["force"])
    except change.ChangeError as error:
        module.fail_json(msg=str(error), **error.facts)
    except (journal.JournalError, lock.Busy, objects.ObjectError, OSError, ImportError) as error:
        module.fail_json(msg=f"Nothing was changed. {error}")
    for line in result.pop("warnings"):
        module.warn(line)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
