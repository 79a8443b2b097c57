#!/usr/bin/python

# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: irq_affinity
short_description: Put the interrupts of NIC queues where the hardware wants them, explained, verified, with a way back
version_added: 0.1.0
author:
  - netops.fleet contributors (@netops-fleet)
description:
  - Reads the machine's shape (packages, cores, threads, NUMA nodes, isolated processors, cpusets), the queues of its NICs and
    their interrupts, and plans which processor serves which queue. Each assignment comes with its reason.
  - One queue for each physical core of the NIC's node. Several NICs share a node's cores evenly. Isolated and V(nohz_full)
    processors, those of exclusive cpusets, and those in O(reserve) serve none.
  - Applies the plan through C(smp_affinity_list), reads it again, and compares C(effective_affinity_list).
  - Interrupts that the kernel manages are left alone, with the reason in RV(left).
  - The same plan is made anew at boot, when a NIC comes, and when a NIC's number of queues changes. No interrupt number is
    stored anywhere. NICs that were there first keep their processors when one is added.
  - Before the first change of an object its original goes into a journal on the host, C(/var/lib/netops.fleet). See
    M(netops.fleet.change_journal) for the way back.
options:
  nics:
    description: Which NICs, by name, by pattern such as V(ens*), or by V(driver:mlx5_core). Software links never count.
    type: list
    elements: str
    default: ["*"]
  reserve:
    description: Processors that serve no interrupt of a NIC, as a list such as V(0-3,8).
    type: str
    default: ""
  irqbalance:
    description:
      - What becomes of irqbalance, which would move what is placed here.
      - V(ban) keeps it for everything else. A policy script tells it which devices to leave alone, by their address.
      - V(stop) stops and disables it.
      - V(keep) leaves it as it is, with a warning while it runs.
    type: str
    choices: [keep, ban, stop]
    default: ban
  rps:
    description:
      - Spreading of received packets by software (RPS).
      - V(auto) spreads those of a NIC with one queue over the other cores of its node, and leaves NICs with several as they are.
      - V(off) turns it off everywhere.
      - V(keep) leaves it as it is.
    type: str
    choices: [auto, "off", keep]
    default: auto
  rfs:
    description: Whether packets spread by RPS go to the processor where their program reads (RFS).
    type: bool
    default: true
  arfs:
    description:
      - Whether NICs with several queues get the flow tables for steering flows themselves (accelerated RFS).
      - The feature C(ntuple) must be on. See M(netops.fleet.nic_settings).
    type: bool
    default: false
  xps:
    description:
      - Which queue a processor sends through (XPS).
      - V(auto) takes the queue of the processor's own core, else one of its node, on NICs with several queues.
      - V(off) clears it. V(keep) leaves it as it is.
    type: str
    choices: [auto, "off", keep]
    default: auto
  persist:
    description: Whether a systemd unit and a udev rule make the plan anew at boot and when NICs or their queues change.
    type: bool
    default: true
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
  - module: netops.fleet.change_journal
  - module: netops.fleet.nic_settings
"""

EXAMPLES = r"""
- name: Show which processor would serve which queue, and why
  netops.fleet.irq_affinity:
    state: planned

- name: Place the interrupts of the fast NICs and keep the first two processors free
  netops.fleet.irq_affinity:
    nics: ["driver:mlx5_core", "driver:ice"]
    reserve: "0-1"

- name: Return to what was there before
  netops.fleet.irq_affinity:
    state: absent
"""

RETURN = r"""
plan:
  description: One entry for each interrupt of a queue.
  returned: when O(state) is not V(absent)
  type: list
  elements: dict
  contains:
    nic:
      description: The interface.
      type: str
    queue:
      description: The queue's number.
      type: int
    irq:
      description: The interrupt's present number.
      type: int
    handler:
      description: Its name, which stays when numbers change.
      type: str
    cpu:
      description: The processor it belongs on. None when it is left alone.
      type: int
    node:
      description: That processor's NUMA node.
      type: int
    present:
      description: Processors it may go to now.
      type: str
    effective:
      description: The processor it goes to now. None when the kernel does not say.
      type: str
    action:
      description: C(none), C(set) or C(leave).
      type: str
    why:
      description: The reason.
      type: str
steering:
  description: Settings of queues (RPS, RFS, XPS), each with present and wanted value and the reason.
  returned: when O(state) is not V(absent)
  type: list
  elements: dict
left:
  description: Interrupts that cannot be moved, one sentence each.
  returned: when O(state) is not V(absent)
  type: list
  elements: str
facts:
  description: What the plan was computed from. For each NIC also how far each GPU is, in the words of C(nvidia-smi topo).
  returned: when O(state) is not V(absent)
  type: dict
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
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.netops.fleet.plugins.module_utils._safety import journal, lock, objects
from ansible_collections.netops.fleet.plugins.module_utils._tuning import change, irq


def main() -> None:
    module = AnsibleModule(argument_spec=irq.ARGUMENTS, supports_check_mode=True)
    params = module.params
    try:
        result = irq.run(irq.Options.from_params(params), params["state"], module.check_mode, params["force"])
    except change.ChangeError as error:
        module.fail_json(msg=str(error), **error.facts)
    except (journal.JournalError, lock.Busy, objects.ObjectError, OSError, ImportError) as error:
        module.fail_json(msg=f"Nothing was changed. {error}")
    for line in result.pop("warnings"):
        module.warn(line)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
