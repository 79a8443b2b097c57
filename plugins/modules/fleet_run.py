# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The work is done by the action plugin of this name; this file is its documentation.

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_run
short_description: Start a diagnosis run on the controller
version_added: 0.1.0
author:
  - netops.fleet contributors (@netops-fleet)
description:
  - Checks the options of a diagnosis once, makes the run's folder and writes C(run.json), which names every host of the play with
    its groups.
  - Runs once for all hosts of the play and touches the controller only. Hosts are neither contacted nor changed.
  - The folder is C(<output>/<UTC time>), mode 0700; C(<output>/latest) is pointed at it.
options:
  target:
    description:
      - The traffic the diagnosis is about, V(tcp/1678) for a service on the hosts, V(tcp/192.0.2.7:443) or
        V(tcp/[2001:db8::7]:443) for one they must reach. Empty means that only the general checks are made.
    type: str
  symptom:
    description:
      - What is seen. The report then gives each host one answer, or a list of what is excluded.
      - One of V(port), V(pair), V(latency), V(pods), V(dns), V(firewall), V(nic), V(loss). V(port) and V(pair) need O(target).
    type: str
  output:
    description:
      - Folder on the controller that holds the runs. A relative path starts at the directory ansible-playbook was started in.
      - When it is made here it gets a C(.gitignore), because evidence describes a fleet's insides.
    type: path
    default: reports
  window:
    description: Seconds over which counters are compared, V(0) to V(60).
    type: float
    default: 2.0
  timeout:
    description: Seconds one host may take, V(5) to V(3600); longer than O(window).
    type: int
    default: 120
  names:
    description: Names that every configured resolver is asked for.
    type: list
    elements: str
    default: []
  ping:
    description: Addresses that every host pings.
    type: list
    elements: str
    default: []
  http:
    description: HTTP endpoints every host probes, as URLs or as mappings documented with M(netops.fleet.host_evidence).
    type: list
    elements: raw
    default: []
  ntp:
    description: Time servers every host compares its clock with.
    type: list
    elements: str
    default: []
  services:
    description: Units of systemd that must run on every host.
    type: list
    elements: str
    default: []
  set_elements:
    description: Sets with at most this many elements are read with them.
    type: int
    default: 4096
  probe_timeout:
    description: Seconds each probe may take.
    type: float
    default: 2.0
  probe_peers:
    description: By how many other hosts of the play each host's target port is tried, V(0) to V(16).
    type: int
    default: 3
  mesh_peers:
    description:
      - How many other hosts of the play each host probes in a mesh, and is probed by, V(0) to V(64). V(0) makes no mesh.
      - The next host and random others, drawn by the run's name. All others where there are no more.
    type: int
    default: 0
  capture:
    description: How many seconds every host captures packets of the target before it is read, up to V(60). V(0) for none.
    type: float
    default: 0.0
  min_peers:
    description: Hosts a group must have, with evidence, before its members are compared.
    type: int
    default: 3
  fail_on:
    description: Which findings make the report's task fail.
    type: str
    choices: [never, critical, warning, any]
    default: never
  kubeconfig:
    description: Whether a cluster is asked, see M(netops.fleet.cluster_policies). The path is not written down.
    type: path
  pod:
    description: The receiving pod and its port, such as V(ml/model-0/tcp/8000). Needs O(kubeconfig).
    type: str
  from_pod:
    description: The sending pod, such as V(ml/client-7). Needs O(kubeconfig).
    type: str
attributes:
  action:
    description: Has a corresponding action plugin, so some parts run on the controller.
    support: full
  bypass_host_loop:
    description: Runs once for all hosts of the play.
    support: full
  check_mode:
    description: Can run in check mode and return what it would change without changing anything.
    support: full
    details: Hosts are never changed, so the run's folder on the controller is made in check mode as well.
  diff_mode:
    description: Returns details on what has changed in diff mode.
    support: none
  platform:
    description: The systems it runs on.
    support: full
    platforms: posix
seealso:
  - module: netops.fleet.host_evidence
  - module: netops.fleet.fleet_report
"""

EXAMPLES = r"""
- name: Start a run
  netops.fleet.fleet_run:
    target: tcp/1678
  run_once: true
  register: started

- name: Show where it is
  ansible.builtin.debug:
    var: started.folder
  run_once: true
"""

RETURN = r"""
folder:
  description: The run's folder.
  returned: success
  type: str
  sample: /home/ops/reports/20261121T090418Z
id:
  description: The run's name.
  returned: success
  type: str
  sample: 20261121T090418Z
"""
