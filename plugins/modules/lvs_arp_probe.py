#!/usr/bin/python
# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lvs_arp_probe
short_description: Ask the segment who answers for a virtual address
version_added: 0.1.0
description:
  - Sends ARP requests, or neighbour solicitations for IPv6, and collects who answers. No cache is asked and none is filled.
  - Behind a direct-routing load balancer exactly one host may answer, the active director. With more, clients are sent past it.
  - The asking host does not hear itself. Ask from at least two hosts, or from one that serves nothing.
author:
  - netops.fleet contributors (@netops-fleet)
extends_documentation_fragment:
  - netops.fleet.attributes
  - netops.fleet.attributes.reader
options:
  addresses:
    description: The addresses to ask for.
    type: list
    elements: str
    required: true
  link:
    description: The link to ask on.
    type: str
    required: true
  seconds:
    description: Seconds to listen for each address.
    type: float
    default: 2.0
  expect:
    description: Fail unless exactly this many hosts answer for each address.
    type: int
  allowed:
    description: Fail when another MAC address answers. Empty for any.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: The director alone answers for the virtual address
  netops.fleet.lvs_arp_probe:
    addresses: [192.0.2.80]
    link: eth0
    expect: 1
"""

RETURN = r"""
answers:
  description: MAC addresses that answered, by address.
  returned: always
  type: dict
  sample: {"192.0.2.80": ["02:00:5e:10:00:01"]}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.netops.fleet.plugins.module_utils._lvs import segment


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "addresses": {"type": "list", "elements": "str", "required": True},
            "link": {"type": "str", "required": True},
            "seconds": {"type": "float", "default": 2.0},
            "expect": {"type": "int"},
            "allowed": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    options = module.params
    answers = {}
    try:
        for address in options["addresses"]:
            answers[address] = segment.ask(options["link"], address, options["seconds"])
    except (segment.CannotAsk, ValueError) as error:
        module.fail_json(msg=f"could not ask: {error}", answers=answers)
    allowed = {one.lower() for one in options["allowed"]}
    wrong = [
        f"{address}: {', '.join(found) or 'nobody'}"
        for address, found in answers.items()
        if (options["expect"] is not None and len(found) != options["expect"]) or (allowed and set(found) - allowed)
    ]
    if wrong:
        module.fail_json(msg=f"answers for virtual addresses are not as expected: {'; '.join(wrong)}", answers=answers)
    module.exit_json(changed=False, answers=answers)


if __name__ == "__main__":
    main()
