#!/usr/bin/python
# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lvs_traffic
short_description: Bounded HTTP traffic against a virtual service, to measure what a fault does to it
version_added: 0.1.0
description:
  - Makes new connections one after another, and holds some open, for a bounded time. Says who answered when, and what failed how.
  - Meant for drills, run with C(async) while a fault is injected; M(netops.fleet.lvs_wrr) and the playbook C(drill) use it.
  - The first line of the answer names the server.
author:
  - netops.fleet contributors (@netops-fleet)
extends_documentation_fragment:
  - netops.fleet.attributes
  - netops.fleet.attributes.reader
options:
  address:
    description: The virtual address.
    type: str
    required: true
  port:
    description: The virtual port.
    type: int
    required: true
  path:
    description: Path of the new connections' requests.
    type: str
    default: /
  seconds:
    description: How long, at most 1800.
    type: float
    default: 10.0
  while_exists:
    description:
      - Go on only while there is this file. Who removes it ends the traffic early.
      - The line C(answered) is added to it with the first answer.
    type: path
  interval:
    description: Seconds between two new connections, at least 0.01.
    type: float
    default: 0.1
  timeout:
    description: Seconds a request may take.
    type: float
    default: 3.0
  streams:
    description: Connections to hold open, at most 200.
    type: int
    default: 0
  stream_timeout:
    description: Seconds without an answer after which a held connection counts as lost. Longer than a failover may take.
    type: float
    default: 30.0
  stream_path:
    description: Path of the requests on held connections; the server must keep the connection open.
    type: str
    default: /
"""

EXAMPLES = r"""
- name: Two seconds of requests
  netops.fleet.lvs_traffic:
    address: 127.0.0.1
    port: 8080
    seconds: 2
"""

RETURN = r"""
traffic:
  description: Every request with its time, how long it took, who answered and how it ended; and the held connections.
  returned: always
  type: dict
  sample:
    {"started": 1795255200.1, "ended": 1795255202.1, "samples": [[1795255200.1, 0.004, "gpu-01", "ok"]], "streams": []}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.netops.fleet.plugins.module_utils._lvs import traffic


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "address": {"type": "str", "required": True},
            "port": {"type": "int", "required": True},
            "path": {"type": "str", "default": "/"},
            "seconds": {"type": "float", "default": 10.0},
            "while_exists": {"type": "path"},
            "interval": {"type": "float", "default": 0.1},
            "timeout": {"type": "float", "default": 3.0},
            "streams": {"type": "int", "default": 0},
            "stream_path": {"type": "str", "default": "/"},
            "stream_timeout": {"type": "float", "default": 30.0},
        },
        supports_check_mode=True,
    )
    options = module.params
    if not (0 < options["seconds"] <= 1800 and options["interval"] >= 0.01 and 0 <= options["streams"] <= 200):
        module.fail_json(msg="allowed are seconds up to 1800, interval from 0.01, streams up to 200")
    module.exit_json(changed=False, traffic=traffic.run(**options))


if __name__ == "__main__":
    main()
