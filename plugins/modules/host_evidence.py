#!/usr/bin/python

# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_evidence
short_description: Everything for one diagnosis of a host, read in one call
version_added: 0.1.0
author:
  - netops.fleet contributors (@netops-fleet)
description:
  - Reads links, addresses, routes, neighbours, sockets, drop counters, drop reasons, sysctls, connection tracking, resolvers,
    clock, BPF and tc hooks and all packet-filter rules straight from the kernel, makes the probes it is asked for, and judges
    what it read.
  - Counters are deltas over O(window), never totals since boot.
  - Reading changes nothing on the host. No kernel module is loaded, no table, qdisc or sysctl is touched. What could not be
    read is listed in the coverage with the reason.
  - Used through its action plugin, the evidence goes into one compressed file per host on the controller, and only
    RV(netops_fleet) comes back. Used as a plain module it returns RV(evidence).
options:
  run:
    description:
      - The run's folder on the controller, as M(netops.fleet.fleet_run) returned it. The action plugin writes the evidence there.
      - Without it, the evidence comes back in RV(evidence).
    type: path
  target:
    description:
      - The traffic the diagnosis is about.
      - V(tcp/1678) is a service on this host. V(tcp/192.0.2.7:443) or V(tcp/[2001:db8::7]:443) is one it must reach.
    type: str
  symptom:
    description:
      - What is seen. With V(latency) the way to the O(target) elsewhere and to the addresses of O(ping), four ways at most, is
        traced hop by hop, to name the hop from which on it takes longer or loses packets.
      - The others change nothing here; the report reads them.
    type: str
    choices: [port, pair, latency, pods, dns, firewall, nic, loss]
  window:
    description: Seconds over which counters are compared.
    type: float
    default: 2.0
  names:
    description: Names that every configured resolver is asked for.
    type: list
    elements: str
    default: []
  ping:
    description: Addresses that are pinged; a TCP probe backs up a silent one.
    type: list
    elements: str
    default: []
  http:
    description: HTTP endpoints that are probed.
    type: list
    elements: dict
    default: []
    suboptions:
      url:
        description: The endpoint. Credentials in it are not kept.
        type: str
        required: true
      method:
        description: The request's method.
        type: str
        choices: [GET, POST]
        default: GET
      json:
        description: The body of a V(POST), sent as JSON.
        type: raw
      headers:
        description: Headers of the request. Their values are not kept.
        type: dict
        default: {}
      status:
        description: The status that is expected; any from 200 to 399 when it is not given.
        type: int
      contains:
        description: Text the answer's body must contain.
        type: str
      validate_certs:
        description: Whether a certificate that cannot be verified fails the probe.
        type: bool
        default: true
  peers:
    description: Other hosts whose target port is tried from here.
    type: list
    elements: dict
    default: []
    suboptions:
      host:
        description: Inventory name of the peer.
        type: str
        required: true
      address:
        description: IP address of the peer.
        type: str
        required: true
  probe_peers:
    description:
      - From how many other hosts of the play each host's target port is tried. Read by the action plugin, which looks up the
        addresses in the inventory (C(diagnose_address), else C(ansible_host)) and adds them to O(peers).
    type: int
    default: 0
  mesh:
    description: Other hosts that are probed as this host's row of a mesh, at most 64.
    type: list
    elements: dict
    default: []
    suboptions:
      host:
        description: Inventory name of the peer.
        type: str
        required: true
      address:
        description: IP address of the peer.
        type: str
        required: true
  mesh_peers:
    description:
      - How many other hosts of the play this host probes in a mesh. Read by the action plugin, which draws them by the run's
        name, looks up their addresses as for O(probe_peers) and adds them to O(mesh).
    type: int
    default: 0
  capture:
    description:
      - Seconds for which packets of O(target), or TCP and ICMP, are captured before the host is read, V(0) to V(60). Read by
        the action plugin, which runs M(netops.fleet.packet_capture) and keeps the capture in the run's folder C(captures).
    type: float
    default: 0.0
  pair:
    description:
      - What this host is to its O(peers). V(sender) tries them and walks its packets on the way out; V(receiver) walks packets
        that come from them, and does not try them. Set by the action plugin where C(diagnose_from) names a host.
    type: str
    choices: [sender, receiver]
  ntp:
    description: Time servers the clock is compared with.
    type: list
    elements: str
    default: []
  services:
    description:
      - Units of systemd, such as V(nginx) or V(model-server.service), that must run. One that does not is a finding; errors they
        logged within the last hour are told, without what may be a secret in them.
      - Beside these, the unit that serves the O(target) and well-known services of networks and clusters are looked at.
    type: list
    elements: str
    default: []
  set_elements:
    description:
      - Sets with at most this many elements are read with them, larger ones only by name and size.
      - A rule that looks into a set that was not read "may" match, and the answer says so.
    type: int
    default: 4096
  probe_timeout:
    description: Seconds each probe and lookup may take.
    type: float
    default: 2.0
extends_documentation_fragment:
  - netops.fleet.attributes
  - netops.fleet.attributes.reader
seealso:
  - module: netops.fleet.nft_rule_facts
  - module: netops.fleet.tc_hook_facts
  - module: netops.fleet.fleet_report
"""

EXAMPLES = r"""
- name: Collect evidence about a port that does not answer
  netops.fleet.host_evidence:
    target: tcp/1678

- name: Collect evidence and ask every resolver for a name
  netops.fleet.host_evidence:
    window: 0.5
    names:
      - localhost
"""

RETURN = r"""
evidence:
  description:
    - All evidence as base64 of gzip of one JSON object. The action plugin stores it and does not return it.
  returned: when used without the action plugin
  type: str
summary:
  description: Counts and the first findings. Moved into RV(netops_fleet) by the action plugin.
  returned: when used without the action plugin
  type: dict
  contains:
    findings:
      description: Number of findings by severity.
      type: dict
      sample: {critical: 1, warning: 0, info: 0}
    top:
      description: The first three findings.
      type: list
      elements: dict
      sample:
        - id: firewall-drops-target
          severity: critical
          grade: proven
          subject: nft inet filter input handle 7
          summary: "nft inet filter input handle 7 drops tcp/1678: tcp dport 1678 drop"
    coverage:
      description: Number of sections by how completely they were read.
      type: dict
      sample: {ok: 14, partial: 1, failed: 0, skipped: 0}
    answer:
      description: One sentence about the target.
      type: str
host_time_start:
  description: The host's clock when the module began, in seconds since the epoch.
  returned: success
  type: float
host_time_end:
  description: The host's clock when the module ended, in seconds since the epoch.
  returned: success
  type: float
netops_fleet:
  description: What the action plugin returns in place of the evidence.
  returned: when used through the action plugin
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import collect, target
from ansible_collections.netops.fleet.plugins.module_utils._evidence import probe_options


def main() -> None:
    module = AnsibleModule(argument_spec=collect.ARGUMENTS, supports_check_mode=True)
    module.no_log_values = probe_options.secrets(module.no_log_values)
    try:
        options = collect.Options.from_params(module.params)
    except target.TargetError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **collect.result(options))


if __name__ == "__main__":
    main()
