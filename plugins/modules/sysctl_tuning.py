#!/usr/bin/python

# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sysctl_tuning
short_description: Tune a host's network parameters for what it is for, explained, verified, persistent, with a way back
version_added: 0.1.0
author:
  - netops.fleet contributors (@netops-fleet)
description:
  - From a profile and a few facts it plans kernel parameters. Each comes with its present value, the value that would win at the
    next boot and the file that makes it win, the wanted value, and why.
  - Applies the plan to the kernel and to one file of its own, C(/etc/sysctl.d/zz-netops-fleet.conf), reads everything again, and
    fails if anything differs. A change that does not take is taken back as a whole.
  - The task declares everything. What an earlier run set and this one does not want returns to its original.
  - Before the first change of an object its original goes into a journal on the host, C(/var/lib/netops.fleet). See
    M(netops.fleet.change_journal) for the way back.
  - Sizes and queues of a profile only rise above what the kernel had. O(settings) are taken as given.
  - What the kernel would take silently and wrong is an error before anything is written, such as one number for a triple, a
    minimum above the maximum, or a leading zero.
options:
  profile:
    description:
      - What the host is for.
      - V(own) is a profile of one's own. It sets O(settings), the buffers when O(rtt_ms) or O(paths) is given, and what O(parts)
        names.
    type: str
    choices: [inference, training, gateway, storage, own]
    default: own
  settings:
    description: Kernel parameters and their values. They beat the profile. A value with several numbers may be a list.
    type: dict
    default: {}
  link_mbit:
    description: Speed of the host's link in Mbit/s. By default the fastest physical link that is up.
    type: float
  rtt_ms:
    description: Round trip to all peers in milliseconds. Without it and without O(paths) buffers are kept.
    type: float
  paths:
    description: Round trips by group of peers.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What the group is called in the reasons.
        type: str
        required: true
      rtt_ms:
        description: Round trip in milliseconds.
        type: float
        required: true
      mbit:
        description: Bandwidth of the path in Mbit/s. By default the link's.
        type: float
  connections:
    description: Connections expected at the same time. By default what the profile assumes.
    type: int
  flows:
    description: Connections that fill their window at the same time. Together their buffers must fit the memory budget.
    type: int
  neighbours:
    description: Hosts in the same layer-2 networks, for the neighbour tables.
    type: int
  parts:
    description:
      - With O(profile=own), groups of keys that are computed from the facts as in the other profiles.
      - V(queues), V(lifetimes), V(path), V(tables) and V(files) are in all of them; V(streaming) is in V(inference) and
        V(gateway), V(rails) in V(training), V(congestion) in V(gateway) and V(storage).
    type: list
    elements: str
    choices: [queues, lifetimes, path, streaming, tables, files, rails, congestion]
    default: []
  keepalive:
    description:
      - Three numbers for TCP keep-alive, seconds of silence, seconds between probes, and probes. By default the profile's.
    type: list
    elements: int
    default: []
  missing:
    description:
      - What to do with a key of O(settings) that this kernel or namespace does not have, or does not let be written.
      - Keys of a profile are always skipped, with the reason in RV(skipped_keys).
    type: str
    choices: [skip, fail]
    default: skip
  persist:
    description: Whether the values are also written for the next boot.
    type: bool
    default: true
  limits:
    description: Limits of open files.
    type: dict
    default: {}
    suboptions:
      nofile:
        description: Open files of one process. It cannot be above C(fs.nr_open).
        type: int
      services:
        description: Services that get a drop-in with the limit.
        type: list
        elements: str
        default: []
      pam:
        description: Whether logins get the limit too.
        type: bool
        default: false
  adapt:
    description:
      - Takes a sample of traffic and memory and moves the maxima of C(tcp_rmem) and C(tcp_wmem).
      - One that is given in O(settings) stays as it is given.
      - The kernel sizes buffers within these maxima by itself, so this is only of use where connections reach them.
    type: bool
    default: false
  adapt_window:
    description: Seconds of one sample.
    type: float
    default: 5.0
  adapt_interval:
    description: Seconds between samples of a systemd timer on the host. V(0) makes no timer.
    type: int
    default: 0
  deadman:
    description:
      - Seconds within which M(netops.fleet.change_journal) must confirm a change that can cut the host off. Else the host takes
        it back alone.
      - V(0) sets no timer. Changes that cannot cut the host off set none either.
    type: int
    default: 0
extends_documentation_fragment:
  - netops.fleet.attributes
  - netops.fleet.declared
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  platform:
    support: full
    platforms: linux
seealso:
  - module: netops.fleet.change_journal
"""

EXAMPLES = r"""
- name: Show the plan for an inference host and change nothing
  netops.fleet.sysctl_tuning:
    state: planned
    profile: inference
    rtt_ms: 0.2

- name: Tune an inference host
  netops.fleet.sysctl_tuning:
    profile: inference
    rtt_ms: 0.2
    connections: 20000
    limits:
      nofile: 65536
      services: [model-server]

- name: Tune a gateway with a distant group of peers, one key as we want it
  netops.fleet.sysctl_tuning:
    profile: gateway
    link_mbit: 100000
    paths:
      - name: this site
        rtt_ms: 0.2
      - name: other site
        rtt_ms: 30
        mbit: 10000
    settings:
      net.ipv4.tcp_fin_timeout: 20

- name: A profile of our own
  netops.fleet.sysctl_tuning:
    profile: own
    parts: [queues, lifetimes, tables, files]
    connections: 30000
    keepalive: [120, 15, 4]

- name: Return to what was there before
  netops.fleet.sysctl_tuning:
    state: absent
"""

RETURN = r"""
plan:
  description: One entry per wanted key.
  returned: when O(state) is not V(absent)
  type: list
  elements: dict
  contains:
    key:
      description: The kernel parameter.
      type: str
    present:
      description: Its present value. None when the kernel has no such parameter.
      type: str
    boot:
      description: The value that wins at the next boot with the plan applied, and the file and line that make it win.
      type: dict
    wanted:
      description: The wanted value.
      type: str
    why:
      description: The reason, with numbers.
      type: str
    source:
      description: Where the reason is written.
      type: str
    origin:
      description: C(profile) or C(explicit).
      type: str
    action:
      description: C(none), C(set), C(skip) or C(refuse).
      type: str
    reason:
      description: Why it is skipped or refused.
      type: str
    later:
      description: Others who write this key after boot.
      type: list
      elements: dict
changes:
  description: The differences, each with kind, name, before and after. C(changed) and the diff are made from this list.
  returned: success
  type: list
  elements: dict
skipped_keys:
  description: Keys that were left out, with the reason.
  returned: when O(state) is not V(absent)
  type: dict
overridden:
  description: Who wins over this module's values at the next boot or after it, one sentence each. They are warnings too.
  returned: when O(state) is not V(absent)
  type: list
  elements: str
notes:
  description: What the reader should know beside the plan.
  returned: when O(state) is not V(absent)
  type: list
  elements: str
facts:
  description: What the plan was computed from.
  returned: when O(state) is not V(absent)
  type: dict
restart:
  description: Programs that keep an old backlog or limit until they are restarted, one sentence each.
  returned: when O(state) is not V(absent)
  type: list
  elements: str
  sample:
    - "restart model-server to get nofile 65536: pid 812 runs with 1024"
old_backlogs:
  description: The sockets behind RV(restart).
  returned: when O(state) is not V(absent)
  type: list
  elements: dict
old_limits:
  description: The processes behind RV(restart).
  returned: when O(state) is not V(absent)
  type: list
  elements: dict
change:
  description: The id of the change in the journal. None when nothing changed.
  returned: when O(state) is not V(absent)
  type: str
confirm_within:
  description: Seconds within which the change must be confirmed. None when no timer was set.
  returned: when O(state) is not V(absent)
  type: int
ansible_facts:
  description: State and last decisions of adaptive buffers.
  returned: when O(adapt) is true
  type: dict
  contains:
    netops_fleet_adapt:
      description: State and decisions.
      type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.netops.fleet.plugins.module_utils._safety import journal, lock, objects
from ansible_collections.netops.fleet.plugins.module_utils._tuning import tune


def main() -> None:
    module = AnsibleModule(argument_spec=tune.ARGUMENTS, supports_check_mode=True)
    try:
        result = tune.run(tune.Options.from_params(module.params), module.check_mode)
    except tune.TuneError as error:
        module.fail_json(msg=str(error), **error.facts)
    except (journal.JournalError, lock.Busy, objects.ObjectError, OSError, ImportError) as error:
        module.fail_json(msg=f"Nothing was changed. {error}")
    for line in result.pop("warnings"):
        module.warn(line)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
