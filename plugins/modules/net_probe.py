#!/usr/bin/python
# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Active probes from a host, with the reason of each failure."""

from __future__ import annotations

DOCUMENTATION = r"""
module: net_probe
short_description: Probe the network from a host, and say why a probe fails
version_added: 0.1.0
description:
  - Sends bounded probes from the host, all at the same time, and tells apart what can go wrong with each.
  - Of a failure it says what the network answered (a reset, an ICMP error and its sender, silence), how the host would have sent
    the packet, and whether the next hop answers on the link.
  - No tool is needed on the host. Nothing is changed there, but for what any traffic changes, such as the cache of path MTUs.
  - Results hold neither headers nor bodies, and of a URL neither user, password nor values of the query.
options:
  probes:
    description: The probes, at most 256.
    type: list
    elements: dict
    required: true
    suboptions:
      kind:
        description:
          - V(ping) sends ICMP echo requests, and asks a TCP port when no reply comes.
          - V(tcp) connects. V(tls) connects and shakes hands. V(http) sends one request; redirects are not followed.
          - V(udp) sends one datagram and waits for any answer.
          - V(dns) asks name servers, V(ntp) a time server, V(quic) a server of HTTP/3 for the versions it speaks.
          - V(path) finds the hops on the way with loss and latency of each. V(mtu) finds the largest packet that arrives whole.
        type: str
        required: true
        choices: [ping, tcp, udp, tls, http, dns, ntp, quic, path, mtu]
      target:
        description: Address or name to probe. For V(dns) the name to ask for. Not for V(http).
        type: str
      port:
        description: Port, 1 to 65535. Required for V(tcp), V(tls) and V(udp).
        type: int
      url:
        description: What V(http) asks for, C(http://) or C(https://).
        type: str
      timeout:
        description: Seconds for this probe. By default 3, for V(path) 15, for V(mtu) 10.
        type: float
      source:
        description: IP address of the host to send from, of the target's family. Not for V(dns) and V(ntp).
        type: str
      count:
        description: Echo requests of V(ping).
        type: int
      interval:
        description: Seconds between echo requests of V(ping).
        type: float
      tcp_port:
        description: Port that V(ping) asks when no echo comes back, at most 65535. V(0) asks none.
        type: int
      payload:
        description: Text that V(udp) sends.
        type: str
      payload_hex:
        description: Bytes that V(udp) sends, as hexadecimal digits.
        type: str
      expect_body:
        description: Text that the answer to V(http) or V(udp) must hold.
        type: str
      expect_hex:
        description: Bytes that the answer to V(udp) must hold, as hexadecimal digits.
        type: str
      method:
        description: Method of V(http). By default C(GET), with a body C(POST).
        type: str
      headers:
        description: Headers of V(http).
        type: dict
      body:
        description: Body of V(http), as text.
        type: str
      json:
        description:
          - Body of V(http), sent as JSON.
          - Unlike O(probes[].headers) and O(probes[].body) it may enter the log of the host. Secrets belong into the headers.
        type: raw
      expect_status:
        description: Status codes of V(http) that are well. By default 200 to 399.
        type: list
        elements: int
      verify:
        description: Whether V(tls) and V(http) verify the certificate.
        type: bool
      ca_file:
        description: File on the host with the certificates to trust, in place of the host's own.
        type: path
      server_name:
        description: Name to ask for and to verify, in place of the target.
        type: str
      alpn:
        description: Protocols to offer, such as C(h2) for gRPC.
        type: list
        elements: str
      certificates:
        description: Whether V(tls) reads the certificates that the server sends and says what is wrong with them.
        type: bool
      expires_within_days:
        description:
          - Days before its end from which a certificate is a failure of V(tls) with O(probes[].certificates).
          - By default 14.
        type: float
      versions:
        description: Whether V(tls) tries every version of the protocol. One older than TLS 1.2 is a failure.
        type: bool
      servers:
        description: Name servers that V(dns) asks. By default those of the host.
        type: list
        elements: str
      types:
        description: Record types that V(dns) asks for. By default C(A).
        type: list
        elements: str
      search:
        description: Whether V(dns) asks below the search domains of the host too.
        type: bool
      expect:
        description: For V(dns), addresses or names that must be among the answers.
        type: list
        elements: str
      max_offset_s:
        description: Seconds that the clock of the host may be off from that of V(ntp). By default 5.
        type: float
      way:
        description: What V(path) sends, C(udp), C(tcp) or C(icmp); what V(mtu) sends, C(echo) or C(udp) to a closed port.
        type: str
      first_hop:
        description: First hop of V(path).
        type: int
      max_hops:
        description: Last hop of V(path), at most 64.
        type: int
      queries:
        description: Packets of V(path) for each hop.
        type: int
      wait:
        description: Seconds that V(path) waits for each answer.
        type: float
      jump_ms:
        description: Milliseconds from which a step of latency on V(path) is named.
        type: float
      min_mtu:
        description: Bytes that the way of V(mtu) must take.
        type: int
      tries:
        description: Packets of V(mtu) for each size that gets no answer.
        type: int
  seconds:
    description: Bound for all probes together, in seconds.
    type: float
    default: 30
  require:
    description: Fail when a probe's status is not V(ok). The results are returned all the same.
    type: bool
    default: false
  netns:
    description:
      - Network namespace to probe from, by its name as C(ip netns) lists it, or by path.
      - By default that in which Ansible runs on the host.
    type: str
extends_documentation_fragment:
  - netops.fleet.attributes.reader
notes:
  - Root lets a probe name the sender of an ICMP error to TCP. Without it the error alone is told.
  - Probes are traffic. Send them where you are allowed to.
requirements:
  - Root for V(ping), V(path) by C(icmp) and V(mtu) where C(net.ipv4.ping_group_range) does not allow the user.
author:
  - netops.fleet contributors (@netops-fleet)
"""

EXAMPLES = r"""
- name: Is the model port open, and if not, who says so?
  netops.fleet.net_probe:
    probes:
      - kind: tcp
        target: 127.0.0.1
        port: 1678
      - kind: ping
        target: 127.0.0.1
        count: 2
  register: result

- name: Show what is wrong
  ansible.builtin.debug:
    msg: "{{ item.kind }} {{ item.target }}: {{ item.status }}, {{ item.detail }}"
  loop: "{{ result.failed_probes }}"
  loop_control:
    label: "{{ item.target }}"

- name: Does the endpoint offer only safe versions of TLS, a whole chain, and 30 days more?
  netops.fleet.net_probe:
    probes:
      - kind: tls
        target: localhost
        port: 8443
        certificates: true
        versions: true
        expires_within_days: 30

- name: Where does latency come from, and does a full frame arrive?
  netops.fleet.net_probe:
    probes:
      - kind: path
        target: 127.0.0.1
        way: udp
      - kind: mtu
        target: 127.0.0.1
        min_mtu: 1500
"""

RETURN = r"""
probes:
  description: One result for each probe, in their order. More keys by kind.
  returned: always
  type: list
  elements: dict
  contains:
    kind:
      description: Kind of the probe.
      type: str
      returned: always
      sample: tcp
    target:
      description: Where it went, without what may be secret.
      type: str
      returned: always
      sample: 192.0.2.10:1678
    from:
      description: Address it was sent from. Null when nothing was sent.
      type: str
      returned: always
      sample: 192.0.2.2
    address:
      description: Address that was tried.
      type: str
      returned: when the target resolved
      sample: 192.0.2.10
    status:
      description: >-
        V(ok), or C(refused), C(timeout), C(unreachable), C(reset), C(prohibited) (by this host's own firewall), C(no_name),
        C(error) (the probe could not be made); ping also C(icmp_blocked), C(lossy); udp also C(no_answer), C(wrong_body);
        tls C(tls_error); http also C(not_found), C(server_error), C(http_error), C(wrong_body), C(bad_answer);
        dns C(nxdomain), C(servfail), C(no_records), C(wrong_answer), C(differ); ntp C(clock_offset); path C(lossy);
        mtu C(black_hole), C(too_small), C(lossy).
      type: str
      returned: always
      sample: unreachable
    detail:
      description: One line more.
      type: str
      returned: always
      sample: "no route to host: 192.0.2.1 says admin-prohibited"
    ms:
      description: How long it took, in milliseconds; for ping the mean round trip.
      type: float
      returned: always
      sample: 0.42
    icmp:
      description: The ICMP error, with C(type), C(code), C(name) and C(sender).
      type: dict
      returned: when one was heard
      sample: {type: 3, code: 13, name: admin-prohibited, sender: 192.0.2.1}
    route:
      description: How the host sends to the target, or C(error).
      type: dict
      returned: when the way there is in question
      sample: {type: unicast, dev: eth0, via: 192.0.2.1, prefsrc: 192.0.2.2, link_mtu: 1500}
    neighbour:
      description: The next hop's C(address), C(dev), C(state) and C(mac). Null when the host has no entry for it.
      type: dict
      returned: when the way there is in question
      sample: {address: 192.0.2.1, dev: eth0, state: reachable, mac: "02:00:00:00:00:01"}
    phases_ms:
      description: Milliseconds of each phase of V(http) and V(tls).
      type: dict
      returned: for these kinds
      sample: {dns: 0.3, connect: 0.5, tls: 4.1, first_byte: 9.8, total: 15.0}
    problem:
      description: >-
        What is wrong with TLS, one of C(expired), C(expires_soon), C(not_yet_valid), C(self_signed), C(untrusted),
        C(incomplete_chain), C(wrong_name), C(revoked), C(old_version), C(no_tls), C(refused), C(protocol).
      type: str
      returned: when TLS failed
      sample: incomplete_chain
    chain:
      description: Certificates the server sent, each with C(subject), C(issuer), C(names) and C(expires_in_days).
      type: list
      elements: dict
      returned: for tls with O(probes[].certificates)
    versions:
      description: For tls C(accepted), C(refused) or C(unknown) of each version; for quic the versions offered.
      type: raw
      returned: for tls with O(probes[].versions), and for quic
    lookups:
      description: Answers of each name server.
      type: list
      elements: dict
      returned: for dns
    hops:
      description: Each hop with C(addresses), C(loss_percent), C(rtt_ms) and what it C(said).
      type: list
      elements: dict
      returned: for path
    jump:
      description: The hop from which on the way takes longer, with C(by_ms). Null when there is none.
      type: dict
      returned: for path
    mtu:
      description: >-
        C(path), the largest packet in bytes that arrived whole, without C(exact) one of at least that size; C(link), what the
        first link takes; C(black_hole), whether larger ones vanish without a word; C(told), who said that they are too big.
      type: dict
      returned: for mtu
      sample:
        path: 1400
        link: 1500
        exact: true
        black_hole: false
        told: [{sender: 192.0.2.1, mtu: 1400, name: fragmentation-needed}]
failed_probes:
  description: Those of RV(probes) whose status is not V(ok).
  returned: always
  type: list
  elements: dict
coverage:
  description: What could not be told, each with C(what) and C(why).
  returned: always
  type: list
  elements: dict
  sample: [{what: probes.icmp, why: who sent an ICMP error is heard with root only}]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.netops.fleet.plugins.module_utils._evidence import probe_options
from ansible_collections.netops.fleet.plugins.module_utils._kernel import netns


def main() -> None:
    module = AnsibleModule(argument_spec=probe_options.ARGUMENTS, supports_check_mode=True)
    module.no_log_values = probe_options.secrets(module.no_log_values)
    namespace = module.params["netns"]
    if namespace is not None:
        try:
            netns.enter(namespace)
        except (OSError, ValueError) as error:
            module.fail_json(
                msg=f"network namespace {namespace!r} cannot be entered: {error}. "
                "Give a name that 'ip netns' lists, or the path of a namespace, and run as root."
            )
    try:
        result = probe_options.run(module.params)
    except ValueError as error:
        module.fail_json(msg=str(error))
    if module.params["require"] and result["failed_probes"]:
        module.fail_json(msg=probe_options.summary(result), changed=False, **result)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
