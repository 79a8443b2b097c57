#!/usr/bin/python
# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""TCP connections that processes open, as they happen, for a bounded time."""

from __future__ import annotations

DOCUMENTATION = r"""
module: connection_watch
short_description: Watch for a while which processes connect where, and how that fails
version_added: 0.1.0
description:
  - Sees which connections of TCP are opened during a window, and tells for each process and destination how many connected,
    how many failed with which error, and how long the handshake took.
  - Where C(bpftrace) is installed it sees the network namespace alone, and also each C(connect(\)) that fails before a packet
    leaves, because there is no route or no free port, or a route, a security module or a BPF program prohibits it.
  - Elsewhere the tracer of the kernel is used, which sees the whole machine. It does not see what fails before a packet leaves,
    or sees it as C(closed). RV(source) says which it was, RV(coverage) what was not seen.
  - What fails before a packet leaves is not seen of connections that are opened otherwise, by C(io_uring), by C(sendto(\)) with
    C(MSG_FASTOPEN), by a program of 32 bits on a kernel of 64, by the kernel itself, or as MPTCP.
  - With C(bpftrace) an event that interrupts a program of the watch on the same processor is not seen, as the kernel runs no
    second one then. Few are lost so, unless a process calls C(connect(\)) without a pause; such an attempt stays C(pending).
  - The host is left as it was, also when the run is killed. While nothing is watched, nothing is in the way of packets.
  - Only names of processes are read, never command lines.
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
  - Root, and a kernel with the event C(sock/inet_sock_set_state), which came with Linux 4.16.
seealso:
  - module: netops.fleet.drop_watch
author:
  - netops.fleet contributors (@netops-fleet)
"""

EXAMPLES = r"""
- name: Watch for five seconds
  netops.fleet.connection_watch:
  register: result

- name: Show what failed
  ansible.builtin.debug:
    msg: "{{ item.process }} to {{ item.destination }} port {{ item.port }}: {{ item.failed }}"
  loop: "{{ result.connections | selectattr('failed') }}"
  loop_control:
    label: "{{ item.destination }}"
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
attempts:
  description: Connections that were begun, those that failed before a packet left among them.
  returned: when it was watched
  type: int
  sample: 80
lost:
  description: Events that were not seen, because they found no room.
  returned: when it was watched
  type: int
  sample: 0
connections:
  description: One entry for each process and destination, most failures first.
  returned: always
  type: list
  elements: dict
  contains:
    process:
      description: Name of the process.
      type: str
      returned: always
      sample: model-client
    destination:
      description: Address it connected to.
      type: str
      returned: always
      sample: 192.0.2.10
    port:
      description: Port it connected to.
      type: int
      returned: always
      sample: 1678
    attempts:
      description: Connections it began.
      type: int
      returned: always
      sample: 12
    connected:
      description: Those that were established.
      type: int
      returned: always
      sample: 9
    pending:
      description: Those without an answer at the end of the window.
      type: int
      returned: always
      sample: 1
    failed:
      description: >-
        Those that failed, by error. C(ECONNREFUSED) is a reset, C(ETIMEDOUT) silence, C(EADDRNOTAVAIL) no free port or a source
        address that is not there, C(EPERM) a BPF program, C(EACCES) a route or security module that prohibits it,
        C(ENETUNREACH) and C(EHOSTUNREACH) no route here or the word of a router, C(closed) the process giving up, C(unknown) what
        the kernel does not tell.
      type: dict
      returned: always
      sample: {ECONNREFUSED: 2}
    rtt_ms:
      description: Milliseconds from the first packet until the connection was established. Null when none was.
      type: dict
      returned: always
      sample: {min: 0.08, avg: 0.12, max: 0.31}
coverage:
  description: What could not be told, each with C(what) and C(why).
  returned: always
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.netops.fleet.plugins.module_utils._evidence import connections, watching


def main() -> None:
    module = AnsibleModule(argument_spec=watching.ARGUMENTS, supports_check_mode=True)
    try:
        section = connections.watch(watching.seconds(module.params), module.params["source"])
    except ValueError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **watching.result(section, "connections"))


if __name__ == "__main__":
    main()
