#!/usr/bin/python
# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove what stops a packet, once it was shown and confirmed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: remediation
short_description: Remove the rule or program that stops a packet, after it was shown and confirmed
version_added: 0.1.0
description:
  - Finds what stops a packet, as M(netops.fleet.packet_verdict) does, and makes a plan of what must go for it to pass.
  - The plan has an id. It is carried out only when O(confirm) names that id, so that what is removed is what was shown.
  - Before anything is removed, a record with the way back is written on the host. A rule is removed from the file that loads
    it at boot as well, where it stands in one of O(files); a service that holds a program is stopped and disabled.
  - Rules that belong to another program (docker, kube-proxy, firewalld ...) are not touched.
options:
  packet:
    description: The packet that shall pass; options as of one of O(netops.fleet.packet_verdict#module:packets).
    type: dict
    suboptions:
      direction:
        description: As of the packet to be walked.
        type: str
        choices: [incoming, outgoing]
        default: incoming
      interface:
        description: Interface it comes in or goes out by.
        type: str
        default: auto
      source:
        description: Address of the sender.
        type: str
      destination:
        description: Address it goes to.
        type: str
        required: true
      protocol:
        description: Name or number.
        type: str
        default: tcp
      source_port:
        description: Port of the sender.
        type: int
      destination_port:
        description: Port it goes to.
        type: int
  state:
    description: >-
      V(shown) makes the plan only. V(removed) carries it out. V(present) undoes the removal of which O(confirm) is the id.
    type: str
    choices: [shown, removed, present]
    default: shown
  confirm:
    description: Id of the plan to carry out, or to undo.
    type: str
  suspected:
    description:
      - Whether programs that may stop the packet are part of the plan, where nothing else does. What a program does to one packet
        is seldom certain; a connection that is made afterwards shows it.
    type: bool
    default: false
  files:
    description: Files from which rules are loaded at boot.
    type: list
    elements: str
    default:
      - /etc/nftables.conf
      - /etc/sysconfig/nftables.conf
      - /etc/iptables/rules.v4
      - /etc/iptables/rules.v6
      - /etc/sysconfig/iptables
      - /etc/sysconfig/ip6tables
  folder:
    description: Folder of the records on the host.
    type: str
    default: /var/lib/netops.fleet/remediate
  netns:
    description: Network namespace, by its name as C(ip netns) lists it, or by path.
    type: str
attributes:
  check_mode:
    description: Can run in check mode and say what it would do.
    support: full
  diff_mode:
    description: Returns what it changes as a diff.
    support: full
  platform:
    description: Operating systems it runs on.
    platforms: linux
    support: full
requirements:
  - Linux 4.18 or newer; root.
author:
  - netops.fleet contributors (@netops-fleet)
"""

EXAMPLES = r"""
- name: Show what would have to go
  netops.fleet.remediation:
    packet:
      destination: 127.0.0.1
      destination_port: 1678
      interface: lo
  register: result

- name: Remove it, as it was shown
  netops.fleet.remediation:
    packet:
      destination: 127.0.0.1
      destination_port: 1678
      interface: lo
    state: removed
    confirm: "{{ result.plan.id }}"

- name: Put it back
  netops.fleet.remediation:
    state: present
    confirm: "{{ result.plan.id }}"
"""

RETURN = r"""
plan:
  description: >-
    Id, steps (each with C(where), C(text), C(do), C(undo), C(note)), and C(obstacle), which says why nothing can be done.
  returned: when a packet was given
  type: dict
  sample:
    id: 5f0c6d1e2a3b4c5d
    obstacle: ""
    steps:
      - where: nft inet filter input handle 7
        text: tcp dport 1678 drop
        do: [nft delete rule inet filter input handle 7]
        undo: [nft add rule inet filter input index 2 tcp dport 1678 drop]
        note: ""
verdict:
  description: The verdict before, as M(netops.fleet.packet_verdict) returns it.
  returned: when a packet was given
  type: dict
after:
  description: The verdict behind the removal.
  returned: when something was removed
  type: dict
undone:
  description: What was put back.
  returned: when O(state=present)
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import remedy, verdict, world
from ansible_collections.netops.fleet.plugins.module_utils._evidence import hook_detach
from ansible_collections.netops.fleet.plugins.module_utils._kernel import netns
from ansible_collections.netops.fleet.plugins.module_utils._safety import records

_NAMES = ("direction", "interface", "source", "destination", "protocol", "source_port", "destination_port")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "packet": {"type": "dict", "options": {name: verdict.PACKET[name] for name in _NAMES}},
            "state": {"type": "str", "choices": ["shown", "removed", "present"], "default": "shown"},
            "confirm": {"type": "str"},
            "suspected": {"type": "bool", "default": False},
            "files": {"type": "list", "elements": "str", "default": list(remedy.FILES)},
            "folder": {"type": "str", "default": records.FOLDER},
            "netns": {"type": "str"},
        },
        required_if=[
            ("state", "shown", ["packet"]),
            ("state", "removed", ["packet", "confirm"]),
            ("state", "present", ["confirm"]),
        ],
        supports_check_mode=True,
    )
    given = module.params
    try:
        where = None
        if given["netns"] is not None:
            netns.enter(given["netns"])
            where = hook_detach.inside(given["netns"])
        if given["state"] == "present":
            kept = records.read(given["confirm"], given["folder"])
            undone = [] if module.check_mode else remedy.undo(given["confirm"], given["folder"])
            module.exit_json(changed=kept is not None, undone=undone)
        host = world.read(where=where)
        packet = verdict.packet_of(given["packet"], host)
        plan = remedy.plan(host, packet, given["suspected"])
        result = {"plan": plan.to_dict(), "verdict": plan.verdict}
        diff = {"before": "".join(f"{one.by['where']}: {one.by['text']}\n" for one in plan.steps), "after": ""}
        if given["state"] == "shown" or not (plan.steps or plan.obstacle):
            module.exit_json(changed=False, **result)
        if module.check_mode:
            module.exit_json(changed=bool(plan.steps) and not plan.obstacle, diff=diff, **result)
        remedy.remove(plan, given["confirm"], given["files"], given["folder"])
        again = world.read(where=where)
        after = verdict.answer(again, again.walker(), packet)
    except (remedy.RemedyError, verdict.PacketError, OSError, ValueError) as error:
        module.fail_json(msg=str(error))
    if after["verdict"] in ("drop", "reject"):
        module.fail_json(
            msg=f"removed, and the packet still does not pass: {after['text']}; undo with state present", after=after, **result
        )
    module.exit_json(changed=True, diff=diff, after=after, **result)


if __name__ == "__main__":
    main()
