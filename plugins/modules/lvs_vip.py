#!/usr/bin/python
# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lvs_vip
short_description: Virtual addresses of a real server behind a direct-routing load balancer
version_added: 0.1.0
description:
  - Puts virtual addresses on C(lo) of a real server, after the kernel was told not to answer ARP for them.
  - Takes them off before it lets the kernel answer again. The sysctls return to what they were before this module's first run.
  - Changes the running system; the role M(netops.fleet.lvs_real_server) makes it last over reboots.
author:
  - netops.fleet contributors (@netops-fleet)
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
options:
  addresses:
    description: The virtual addresses, IPv4 or IPv6, without prefix length.
    type: list
    elements: str
    required: true
  links:
    description: Links that face the segment. Their C(arp_ignore) and C(arp_announce) are set as well as those of C(all).
    type: list
    elements: str
    default: []
  state:
    description: Whether the addresses are there.
    type: str
    choices: [present, absent]
    default: present
  state_folder:
    description:
      - Folder on the host that keeps what the sysctls were.
      - One that is there stays as it is; one that others may write to is refused. A new one is for root only.
    type: path
    default: /var/lib/netops.fleet/lvs
seealso:
  - module: netops.fleet.lvs_arp_probe
"""

EXAMPLES = r"""
- name: Serve 192.0.2.80 without answering for it
  netops.fleet.lvs_vip:
    addresses: [192.0.2.80, "2001:db8::80"]
    links: [eth0]

- name: Stop serving it
  netops.fleet.lvs_vip:
    addresses: [192.0.2.80, "2001:db8::80"]
    links: [eth0]
    state: absent
"""

RETURN = r"""
changes:
  description: What was changed, or would be in check mode, in order.
  returned: always
  type: list
  elements: dict
  sample: [{"kind": "sysctl", "name": "all arp_ignore", "before": "0", "after": "1"}]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.netops.fleet.plugins.module_utils._lvs import vip


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "addresses": {"type": "list", "elements": "str", "required": True},
            "links": {"type": "list", "elements": "str", "default": []},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "state_folder": {"type": "path", "default": "/var/lib/netops.fleet/lvs"},
        },
        supports_check_mode=True,
    )
    options = module.params
    try:
        result = vip.apply(
            options["state"] == "present", options["addresses"], options["links"], options["state_folder"], module.check_mode
        )
    except vip.Wrong as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
