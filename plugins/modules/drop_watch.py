#!/usr/bin/python
# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packets the kernel drops, as they happen, for a bounded time."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drop_watch
short_description: Watch for a while which packets the kernel drops, and why
version_added: 0.1.0
description:
  - Counts the packets that the kernel of the host drops during a window, by its own reason and the function that dropped them.
  - Where C(bpftrace) is installed it also tells interface, addresses and port, of the network namespace alone. Elsewhere the
    tracer of the kernel is used, which counts for the whole machine. RV(source) says which it was.
  - The host is left as it was, also when the run is killed. While nothing is watched, nothing is in the way of packets.
  - Not every drop is a fault. A closing socket and a packet for another host are drops too.
options:
  seconds:
    description: How long to watch, at most 300.
    type: float
    default: 5
  source:
    description: How to watch. With V(auto) C(bpftrace) where it works, else the tracer.
    type: str
    choices: [auto, bpftrace, tracefs]
    default: auto
extends_documentation_fragment:
  - netops.fleet.attributes.reader
requirements:
  - Root, and a kernel with the event C(skb/kfree_skb). Reasons came with Linux 5.17.
seealso:
  - module: netops.fleet.connection_watch
  - module: netops.fleet.host_evidence
author:
  - netops.fleet contributors (@netops-fleet)
"""

EXAMPLES = r"""
- name: Watch for five seconds
  netops.fleet.drop_watch:
  register: result

- name: Show what was dropped most
  ansible.builtin.debug:
    msg: "{{ item.count }} {{ item.reason }} in {{ item.location }}"
  loop: "{{ result.drops[:5] }}"
  loop_control:
    label: "{{ item.reason }}"

- name: Count without a program in the kernel
  netops.fleet.drop_watch:
    seconds: 2
    source: tracefs
"""

RETURN = r"""
source:
  description: What watched, C(bpftrace) or C(tracefs). Null when nothing could.
  returned: always
  type: str
  sample: bpftrace
scope:
  description: What was watched, C(netns), C(host), or C(machine) when a container of it could not be told apart.
  returned: always
  type: str
  sample: netns
seconds:
  description: How long it was watched.
  returned: when it was watched
  type: float
  sample: 5.001
total:
  description: Packets dropped.
  returned: when it was watched
  type: int
  sample: 212
lost:
  description: Drops that were not counted, because they found no room.
  returned: when it was watched
  type: int
  sample: 0
drops:
  description: Packets dropped by kind, most first.
  returned: always
  type: list
  elements: dict
  contains:
    reason:
      description: The kernel's reason. Null before Linux 5.17.
      type: str
      returned: always
      sample: NETFILTER_DROP
    location:
      description: Function that dropped it.
      type: str
      returned: always
      sample: nft_do_chain_inet
    protocol:
      description: By Ethernet type, such as C(ipv4). C(none) for packets that have none.
      type: str
      returned: always
      sample: ipv4
    l4:
      description: Protocol within IP. Null without one.
      type: str
      returned: with C(bpftrace)
      sample: tcp
    from:
      description: Source address.
      type: str
      returned: with C(bpftrace)
      sample: 192.0.2.2
    to:
      description: Destination address.
      type: str
      returned: with C(bpftrace)
      sample: 192.0.2.10
    port:
      description: Destination port. Null without one.
      type: int
      returned: with C(bpftrace)
      sample: 1678
    interface:
      description: Interface of the packet. Null without one.
      type: str
      returned: with C(bpftrace)
      sample: eth0
    count:
      description: How many.
      type: int
      returned: always
      sample: 211
coverage:
  description: What could not be told, each with C(what) and C(why).
  returned: always
  type: list
  elements: dict
  sample: [{what: drops.bpftrace, why: "bpftrace is not installed: no interface, address and port"}]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.netops.fleet.plugins.module_utils._evidence import drop_watch, watching


def main() -> None:
    module = AnsibleModule(argument_spec=watching.ARGUMENTS, supports_check_mode=True)
    try:
        section = drop_watch.watch(watching.seconds(module.params), module.params["source"])
    except ValueError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **watching.result(section, "drops"))


if __name__ == "__main__":
    main()
