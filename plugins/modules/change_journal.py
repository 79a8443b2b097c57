#!/usr/bin/python

# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: change_journal
short_description: Read, confirm or roll back what this collection changed on a host
version_added: 0.1.0
author:
  - netops.fleet contributors (@netops-fleet)
description:
  - Modules of this collection that change a host write the original of every object into a journal on that host before they touch
    it, C(/var/lib/netops.fleet/journal.jsonl). An original is written once, whatever happens to the object later.
  - Rolling back returns objects to these originals, one by one, and reads each back. An object that somebody else changed since
    is reported and left alone.
  - The journal survives the death of the module at any moment. It can be read and rolled back without Ansible, by
    C(python3 /var/lib/netops.fleet/journal.pyz show) and C(rollback).
options:
  state:
    description:
      - V(read) returns the journal.
      - V(confirmed) tells the host's dead-man's timer that the host can still be reached.
      - V(rolled_back) returns objects to their originals, or takes O(change) back.
    type: str
    choices: [read, confirmed, rolled_back]
    default: read
  owner:
    description: With O(state=rolled_back), only objects that this module changed, such as V(sysctl_tuning).
    type: str
  change:
    description:
      - The id of one change, as the changing module returned it.
      - With O(state=rolled_back), only this change is taken back. Its objects return to what they were before it, which is not
        their original when an earlier change is in force.
      - With O(state=confirmed), all changes that wait are confirmed, because a connection that was opened after the last of them
        proves as much for all; it is an error when the host took this change back meanwhile.
    type: str
  since:
    description:
      - A mark, as V(read) returns it in RV(journal), or M(netops.fleet.host_health) in C(health). With O(state=rolled_back), all
        changes begun after it are taken back, by whichever module.
    type: str
  run:
    description:
      - With O(since), only changes of this run, whose modules were called with it in the environment as C(NETOPS_FLEET_RUN).
        What others changed on the host at the same time stays.
    type: str
  force:
    description: Whether to restore also what somebody else changed since.
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
  - module: netops.fleet.sysctl_tuning
"""

EXAMPLES = r"""
- name: Show what this collection changed
  netops.fleet.change_journal:

- name: Return everything to its original
  netops.fleet.change_journal:
    state: rolled_back

- name: The host is still reachable, keep the change
  netops.fleet.change_journal:
    state: confirmed
"""

RETURN = r"""
journal:
  description: Objects that differ from their originals, changes, and the change that waits for its confirmation.
  returned: when O(state) is V(read)
  type: dict
confirmed:
  description: The ids of the changes that were confirmed. Empty when none was waiting.
  returned: when O(state) is V(confirmed)
  type: list
  elements: str
steps:
  description: What was done with each object, last changed first. The verdict is C(restore), C(already), C(foreign) or C(failed).
  returned: when O(state) is V(rolled_back)
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.netops.fleet.plugins.module_utils._safety import act, journal, lock, rollback


def main() -> None:
    module = AnsibleModule(
        argument_spec=act.ARGUMENTS, supports_check_mode=True, mutually_exclusive=act.EXCLUSIVE, required_by={"run": "since"}
    )
    try:
        result = act.run(module.params, module.check_mode)
    except act.ActError as error:
        module.fail_json(msg=str(error), **error.facts)
    except (journal.JournalError, lock.Busy, OSError) as error:
        module.fail_json(msg=f"Nothing was changed. {error}")
    for line in result.pop("warnings"):
        module.warn(line)
    if "steps" in result:
        result["diff"] = rollback.diff(result["steps"])
    module.exit_json(**result)


if __name__ == "__main__":
    main()
