#!/usr/bin/python

# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: firewall_groups
short_description: Who may reach which port, declared as named groups of addresses
version_added: 0.1.0
author:
  - netops.fleet contributors (@netops-fleet)
description:
  - Makes one nftables table of its own, C(inet netops_groups), with a set for each group and a few rules, in one transaction.
  - A port that a group names is for the groups that name it, and nobody else. Ports that no group names are left alone. What a
    group with O(groups[].action=block) holds is refused.
  - The table only takes away. What other rules of the host refuse stays refused, and no rule, chain or set of others is touched.
  - A port that M(netops.fleet.firewall_opening) opened stays open until its end when groups are declared, changed or taken back,
    and RV(notes) says which. With O(state=absent) its rule goes with the table; other rules of the host decide then.
  - Connections that are established go on. Loopback is never restricted.
  - The table is first tried in a network namespace of its own. A plan under which the SSH connection that it came over could not
    be opened again is refused.
options:
  state:
    description: Whether the groups are in force.
    type: str
    choices: [present, absent]
    default: present
  groups:
    description: All groups. What an earlier run declared and this one does not is gone.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description:
          - Its name; its sets are called like it, with C(4) or C(6) behind. Letters, digits, C(-) and C(_), at most 28, the first
            a letter. C(ip) and C(icmpv) are refused, since C(ip6) and C(icmpv6) are words of nft.
        type: str
        required: true
      addresses:
        description: Addresses, prefixes or ranges, IPv4 and IPv6. A C(comment "TEXT") may stand behind one.
        type: list
        elements: str
        default: []
      ports:
        description:
          - Ports such as C(tcp/22) or C(udp/8000-8010).
          - A group that is allowed and names none may reach every port that another group names. One that is blocked and names
            none is blocked from all.
        type: list
        elements: str
        default: []
      action:
        description: Whether its addresses are let in where others are not, or refused.
        type: str
        choices: [allow, block]
        default: allow
  lockout:
    description: Whether a plan is applied under which the present SSH connection could not be opened again.
    type: bool
    default: false
  persist:
    description: Whether the table is there at the next boot. That boot is rehearsed, as with M(netops.fleet.ipset).
    type: bool
    default: true
  deadman:
    description:
      - Seconds within which M(netops.fleet.change_journal) must confirm the change, else the host takes it back alone. V(0) sets
        no timer.
    type: int
    default: 0
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
  - module: netops.fleet.ipset
  - module: netops.fleet.firewall_opening
  - module: netops.fleet.change_journal
"""

EXAMPLES = r"""
- name: Who may log in, who may scrape, who may not come at all
  netops.fleet.firewall_groups:
    groups:
      - name: admins
        addresses: [192.0.2.0/24, "2001:db8:1::/48"]
        ports: [tcp/22]
      - name: monitors
        addresses: ["198.51.100.9", "198.51.100.10"]
        ports: [tcp/9100, tcp/9400]
      - name: blocked
        addresses: [203.0.113.0/24]
        action: block
    lockout: true # there is no SSH connection to keep on this machine
    deadman: 60

- name: No groups any more
  netops.fleet.firewall_groups:
    state: absent
"""

RETURN = r"""
ruleset:
  description: The table as nft lists it. Empty when it is gone.
  returned: success
  type: str
change:
  description: The id of the change in the journal. None when nothing changed.
  returned: success
  type: str
confirm_within:
  description: Seconds within which the change must be confirmed. None when no timer was set.
  returned: success
  type: int
notes:
  description: What the reader should know beside it.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.netops.fleet.plugins.module_utils._firewall import groups_apply, set_plan
from ansible_collections.netops.fleet.plugins.module_utils._safety import change, journal, lock, objects


def main() -> None:
    module = AnsibleModule(argument_spec=groups_apply.ARGUMENTS, supports_check_mode=True)
    try:
        result = groups_apply.run(module.params, module.check_mode)
    except set_plan.SetsError as error:
        module.fail_json(msg=f"Nothing was changed. {error}")
    except change.ChangeError as error:
        module.fail_json(msg=str(error), **error.facts)
    except (journal.JournalError, lock.Busy, objects.ObjectError, OSError) as error:
        module.fail_json(msg=f"Nothing was changed. {error}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
