#!/usr/bin/python

# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: huge_pages
short_description: Reserve huge pages per NUMA node and set transparent huge pages, now and early at boot, with a way back
version_added: 0.1.0
author:
  - netops.fleet contributors (@netops-fleet)
description:
  - Reserves huge pages on the node of a NIC or GPU, on a named node, or on every node with memory and processors.
  - Pages that were there before stay. They may be another program's, so a number only rises above them.
  - A kernel whose memory is fragmented gives fewer pages than asked for. The module asks several times, warns with the number it
    got, and leaves the rest to the next boot. It does not ask again in the same boot.
  - A unit of its own, C(netops-fleet-pages.service), reserves the pages early at boot, while memory is whole.
  - The task declares everything. What an earlier run set and this one does not want returns to its original, which stands in the
    journal on the host. See M(netops.fleet.change_journal) for the way back.
options:
  pages:
    description: Huge pages to reserve.
    type: list
    elements: dict
    default: []
    suboptions:
      count:
        description: Pages per node, at least.
        type: int
        required: true
      size:
        description: Size of a page, such as V(2M) or V(1G). By default the size that the kernel uses when a program names none.
        type: str
      near:
        description:
          - Where. C(gpu:NUMBER), C(gpu:ADDRESS) or C(nic:NAME) is the node of that device, C(node:NUMBER) a node.
          - By default every node with memory and processors, so not a GPU's own memory.
        type: str
        default: ""
  thp:
    description: Transparent huge pages, which the kernel gives without being asked.
    type: dict
    default: {}
    suboptions:
      enabled:
        description: Who gets them. V(keep) leaves it to O(profile).
        type: str
        choices: [keep, always, madvise, never]
        default: keep
      defrag:
        description: Who waits while memory is compacted for them. V(keep) leaves it to O(profile).
        type: str
        choices: [keep, always, defer, defer+madvise, madvise, never]
        default: keep
  profile:
    description:
      - What the host is for. It decides about transparent huge pages where O(thp) does not.
      - V(own) leaves them as they are.
    type: str
    choices: [inference, training, gateway, storage, own]
    default: own
  persist:
    description: Whether it is also done at boot. Needs systemd.
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
  - module: netops.fleet.service_placement
  - module: netops.fleet.change_journal
"""

EXAMPLES = r"""
- name: Show what would be reserved near the first GPU and change nothing
  netops.fleet.huge_pages:
    state: planned
    pages:
      - count: 16
        near: gpu:0

- name: Reserve pages on every node, transparent ones as inference wants them
  netops.fleet.huge_pages:
    profile: inference
    pages:
      - count: 16

- name: Only programs that ask get transparent huge pages
  netops.fleet.huge_pages:
    thp:
      enabled: madvise

- name: Return to what was there before
  netops.fleet.huge_pages:
    state: absent
"""

RETURN = r"""
plan:
  description: One entry per pool of pages and per setting of transparent huge pages.
  returned: when O(state) is not V(absent)
  type: list
  elements: dict
  contains:
    what:
      description: C(pages) or C(thp).
      type: str
    node:
      description: The NUMA node. None for the whole host.
      type: int
    size_kb:
      description: Size of a page.
      type: int
    present:
      description: Pages or value before the change.
      type: str
    wanted:
      description: Pages or value wanted.
      type: str
    why:
      description: The reason for node or value.
      type: str
    action:
      description: C(none), C(set), C(skip), or C(short) when this boot has given all it can.
      type: str
    reason:
      description: More about the action.
      type: str
pools:
  description: All huge pages of the host as they are now, with C(node), C(size_kb), C(pages) and C(free).
  returned: when O(state) is not V(absent)
  type: list
  elements: dict
shortages:
  description: Pools that got fewer pages than wanted, one sentence each. They are warnings too.
  returned: when O(state) is not V(absent)
  type: list
  elements: str
  sample:
    - "node 1: got 700 of 1024 pages of 2M: memory is fragmented or in use; at the next boot they are reserved early"
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
from ansible_collections.netops.fleet.plugins.module_utils._tuning import pages


def main() -> None:
    module = AnsibleModule(argument_spec=pages.ARGUMENTS, supports_check_mode=True)
    try:
        result = pages.run(pages.Options.from_params(module.params), module.check_mode)
    except change.ChangeError as error:
        module.fail_json(msg=str(error), **error.facts)
    except (journal.JournalError, lock.Busy, objects.ObjectError, OSError, ImportError) as error:
        module.fail_json(msg=f"Nothing was changed. {error}")
    for line in result.pop("warnings"):
        module.warn(line)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
