#!/usr/bin/python

# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: firewall_opening
short_description: Open a port for a while; the kernel itself closes it
version_added: 0.1.0
author:
  - netops.fleet contributors (@netops-fleet)
description:
  - Puts a rule that accepts the port first into every input chain of the host that may refuse it, nftables, iptables-nft and
    iptables-legacy alike.
  - The rule carries its end, so the port closes when the time is over even if the controller, the session and every process
    on the host died meanwhile. Nothing is written for the next boot; somebody who saves the rules saves their end too.
  - Chains of other programs are left alone. Where firewalld filters, RV(notes) has its own command, which closes by itself too.
options:
  port:
    description: Protocol and port, such as V(tcp/8080).
    type: str
    required: true
  source:
    description: For whom, an address or a prefix. By default for all.
    type: str
  state:
    description: V(closed) closes what this module opened for this port and source, before its time.
    type: str
    choices: [open, closed]
    default: open
  seconds:
    description: How long, up to a day.
    type: int
    default: 3600
  extend:
    description: Whether a port that is still open gets the whole time again. By default it keeps the time it has left.
    type: bool
    default: false
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
  - module: netops.fleet.packet_verdict
  - module: netops.fleet.firewall_groups
"""

EXAMPLES = r"""
- name: Let a colleague see the notebook for an hour
  netops.fleet.firewall_opening:
    port: tcp/8888
    source: 198.51.100.7

- name: He is done
  netops.fleet.firewall_opening:
    port: tcp/8888
    source: 198.51.100.7
    state: closed
"""

RETURN = r"""
until:
  description: When it closes, in seconds since the epoch. None when it is not open.
  returned: success
  type: int
chains:
  description: Where the rule stands, back end, family, table and chain.
  returned: success
  type: list
  elements: str
notes:
  description: What was left alone and may still refuse the port.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.netops.fleet.plugins.module_utils._firewall import opening, set_plan
from ansible_collections.netops.fleet.plugins.module_utils._safety import change, lock


def main() -> None:
    module = AnsibleModule(argument_spec=opening.ARGUMENTS, supports_check_mode=True)
    try:
        result = opening.run(module.params, module.check_mode)
    except set_plan.SetsError as error:
        module.fail_json(msg=f"Nothing was changed. {error}")
    except (change.ChangeError, lock.Busy, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
