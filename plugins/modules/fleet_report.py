# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The work is done by the action plugin of this name; this file is its documentation.

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_report
short_description: Compare the hosts of a run and write its report
version_added: 0.1.0
author:
  - netops.fleet contributors (@netops-fleet)
description:
  - Reads a run's folder host by host, compares each host with its groups, ranks hosts and findings, writes C(report.json) and
    C(report.html) into the folder (mode 0600) and shows a summary on the terminal.
  - Hosts without evidence are shown as what they are, V(unreachable), V(timeout), V(failed), V(invalid) or V(no answer).
  - What hosts sent is not trusted. It is unpacked and checked within bounds, and escaped before it is shown.
  - Evidence files of further runs that were copied into the folder are taken into the report.
options:
  run:
    description: The run's folder, as returned by M(netops.fleet.fleet_run), or C(<output>/latest).
    type: path
    required: true
  min_peers:
    description: Hosts a group must have, with evidence, before its members are compared.
    type: int
    default: 3
  rejudge:
    description: Compute the findings of each host again from its stored evidence, as this version of the collection judges it.
    type: bool
    default: false
  fail_on:
    description:
      - Fail when a host has a finding of this severity or worse, after the report was written.
      - V(any) counts every finding, and hosts without evidence too.
    type: str
    choices: [never, critical, warning, any]
    default: never
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
    details: Hosts are never changed, so the report is written in check mode as well.
  diff_mode:
    description: Returns details on what has changed in diff mode.
    support: none
  platform:
    description: The systems it runs on.
    support: full
    platforms: posix
seealso:
  - module: netops.fleet.fleet_run
  - module: netops.fleet.host_evidence
"""

EXAMPLES = r"""
- name: Write the report of the newest run again
  netops.fleet.fleet_report:
    run: reports/latest
    rejudge: true
  run_once: true
"""

RETURN = r"""
json:
  description: Path of the report for programs.
  returned: when the report was written
  type: str
  sample: /home/ops/reports/20261121T090418Z/report.json
html:
  description: Path of the report for people.
  returned: when the report was written
  type: str
  sample: /home/ops/reports/20261121T090418Z/report.html
totals:
  description: Numbers of hosts by status, of findings by severity, and of answers by verdict.
  returned: when the report was written
  type: dict
  sample:
    hosts: 6
    statuses: {ok: 6}
    findings: {critical: 2, warning: 0, info: 0}
    hosts_with_findings: 2
    hosts_without_findings: 4
    answers: {blocked: 2, open: 4}
"""
