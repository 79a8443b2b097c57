#!/usr/bin/python

# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: service_placement
short_description: Put systemd services on the processors and the memory of their NIC's or GPU's node, verified, with a way back
version_added: 0.1.0
author:
  - netops.fleet contributors (@netops-fleet)
description:
  - For each named service it finds the NUMA node of a NIC or GPU, and writes C(CPUAffinity), C(NUMAPolicy), C(NUMAMask) and
    C(LimitMEMLOCK) into one drop-in, C(zz-netops-fleet-placement.conf). Each choice is explained.
  - Isolated processors and O(reserve) are left out. A node without processors gets those of the nearest node, one without memory
    the memory of the nearest.
  - Says which other drop-in gives way, and refuses where one that sorts later would win, where the service's control group leaves
    nothing of the place, and where the memory it uses does not fit its node.
  - A running process keeps its place until it is restarted. Which ones that are is in RV(restart); with O(restart) they are
    restarted, one after another, and their processors, memory policy and limit are read from the kernel.
  - The task declares everything. What an earlier run placed and this one does not name returns to its original, which stands in
    the journal on the host. See M(netops.fleet.change_journal) for the way back.
options:
  state:
    description:
      - V(present) applies the plan.
      - V(absent) returns all that this module changed to its originals. Services that it restarted are restarted again.
      - V(planned) returns the plan and changes nothing.
    type: str
    choices: [present, absent, planned]
    default: present
  services:
    description: Services to place.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: A service, an instance such as C(model@0), or a template such as C(model@), which places all its instances.
        type: str
        required: true
      near:
        description:
          - C(gpu:NUMBER) in the order of PCI addresses, C(gpu:ADDRESS) or C(nic:NAME) is the node of that device,
            C(node:NUMBER) a node.
        type: str
        default: ""
      cpus:
        description: Processors as a list such as V(0-7,64-71). By default those of the node.
        type: str
      policy:
        description:
          - Where its memory comes from. V(bind) from the node only, V(preferred) from elsewhere when the node is full,
            V(interleave) in turn, V(local) from the node of the processor that runs it.
          - V(keep) leaves it.
        type: str
        choices: [bind, preferred, interleave, local, keep]
        default: bind
      smt:
        description: Whether it gets all hardware threads of a core, or one.
        type: bool
        default: true
      memlock:
        description: Memory it may lock, in bytes or as V(8G) or V(infinity). RDMA and pinned buffers need it.
        type: str
  reserve:
    description: Processors that no service gets, as a list.
    type: str
    default: ""
  missing:
    description: What to do with a service that this host does not have.
    type: str
    choices: [fail, skip]
    default: fail
  restart:
    description: Whether services whose processes are elsewhere are restarted.
    type: bool
    default: false
  force:
    description: With O(state=absent), also restores what somebody else changed since.
    type: bool
    default: false
extends_documentation_fragment:
  - netops.fleet.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  platform:
    support: full
    platforms: linux
seealso:
  - module: netops.fleet.huge_pages
  - module: netops.fleet.change_journal
"""

EXAMPLES = r"""
- name: Show where the model server belongs and change nothing
  netops.fleet.service_placement:
    state: planned
    missing: skip
    services:
      - name: vllm
        near: gpu:0

- name: Place one instance per GPU, keep the first core for the system, restart what is elsewhere
  netops.fleet.service_placement:
    missing: skip
    reserve: "0"
    restart: true
    services:
      - name: model@0
        near: gpu:0
        memlock: infinity
      - name: model@4
        near: gpu:0
        policy: preferred

- name: Return to what was there before
  netops.fleet.service_placement:
    state: absent
"""

RETURN = r"""
plan:
  description: One entry per service.
  returned: when O(state) is not V(absent)
  type: list
  elements: dict
  contains:
    service:
      description: The unit.
      type: str
    near:
      description: As given.
      type: str
    node:
      description: The NUMA node. None when none was asked for.
      type: int
    cpus:
      description: Its processors. None where nothing is set.
      type: str
    policy:
      description: Its memory policy. None where nothing is set.
      type: str
    memory_nodes:
      description: The nodes of its memory.
      type: str
    memlock:
      description: Memory it may lock.
      type: str
    why:
      description: The reasons.
      type: str
    action:
      description: C(none), C(set), C(skip) or C(refuse).
      type: str
    reason:
      description: Why it is skipped or refused.
      type: str
    replaces:
      description: Assignments in other files that give way, with file and line.
      type: list
      elements: dict
    running:
      description: Its main processes, with what each was started with.
      type: list
      elements: dict
    memory_kb:
      description: Memory in use by node, in kB. None while it does not run, or where its control group does not count.
      type: dict
    restart:
      description: What they lack, one sentence each.
      type: list
      elements: str
restart:
  description: Services that get their place at their next start, one sentence each.
  returned: when O(state) is not V(absent)
  type: list
  elements: str
  sample:
    - "restart vllm.service to place it: pid 812 has processors 0-63, wanted 32-63"
far:
  description:
    - Services of the host, placed here or not, that keep to one node while their memory, GPU or link is on another.
    - Each with C(unit), C(pid), C(process), C(node), C(belongs) (the node where it should be), C(far_from) and C(text).
  returned: when O(state) is not V(absent)
  type: list
  elements: dict
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

from ansible_collections.netops.fleet.plugins.module_utils._safety import change, journal, lock, objects
from ansible_collections.netops.fleet.plugins.module_utils._tuning import placement


def main() -> None:
    module = AnsibleModule(argument_spec=placement.ARGUMENTS, supports_check_mode=True)
    try:
        result = placement.run(placement.Options.from_params(module.params), module.check_mode)
    except change.ChangeError as error:
        module.fail_json(msg=str(error), **error.facts)
    except (journal.JournalError, lock.Busy, objects.ObjectError, OSError, ImportError) as error:
        module.fail_json(msg=f"Nothing was changed. {error}")
    for line in result.pop("warnings"):
        module.warn(line)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
