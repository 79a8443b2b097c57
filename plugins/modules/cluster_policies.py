# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The work is done by the action plugin of this name; this file is its documentation.

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_policies
short_description: Read a cluster's network policies into a diagnosis run
version_added: 0.1.0
author:
  - netops.fleet contributors (@netops-fleet)
description:
  - Lists NetworkPolicies, pods, namespaces and nodes of a Kubernetes cluster through C(kubernetes.core.k8s_info), and writes what
    policies ask of them to C(cluster.json) in the run's folder, mode 0600. Nothing of a pod's environment, commands or
    annotations is kept, and nothing of the kubeconfig.
  - M(netops.fleet.fleet_report) then says whether a policy denies the traffic that the run is about.
  - What cannot be read is a gap and no failure, also where the collection C(kubernetes.core) or the Python package
    C(kubernetes) is missing. Both are optional.
  - Runs once for all hosts of the play, where it is delegated to. The account of the kubeconfig must be allowed to list these
    kinds in all namespaces.
options:
  run:
    description: The run's folder, as returned by M(netops.fleet.fleet_run).
    type: path
    required: true
  kubeconfig:
    description: Path of the kubeconfig on the controller.
    type: path
    required: true
  context:
    description: The context in it. Its current one when left out.
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
    details: The cluster is only read, so it is read in check mode as well.
  diff_mode:
    description: Returns details on what has changed in diff mode.
    support: none
  platform:
    description: The systems it runs on.
    support: full
    platforms: posix
seealso:
  - module: netops.fleet.fleet_run
  - module: netops.fleet.fleet_report
"""

EXAMPLES = r"""
- name: Start a run about a pod
  netops.fleet.fleet_run:
    kubeconfig: ~/.kube/config
    pod: ml/model-0/tcp/8000
    from_pod: ml/client-7
  run_once: true
  register: started

- name: Read the cluster
  netops.fleet.cluster_policies:
    run: "{{ started.folder }}"
    kubeconfig: ~/.kube/config
  run_once: true
  delegate_to: localhost
"""

RETURN = r"""
status:
  description: V(ok), V(partial) with gaps, or V(failed) when policies or pods could not be listed.
  returned: success
  type: str
  sample: ok
gaps:
  description: What could not be read, as mappings of what and why.
  returned: success
  type: list
  elements: dict
  sample: []
counts:
  description: How many objects of each kind were read.
  returned: success
  type: dict
  sample: {policies: 12, pods: 480, namespaces: 9, nodes: 32}
"""
