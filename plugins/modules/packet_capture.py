#!/usr/bin/python
# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packets of a host, for a bounded time."""

from __future__ import annotations

DOCUMENTATION = r"""
module: packet_capture
short_description: Capture packets of a host for a bounded time, and say what they show
version_added: 0.1.0
description:
  - Captures packets with C(tcpdump) until the first of O(seconds), O(packets) and O(max_bytes) is reached.
  - No file is made on the host. The packets come back through the connection; a host whose controller is gone ends by itself.
  - The card is not put into promiscuous mode, so nothing on the host changes, in check mode either.
  - Used through its action plugin with O(folder), the capture is written there on the controller, beside a text of what it shows.
    Used as a plain module it returns RV(pcap).
  - A capture holds what was sent, which may be secret. With the default O(snaplen) it is headers and a few bytes of content.
options:
  interface:
    description: Interface to capture on, V(any) for all.
    type: str
    default: any
  filter:
    description: Which packets, as an expression of C(pcap-filter(7)), on one line. Empty is every packet.
    type: str
    default: ""
  seconds:
    description: How long at most, V(0.1) to V(300).
    type: float
    default: 10.0
  packets:
    description: How many packets at most, V(1) to V(200000).
    type: int
    default: 10000
  snaplen:
    description: Bytes of each packet that are kept, V(64) to V(65535).
    type: int
    default: 128
  max_bytes:
    description: Bytes of the whole capture at most, V(4096) to V(16777216).
    type: int
    default: 4194304
  start_at:
    description:
      - When to begin, in seconds since the epoch, so that several hosts capture at the same time. Each awaits it by its clock.
      - A host that is asked too late fails and says so.
    type: float
  folder:
    description:
      - Folder on the controller for the capture, made with mode 0700. The files are the host's name with C(.pcap) and C(.txt),
        of mode 0600. Read by the action plugin.
    type: path
extends_documentation_fragment:
  - netops.fleet.attributes.reader
requirements:
  - Root and C(tcpdump) on the host.
seealso:
  - module: netops.fleet.drop_watch
  - module: netops.fleet.net_probe
author:
  - netops.fleet contributors (@netops-fleet)
"""

EXAMPLES = r"""
- name: Capture what happens on the model port
  netops.fleet.packet_capture:
    filter: tcp port 1678
    seconds: 2
    folder: captures
  register: captured

- name: Show what it shows
  ansible.builtin.debug:
    var: captured.summary.lines
"""

RETURN = r"""
started:
  description: When it began, in seconds since the epoch, by the host's clock.
  returned: success
  type: float
  sample: 1795251858.2
captured_seconds:
  description: How long it was captured.
  returned: success
  type: float
  sample: 10.002
packets:
  description: Packets captured.
  returned: success
  type: int
  sample: 412
received:
  description: Packets that passed the filter, as tcpdump counted. Null when it did not say.
  returned: success
  type: int
  sample: 412
dropped:
  description: Packets that tcpdump had no room for. Null when it did not say.
  returned: success
  type: int
  sample: 0
ended:
  description: Which bound ended it, V(time), V(packets) or V(bytes).
  returned: success
  type: str
  sample: time
pcap:
  description: The capture file as base64.
  returned: when used without O(folder)
  type: str
file:
  description: The capture file on the controller.
  returned: when used with O(folder)
  type: str
  sample: /home/ops/captures/gpu-01.pcap
summary:
  description: What the capture shows. Its C(lines) are for people.
  returned: when used with O(folder)
  type: dict
  contains:
    lines:
      description: What is worth a look, the most telling first.
      type: list
      elements: str
      sample: ["412 packets in 9.8 s: 412 TCP; 12 TCP connections", "no answer: 9 SYN from 192.0.2.11 to 192.0.2.13:1678"]
    unanswered:
      description: Connections whose SYN got no answer.
      type: list
      elements: dict
      sample: [{from: 192.0.2.11, to: 192.0.2.13, port: 1678, syns: 9, why: ""}]
    retransmits:
      description: Segments that were sent again.
      type: list
      elements: dict
      sample: [{from: 192.0.2.13, to: 192.0.2.11, port: 1678, again: 4, sent: 210}]
    resets:
      description: Who reset connections, when, and from how far.
      type: list
      elements: dict
      sample: [{by: 192.0.2.13, to: 192.0.2.11, port: 1678, after: syn, ttl: 64, usual_ttl: null, count: 3}]
    errors:
      description: ICMP errors.
      type: list
      elements: dict
      sample: [{by: 192.0.2.1, name: host-unreachable, about: "tcp to 192.0.2.13:1678", count: 2}]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.netops.fleet.plugins.module_utils._evidence import capture


def main() -> None:
    module = AnsibleModule(argument_spec={**capture.ARGUMENTS, "folder": {"type": "path"}}, supports_check_mode=True)
    try:
        options = capture.Options.from_params(module.params)
    except capture.Wrong as error:
        module.fail_json(msg=str(error))
    section = capture.capture(options)
    if section.data is None:
        module.fail_json(msg=f"Nothing was captured: {section.gaps[0].why}.")
    module.exit_json(changed=False, **capture.result(section.data))


if __name__ == "__main__":
    main()
