#!/usr/bin/python
# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens to a packet on a host, and what decides."""

from __future__ import annotations

DOCUMENTATION = r"""
module: packet_verdict
short_description: Say what happens to a packet on this host, and which rule, route or hook decides
version_added: 0.1.0
description:
  - Reads the packet filter (nft, iptables in both variants, ipset), routes, policy rules, reverse path check and hooked programs
    once, then walks each given packet through them in the kernel's order. No packet is sent.
  - The answer names the deciding object, and the commands after which the packet passes.
  - What depends on more than the packet (rate limits, programs, queues) makes the verdict C(unknown) where it matters, never a
    guess; RV(verdicts[].why) names it.
  - Changes nothing and loads no kernel module. What could not be read is said in RV(coverage).
options:
  packets:
    description: The packets to walk.
    type: list
    elements: dict
    required: true
    suboptions:
      direction:
        description: C(incoming) comes in by an interface, to this host or through it. C(outgoing) is sent by this host.
        type: str
        choices: [incoming, outgoing]
        default: incoming
      interface:
        description:
          - Interface it comes in or goes out by.
          - With V(auto), the one that leads back to the sender, or that of the route.
        type: str
        default: auto
      source:
        description: Address of the sender. By default a neighbour in the destination's subnet, or the address the kernel chooses.
        type: str
      destination:
        description: Address it goes to.
        type: str
        required: true
      protocol:
        description: C(tcp), C(udp), C(sctp), C(icmp), C(icmpv6), or a number.
        type: str
        default: tcp
      source_port:
        description: Port of the sender. By default 49152.
        type: int
      destination_port:
        description: Port it goes to. Required for tcp, udp and sctp.
        type: int
      icmp_type:
        description: Type of an ICMP message, as number or by the name that nft has for it. By default C(echo-request).
        type: str
      icmp_code:
        description: Code of an ICMP message. By default 0.
        type: int
      tcp_flags:
        description: Flags that are set. By default C(syn) alone, the first packet of a connection.
        type: list
        elements: str
        choices: [fin, syn, rst, psh, ack, urg, ece, cwr]
      state:
        description: State of its connection. With V(auto), that of a packet which belongs to no connection yet.
        type: str
        choices: [auto, new, established, related, invalid, untracked]
        default: auto
      mark:
        description: Mark of the packet.
        type: int
        default: 0
      source_mac:
        description: Hardware address of the frame's sender, for packets from the wire. Not known by default.
        type: str
      tos:
        description: The whole type of service or traffic class byte. Not known by default.
        type: int
      ttl:
        description: Time to live, or hop limit. Not known by default.
        type: int
      length:
        description: Length of the IP packet in bytes. Not known by default.
        type: int
      uid:
        description: User of the sending process. Not known by default.
        type: int
      gid:
        description: Group of the sending process. Not known by default.
        type: int
  netns:
    description:
      - Network namespace to look at, by its name as C(ip netns) lists it, or by path.
      - By default that in which Ansible runs on the host.
    type: str
  programs:
    description: Whether to look at BPF programs and traffic control filters on the way.
    type: bool
    default: true
  set_elements:
    description: Members of sets with at most this many are read; larger sets make rules that ask them uncertain.
    type: int
    default: 1000000
extends_documentation_fragment:
  - netops.fleet.attributes.reader
requirements:
  - Linux 4.18 or newer; root. The tools C(nft), C(iptables-save) and C(ipset), for those the kernel has rules of.
author:
  - netops.fleet contributors (@netops-fleet)
"""

EXAMPLES = r"""
- name: Ask what happens to a connection to the node's exporter, and to an answer of a resolver
  netops.fleet.packet_verdict:
    packets:
      - source: 192.0.2.10
        destination: 127.0.0.1
        destination_port: 9100
        interface: lo
      - direction: outgoing
        destination: 127.0.0.53
        protocol: udp
        destination_port: 53
  register: result

- name: Show what decides
  ansible.builtin.debug:
    msg: "{{ item.text }}; {{ item.fix }}"
  loop: "{{ result.verdicts }}"
  loop_control:
    label: "{{ item.verdict }}"

- name: Ask inside a network namespace, for a ping that comes in by one interface
  netops.fleet.packet_verdict:
    netns: blue
    packets:
      - interface: eth0
        source: 192.0.2.10
        destination: 192.0.2.11
        protocol: icmp
"""

RETURN = r"""
verdicts:
  description: One answer for each packet, in the order in which they were given.
  returned: success
  type: list
  elements: dict
  contains:
    verdict:
      description: C(accept), C(drop), C(reject), or C(unknown).
      type: str
      returned: always
      sample: drop
    grade:
      description: >-
        C(proven) when every part on the way was understood, C(likely) when the packet passes what could be read and something
        could not. Null for C(unknown).
      type: str
      returned: always
      sample: proven
    text:
      description: The answer in one sentence.
      type: str
      returned: always
      sample: "protocol 6 192.0.2.10 → 192.0.2.11:1678: drop by nft inet filter input handle 7: tcp dport 1678 drop"
    decided_by:
      description: >-
        What decided: C(kind) is C(rule), C(policy), C(route), C(policy_rule), C(sysctl), C(ttl) or C(hook); C(where) names it,
        C(text) is how an administrator sees it. A rule has its back end, family, table, chain, handle, line, owner and counter as
        well. Null when nothing stood in the way.
      type: dict
      returned: always
      sample: {kind: rule, where: nft inet filter input handle 7, text: tcp dport 1678 drop, handle: 7}
    path:
      description: Chains, address rewrites, routing and programs on the way, in order.
      type: list
      elements: str
      returned: always
    why:
      description: What made the verdict C(unknown). Null otherwise.
      type: str
      returned: always
    possible:
      description: >-
        What could decide otherwise, or do the same as RV(verdicts[].decided_by); each with C(verdict), C(why), C(what), and
        C(rule) where it is one.
      type: list
      elements: dict
      returned: always
    fix:
      description: Commands after which the packet passes. Lines that start with C(#) are remarks. The module runs none of them.
      type: list
      elements: str
      returned: always
      sample: ["nft delete rule inet filter input handle 7"]
    packet:
      description: The packet as it was walked, with what was filled in.
      type: dict
      returned: always
    packet_after:
      description: The packet at its end, after marks and address translation. Null fields are not known.
      type: dict
      returned: always
coverage:
  description: Parts that could not be read, each with C(what) and C(why). Empty when everything was read.
  returned: success
  type: list
  elements: dict
  sample: [{what: firewall.nft, why: "nft: not installed"}]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import verdict, world
from ansible_collections.netops.fleet.plugins.module_utils._evidence import hook_detach
from ansible_collections.netops.fleet.plugins.module_utils._kernel import netns


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "packets": {"type": "list", "elements": "dict", "required": True, "options": verdict.PACKET},
            "netns": {"type": "str"},
            "programs": {"type": "bool", "default": True},
            "set_elements": {"type": "int", "default": 1000000},
        },
        supports_check_mode=True,
    )
    namespace = module.params["netns"]
    if namespace is not None:
        try:
            netns.enter(namespace)
        except (OSError, ValueError) as error:
            module.fail_json(
                msg=f"network namespace {namespace!r} cannot be entered: {error}. "
                "Give a name that 'ip netns' lists, or the path of a namespace, and run as root."
            )
    where = hook_detach.inside(namespace) if namespace is not None else None
    host = world.read(module.params["set_elements"], module.params["programs"], where)
    try:
        found = verdict.verdicts(module.params["packets"], host)
    except verdict.PacketError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, verdicts=found, coverage=[gap.to_dict() for gap in host.gaps])


if __name__ == "__main__":
    main()
