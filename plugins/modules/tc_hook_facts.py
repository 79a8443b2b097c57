#!/usr/bin/python
# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every program and filter hooked on the packet path of a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tc_hook_facts
short_description: List everything hooked on the packet path, with its owner
version_added: 0.1.0
description:
  - Lists BPF programs and traffic control filters that see packets of a host, in the order in which they run,
    with the process or pin that keeps each there, whether it can drop packets, and the command that detaches it.
  - Covers tc filters of every qdisc (with their actions), tcx, netkit, XDP, cgroup, netfilter, C(sk_lookup) and
    flow dissector programs, and programs of routes.
  - The kernel is asked directly, so that hooks which the host's own tools do not list yet are found too.
  - Changes nothing and loads no kernel module. What could not be read is said in RV(coverage).
  - Command lines and environments of processes are never read.
options:
  netns:
    description:
      - Network namespace to read, by its name as C(ip netns) lists it, or by path.
      - By default that in which Ansible runs on the host.
    type: str
  interfaces:
    description:
      - Names of the only interfaces to list.
      - Hooks that belong to no interface are listed all the same.
    type: list
    elements: str
  cgroups:
    description: Whether to list programs attached to cgroups.
    type: bool
    default: true
extends_documentation_fragment:
  - netops.fleet.attributes.reader
requirements:
  - Linux 4.18 or newer; root for everything but filters and XDP programs.
author:
  - netops.fleet contributors (@netops-fleet)
"""

EXAMPLES = r"""
- name: Read what is hooked on the packet path
  netops.fleet.tc_hook_facts:
  register: result

- name: Show what can drop packets, and whose it is
  ansible.builtin.debug:
    msg: "{{ item.key }} {{ item.owners }} {{ item.detach }}"
  loop: "{{ result.hooks | selectattr('can_drop', 'equalto', 'yes') }}"
  loop_control:
    label: "{{ item.key }}"

- name: Read one interface of a namespace
  netops.fleet.tc_hook_facts:
    netns: blue
    interfaces:
      - eth0
    cgroups: false
"""

RETURN = r"""
hooks:
  description: One entry for each program or filter at each place, sorted by interface and run order.
  returned: always
  type: list
  elements: dict
  contains:
    hook:
      description: >-
        Kind of hook, one of C(tc), C(tcx), C(netkit), C(xdp), C(cgroup), C(netfilter), C(flow_dissector), C(sk_lookup), C(lwt).
      type: str
      returned: always
      sample: tcx
    direction:
      description: Side of the hook, such as C(ingress), C(egress), C(prerouting) or C(inet4_connect). Null where there is none.
      type: str
      returned: always
      sample: ingress
    scope:
      description: >-
        C(netns) when it acts in the namespace read, C(machine) when it acts in every one, C(unknown) when it is
        not told.
      type: str
      returned: always
      sample: netns
    interface:
      description: Name, index and class (the name without its random part) of the interface. Null for other places.
      type: dict
      returned: always
      sample: {class: "cali*", index: 7, name: cali1a2b3c4d5e6}
    cgroup:
      description: >-
        Path of the cgroup; whether the program is inherited from above; C(here), whether a process or socket of this network
        namespace is in it, and C(mine), whether the reading process is (null when that cannot be told); C(listens), the sockets
        in it that wait for packets, of a program on packets that come in (null for all, or when that cannot be told). Null for
        other places.
      type: dict
      returned: always
    order:
      description: Position in run order among the entries of the same place, from 0.
      type: int
      returned: always
      sample: 0
    kind:
      description: C(bpf), or the kind of the traffic control filter.
      type: str
      returned: always
      sample: bpf
    prog_type:
      description: Type of the program. Null for other filters.
      type: str
      returned: always
      sample: sched_cls
    name:
      description: Name of the program.
      type: str
      returned: always
      sample: cil_from_container
    tag:
      description: Digest of the program's instructions, equal on all hosts with the same program.
      type: str
      returned: always
      sample: b442920991e563b4
    id:
      description: Number of the program on this host.
      type: int
      returned: always
      sample: 142
    load_time:
      description: When the program was loaded, in seconds since 1970.
      type: int
      returned: always
      sample: 1767225600
    loaded_by:
      description: User id that loaded it.
      type: int
      returned: always
      sample: 0
    pin:
      description: Paths in a BPF file system that keep the program or its link.
      type: list
      elements: str
      returned: always
    link_id:
      description: Number of the BPF link that holds the attachment. Null when it is held without one.
      type: int
      returned: always
      sample: 91
    mode:
      description: For XDP C(native), C(generic) or C(offload).
      type: str
      returned: always
    jited:
      description: Whether it runs as machine code.
      type: bool
      returned: always
    gpl:
      description: Whether it declared a licence compatible with the GPL.
      type: bool
      returned: always
    map_ids:
      description: Numbers of the maps it uses.
      type: list
      elements: int
      returned: always
    run_count:
      description: How often it ran. Null unless the kernel counts.
      type: int
      returned: always
    run_time_ns:
      description: How long it ran in total, in nanoseconds. Null unless the kernel counts.
      type: int
      returned: always
    owners:
      description: Processes that hold the link or program open, each with C(pid), C(process), C(exe), C(unit), C(uid) and C(via).
      type: list
      elements: dict
      returned: always
      sample: [{exe: agent, pid: 812, process: agent, uid: 0, unit: agent.service, via: link}]
    extensions:
      description: Programs that replace a function of this one.
      type: list
      elements: dict
      returned: always
    tc:
      description: >-
        Place, chain, priority, protocol, handle, conditions and actions of a traffic control filter. Null for other hooks.
        Its C(conditions) are fields of a packet with value and mask, hexadecimal; null when not all of them are understood.
      type: dict
      returned: always
    netfilter:
      description: Family, priority and flags of a netfilter program. Null for other hooks.
      type: dict
      returned: always
    can_drop:
      description: >-
        C(yes) when an instruction or action that drops was found, C(no) when every outcome is known and none drops,
        C(unknown) otherwise.
      type: str
      returned: always
      sample: "yes"
    can_divert:
      description: As RV(hooks[].can_drop), for sending packets elsewhere instead of on.
      type: str
      returned: always
      sample: "no"
    drop_evidence:
      description: How that is known, one line each.
      type: list
      elements: str
      returned: always
      sample: ["returns 2 (drop) set at instruction 17"]
    detach:
      description: Commands of which each alone removes the attachment, best first. Lines that start with C(#) are remarks.
      type: list
      elements: str
      returned: always
      sample: ["systemctl stop agent.service", "bpftool link detach id 91"]
    key:
      description: Name of the hook without numbers that differ between hosts, for comparison.
      type: str
      returned: always
      sample: bpf tcx ingress eth0 sched_cls syn_guard b442920991e563b4
coverage:
  description: Parts that could not be read, each with C(what) and C(why). Empty when everything was read.
  returned: always
  type: list
  elements: dict
  sample: [{what: hooks.tcx, why: "query tcx_ingress: not permitted, run as root"}]
ansible_facts:
  description: The same, as facts.
  returned: always
  type: dict
  contains:
    tc_hook_facts:
      description: The hooks and the coverage.
      type: dict
      returned: always
      contains:
        hooks:
          description: As RV(hooks).
          type: list
          elements: dict
          returned: always
        coverage:
          description: As RV(coverage).
          type: list
          elements: dict
          returned: always
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.netops.fleet.plugins.module_utils._evidence import hook_detach, hooks
from ansible_collections.netops.fleet.plugins.module_utils._kernel import netns


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "netns": {"type": "str"},
            "interfaces": {"type": "list", "elements": "str"},
            "cgroups": {"type": "bool", "default": True},
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
    section = hooks.read(
        interfaces=module.params["interfaces"],
        cgroups=module.params["cgroups"],
        where=hook_detach.inside(namespace) if namespace is not None else None,
    )
    coverage = [gap.to_dict() for gap in section.gaps]
    module.exit_json(
        changed=False,
        hooks=section.data,
        coverage=coverage,
        ansible_facts={"tc_hook_facts": {"hooks": section.data, "coverage": coverage}},
    )


if __name__ == "__main__":
    main()
