#!/usr/bin/python
# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nft_rule_facts
short_description: Read all packet filter rules of a host in one form
version_added: 0.1.0
description:
  - Reads every table, chain, rule and set of nftables, C(iptables-nft), C(iptables-legacy) and C(ipset), for IPv4, IPv6, ARP,
    bridges and network devices, and returns them in one form with handles, counters, comments and the program that owns them.
  - Reading changes nothing. No kernel module is loaded and no table is made; a back end is asked only when the kernel
    already has it.
  - What could not be read is named in RV(coverage). A back end is C(absent) only when the kernel says so.
  - Needs root, and the tools of the back ends in use (C(nft), C(iptables-nft-save), C(iptables-legacy-save), C(ipset)).
author:
  - netops.fleet contributors (@netops-fleet)
extends_documentation_fragment:
  - netops.fleet.attributes.facts
  - netops.fleet.attributes.reader
options:
  families:
    description:
      - Read tables of these families only.
      - A verdict needs all of them; the default reads all.
    type: list
    elements: str
    choices: [ip, ip6, inet, arp, bridge, netdev]
  tables:
    description: Read tables of these names only, in the families that are read.
    type: list
    elements: str
  elements:
    description:
      - Read the members of sets that have at most this many.
      - With V(0) no member is read, which keeps hosts with sets of a million members fast.
    type: int
    default: 0
  netns:
    description:
      - Read this network namespace instead of the one the module runs in.
      - A name known to C(ip netns), or an absolute path such as C(/proc/4242/ns/net).
    type: str
  timeout:
    description: Seconds that each tool may take.
    type: int
    default: 30
seealso:
  - name: nft(8)
    description: The words rules are described in.
    link: https://www.netfilter.org/projects/nftables/manpage.html
"""

EXAMPLES = r"""
- name: Read all rules of the host
  netops.fleet.nft_rule_facts:

- name: Show every rule that drops, with its handle
  ansible.builtin.debug:
    msg: "{{ item.family }} {{ item.table }} {{ item.chain }} handle {{ item.handle | default('none') }}: {{ item.text }}"
  loop: "{{ ansible_facts.nft_rule_facts.rules | selectattr('verdict', 'defined') | selectattr('verdict.kind', 'eq', 'drop') }}"
  loop_control:
    label: "{{ item.text }}"

- name: Read one table with the members of its small sets
  netops.fleet.nft_rule_facts:
    families: [inet]
    tables: [filter]
    elements: 4096

- name: Read the rules of a container's network namespace
  netops.fleet.nft_rule_facts:
    netns: /proc/4242/ns/net
"""

RETURN = r"""
ansible_facts:
  description: The rules.
  returned: always
  type: dict
  contains:
    nft_rule_facts:
      description: All packet filters of one network namespace.
      returned: always
      type: dict
      contains:
        backends:
          description:
            - Whether each back end could be read; C(status) is V(ok), V(absent) or V(unread), C(why) says why it is unread.
          returned: always
          type: list
          elements: dict
          sample: [{"name": "nft", "status": "ok"}, {"name": "iptables-legacy", "status": "absent"}]
        chains:
          description: Chains with hook, priority, policy, type, devices, handle and owner.
          returned: always
          type: list
          elements: dict
          sample:
            - {"backend": "nft", "family": "inet", "table": "filter", "name": "input", "hook": "input", "priority": 0,
               "policy": "drop", "type": "filter", "handle": 1, "owner": "user"}
        rules:
          description:
            - Rules in the order of their chain. C(text) is what the admin sees in C(nft list) or C(iptables-save), C(parts) what
              it means, C(verdict) how it ends. A part that is not understood is of the kind C(unknown), never left out.
          returned: always
          type: list
          elements: dict
          sample:
            - {"backend": "nft", "family": "inet", "table": "filter", "chain": "input", "line": 1, "text": "tcp dport 22 accept",
               "parts": [{"t": "match", "left": "tcp dport", "op": "in", "values": [22]}], "verdict": {"kind": "accept"},
               "handle": 4, "owner": "user"}
        sets:
          description: Named sets and maps of nftables, and ipsets; C(elements) only where members were read.
          returned: always
          type: list
          elements: dict
          sample:
            - {"backend": "ipset", "family": "inet", "table": "", "name": "blocked", "type": "hash:ip", "count": 3,
               "options": {"hashsize": 1024, "maxelem": 65536}, "owner": "user"}
coverage:
  description: What could not be read, and why. Empty when everything was read.
  returned: always
  type: list
  elements: dict
  contains:
    what:
      description: The part.
      type: str
      returned: always
      sample: firewall.iptables-legacy
    why:
      description: The reason.
      type: str
      returned: always
      sample: the kernel has tables filter, iptables-legacy-save is not installed
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.netops.fleet.plugins.module_utils._firewall.read import read
from ansible_collections.netops.fleet.plugins.module_utils._kernel import netns

FAMILIES = ("ip", "ip6", "inet", "arp", "bridge", "netdev")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "families": {"type": "list", "elements": "str", "choices": list(FAMILIES)},
            "tables": {"type": "list", "elements": "str"},
            "elements": {"type": "int", "default": 0},
            "netns": {"type": "str"},
            "timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    options = module.params
    if options["elements"] < 0 or options["timeout"] < 1:
        module.fail_json(msg="elements must be 0 or more, timeout 1 or more")
    if options["netns"]:
        try:
            netns.enter(options["netns"])
        except (OSError, ValueError) as error:
            module.fail_json(
                msg=f"netns {options['netns']}: {error}; allowed is a name shown by 'ip netns' or the path of a namespace"
            )
    wanted = None
    if options["families"] or options["tables"]:
        names = options["tables"] or [None]
        wanted = [(family, name) for family in options["families"] or FAMILIES for name in names]
    section = read(options["elements"] or False, wanted, timeout=options["timeout"])
    module.exit_json(
        ansible_facts={"nft_rule_facts": section.data.to_dict()},
        coverage=[gap.to_dict() for gap in section.gaps],
    )


if __name__ == "__main__":
    main()
