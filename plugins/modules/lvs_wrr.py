#!/usr/bin/python
# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lvs_wrr
short_description: Weighted virtual services of the kernel's load balancer, changed without dropping connections
version_added: 0.1.0
description:
  - Brings virtual services (IPVS, LVS) and their weighted real servers into the wanted state with the fewest writes, in an order
    that never takes capacity away before new capacity is there, V(add), V(edit), V(drain), V(delete).
  - Talks to the kernel itself; C(ipvsadm) is not needed.
  - A real server that is no longer wanted gets weight 0, is awaited until its connections are gone, and only then removed. A
    drain goes on over several runs; since when it lasts is kept on the host.
  - Services that this module did not make are left alone, unless O(purge) says otherwise.
  - Before anything is written the wanted state is checked against what is known to go wrong on this host; see RV(lint).
  - Nothing is written on a second run.
author:
  - netops.fleet contributors (@netops-fleet)
extends_documentation_fragment:
  - netops.fleet.attributes
attributes:
  check_mode:
    support: full
    details:
      - Tells the same changes as a run would make with the connections there are now. A server that is still in use is shown with
        weight 0; whether it is removed in the same run depends on its clients.
  diff_mode:
    support: full
  platform:
    support: full
    platforms: linux
options:
  services:
    description: The wanted virtual services.
    type: list
    elements: dict
    required: true
    suboptions:
      address:
        description: Virtual IP address. Give it or O(services[].fwmark).
        type: str
      port:
        description: Virtual port. V(0) is every port, and needs O(services[].persistence).
        type: int
      protocol:
        description: Protocol of the service.
        type: str
        choices: [tcp, udp, sctp]
        default: tcp
      fwmark:
        description: The firewall mark of the packets of this service.
        type: int
      family:
        description: Address family of a service known by its mark.
        type: str
        choices: [ipv4, ipv6]
        default: ipv4
      scheduler:
        description: Who gets the next connection, see C(ipvsadm(8)).
        type: str
        default: wrr
      flags:
        description: Flags of the service and of its scheduler.
        type: list
        elements: str
        choices: [one-packet, mh-fallback, mh-port, sh-fallback, sh-port, flag-1, flag-2, flag-3]
        default: []
      persistence:
        description: Seconds during which a client is sent to the same server. V(0) for none.
        type: int
        default: 0
      netmask:
        description: Prefix length that persistence groups clients by. The default is a single address.
        type: int
      persistence_engine:
        description: Name of a persistence engine, such as V(sip).
        type: str
      ready:
        description:
          - A server joins only when it answers this HTTP request; it stays out, or at weight 0, until then.
          - Servers that serve already are not asked.
        type: dict
        suboptions:
          path:
            description: Path and query.
            type: str
            default: /
          port:
            description: Port of the request, the server's own by default.
            type: int
          scheme:
            description: With V(https) the certificate is checked.
            type: str
            choices: [http, https]
            default: http
          status:
            description: Status of a ready server.
            type: int
            default: 200
          body:
            description: Text that the answer contains, such as the version of the model.
            type: str
          timeout:
            description: Seconds the request may take.
            type: float
            default: 2.0
      servers:
        description: The wanted real servers.
        type: list
        elements: dict
        default: []
        suboptions:
          address:
            description: IP address of the server.
            type: str
            required: true
          port:
            description: Port of the server, the service's by default. V(dr) and V(tunnel) cannot change it.
            type: int
          weight:
            description: From V(0), no new connections, to V(65535).
            type: int
            default: 1
          forward:
            description: How packets reach the server. V(dr) needs it on the director's segment.
            type: str
            choices: [dr, tunnel, nat]
            default: dr
          upper_threshold:
            description: Connections above which the server gets no new ones. V(0) for no limit.
            type: int
            default: 0
          lower_threshold:
            description: Connections below which it gets new ones again.
            type: int
            default: 0
          tunnel:
            description: Kind of tunnel, with O(services[].servers[].forward=tunnel).
            type: dict
            suboptions:
              type:
                description: Encapsulation.
                type: str
                choices: [ipip, gue, gre]
                default: ipip
              port:
                description: UDP port, of V(gue).
                type: int
                default: 0
              checksum:
                description: Whether outer checksums are made, of V(gue) and V(gre).
                type: bool
                default: false
  timeouts:
    description: Seconds after which idle connections are forgotten. What is not given stays as it is.
    type: dict
    suboptions:
      tcp:
        description: Of established TCP connections. A stream that is silent for longer is reset.
        type: int
      tcp_fin:
        description: Of closed TCP connections.
        type: int
      udp:
        description: Of UDP.
        type: int
  engine:
    description:
      - V(kernel) writes the virtual services.
      - V(keepalived) writes only the weights, through the files that keepalived tracks, and verifies the kernel's table
        afterwards, because keepalived does not.
    type: str
    choices: [kernel, keepalived]
    default: kernel
  drain_timeout:
    description: Seconds a server may take to become empty, counted from when it got weight 0, over all runs. V(0) does not wait.
    type: int
    default: 300
  drain_until:
    description:
      - V(empty) waits until no connection is left, V(active) until no established one is left.
      - Closed connections stay for O(timeouts.tcp_fin) seconds; a half-closed one may still carry a download.
    type: str
    choices: [empty, active]
    default: empty
  on_timeout:
    description:
      - What happens to a server that is still in use after O(drain_timeout). V(keep) leaves it at weight 0 for a later run,
        V(fail) too but fails, V(force) removes it and cuts its connections.
    type: str
    choices: [keep, fail, force]
    default: keep
  force:
    description: Remove servers and services that are no longer wanted at once, with the connections on them.
    type: bool
    default: false
  await_quiet:
    description: Wait for wanted servers of weight 0 as well, as long as O(drain_timeout).
    type: bool
    default: false
  drain:
    description:
      - Addresses of real servers to keep at weight 0 from now on, in every service and over all later runs, whatever their wanted
        weight, until they are given to O(undrain).
    type: list
    elements: str
    default: []
  drain_at_once:
    description:
      - The part of a service's wanted weight that may be drained at the same time, from V(0) to V(1). A server in O(drain) that
        would exceed it is refused.
    type: float
    default: 1.0
  undrain:
    description: Addresses of real servers that get their wanted weight again.
    type: list
    elements: str
    default: []
  verify:
    description: With O(engine=keepalived), compare the kernel's table with what keepalived was told.
    type: bool
    default: true
  keep_weights:
    description: Leave the weight of servers that are there as it is.
    type: bool
    default: false
  purge:
    description: Remove virtual services that are not wanted even if this module did not make them.
    type: bool
    default: false
  ignore_lint:
    description: Ids of RV(lint) that do not stop the run although they are errors.
    type: list
    elements: str
    default: []
  load_modules:
    description: Load the kernel modules that are needed.
    type: bool
    default: true
  take_over:
    description: Become the writer of this host's virtual services although another engine is recorded.
    type: bool
    default: false
  settle:
    description: Seconds keepalived may take to bring what it was told into the kernel.
    type: int
    default: 30
  state_folder:
    description:
      - Folder on the host that keeps who writes, which services are ours, and since when who drains.
      - One that is there stays as it is; one that others may write to is refused. A new one is for root only.
    type: path
    default: /var/lib/netops.fleet/lvs
  netns:
    description: Work in this network namespace. A name known to C(ip netns), or an absolute path.
    type: str
seealso:
  - name: ipvsadm(8)
    description: Schedulers, flags, and what the words mean.
    link: https://man7.org/linux/man-pages/man8/ipvsadm.8.html
"""

EXAMPLES = r"""
- name: Two model servers behind one address, split 3 to 5
  netops.fleet.lvs_wrr:
    services:
      - address: 192.0.2.80
        port: 8080
        scheduler: wrr
        servers:
          - {address: 192.0.2.11, weight: 3}
          - {address: 192.0.2.12, weight: 5}

- name: Take one server out, wait up to ten minutes for its streams, fail if they do not end
  netops.fleet.lvs_wrr:
    drain_timeout: 600
    on_timeout: fail
    services:
      - address: 192.0.2.80
        port: 8080
        servers:
          - {address: 192.0.2.12, weight: 5}

- name: Consistent hashing over IPv6; a server joins when it has the model's new version
  netops.fleet.lvs_wrr:
    services:
      - address: 2001:db8::80
        port: 8080
        scheduler: mh
        flags: [mh-fallback, mh-port]
        ready:
          path: /v1/models
          body: '"version": "2026-11"'
        servers:
          - {address: "2001:db8::11", weight: 3}
          - {address: "2001:db8::12", weight: 5}
"""

RETURN = r"""
changes:
  description: What was written, or would be in check mode, in order.
  returned: always
  type: list
  elements: dict
  sample:
    - {"op": "drain_server", "service": "tcp/192.0.2.80:8080", "server": "192.0.2.11:8080", "before": {"weight": 3},
       "after": {"weight": 0}, "connections": 4}
writes:
  description: Messages to the kernel that changed something.
  returned: always
  type: int
  sample: 0
draining:
  description: Servers at weight 0 that are still in use, since how many seconds, and what was decided.
  returned: always
  type: list
  elements: dict
  sample:
    - {"service": "tcp/192.0.2.80:8080", "server": "192.0.2.11:8080", "remove": true, "active": 2, "inactive": 0,
       "seconds": 12.5, "decision": "keep"}
waiting:
  description: Servers that may not join yet, and why.
  returned: always
  type: list
  elements: dict
  sample: [{"service": "tcp/192.0.2.80:8080", "server": "192.0.2.12:8080", "why": "wrong_body: HTTP status 200"}]
connections_at_risk:
  description: Connections on servers that are to be removed.
  returned: always
  type: int
  sample: 0
connections_dropped:
  description: Connections on servers at the moment they were removed.
  returned: always
  type: int
  sample: 0
lint:
  description: What is known to go wrong with this state on this host. Errors stop the run before any write.
  returned: always
  type: list
  elements: dict
  sample:
    - {"id": "port-reuse", "severity": "warning", "subject": "net.ipv4.vs.conn_reuse_mode", "text": "is 0: ...",
       "fix": "sysctl -w net.ipv4.vs.conn_reuse_mode=1"}
drained:
  description: Addresses of real servers that an administrator took out.
  returned: always
  type: list
  elements: str
  sample: ["192.0.2.11"]
last:
  description:
    - Weights that were wanted by the run before, by address of the real server. The filter P(netops.fleet.lvs_weights#filter)
      takes them as C(previous), to hold a weight where data is missing and to leave small moves out.
  returned: always
  type: dict
  sample: {"192.0.2.11": 3, "192.0.2.12": 5}
foreign:
  description: Virtual services that are neither wanted nor ours, and were left alone.
  returned: always
  type: list
  elements: str
  sample: ["udp/192.0.2.53:53"]
leaving:
  description:
    - Services, as of O(services), with the real servers that are no longer wanted but must stay in keepalived's configuration at
      weight 0 until they are empty.
  returned: with O(engine=keepalived)
  type: list
  elements: dict
  sample: []
drift:
  description: Where the kernel's table is not what keepalived was told.
  returned: with O(engine=keepalived), when there is some
  type: list
  elements: dict
  sample: [{"subject": "tcp/192.0.2.80:8080 192.0.2.11:8080", "text": "weight 9, not 3"}]
table:
  description: The kernel's table after the run, with connections.
  returned: when it was read
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.netops.fleet.plugins.module_utils._kernel import netns
from ansible_collections.netops.fleet.plugins.module_utils._lvs.director import outcome

FLAGS = ["one-packet", "mh-fallback", "mh-port", "sh-fallback", "sh-port", "flag-1", "flag-2", "flag-3"]
TUNNEL = {
    "type": {"type": "str", "choices": ["ipip", "gue", "gre"], "default": "ipip"},
    "port": {"type": "int", "default": 0},
    "checksum": {"type": "bool", "default": False},
}
SERVER = {
    "address": {"type": "str", "required": True},
    "port": {"type": "int"},
    "weight": {"type": "int", "default": 1},
    "forward": {"type": "str", "choices": ["dr", "tunnel", "nat"], "default": "dr"},
    "upper_threshold": {"type": "int", "default": 0},
    "lower_threshold": {"type": "int", "default": 0},
    "tunnel": {"type": "dict", "options": TUNNEL},
}
READY = {
    "path": {"type": "str", "default": "/"},
    "port": {"type": "int"},
    "scheme": {"type": "str", "choices": ["http", "https"], "default": "http"},
    "status": {"type": "int", "default": 200},
    "body": {"type": "str"},
    "timeout": {"type": "float", "default": 2.0},
}
SERVICE = {
    "address": {"type": "str"},
    "port": {"type": "int"},
    "protocol": {"type": "str", "choices": ["tcp", "udp", "sctp"], "default": "tcp"},
    "fwmark": {"type": "int"},
    "family": {"type": "str", "choices": ["ipv4", "ipv6"], "default": "ipv4"},
    "scheduler": {"type": "str", "default": "wrr"},
    "flags": {"type": "list", "elements": "str", "choices": FLAGS, "default": []},
    "persistence": {"type": "int", "default": 0},
    "netmask": {"type": "int"},
    "persistence_engine": {"type": "str"},
    "ready": {"type": "dict", "options": READY},
    "servers": {"type": "list", "elements": "dict", "default": [], "options": SERVER},
}
SPEC = {
    "services": {"type": "list", "elements": "dict", "required": True, "options": SERVICE},
    "timeouts": {"type": "dict", "options": {"tcp": {"type": "int"}, "tcp_fin": {"type": "int"}, "udp": {"type": "int"}}},
    "engine": {"type": "str", "choices": ["kernel", "keepalived"], "default": "kernel"},
    "drain_timeout": {"type": "int", "default": 300},
    "drain_until": {"type": "str", "choices": ["empty", "active"], "default": "empty"},
    "on_timeout": {"type": "str", "choices": ["keep", "fail", "force"], "default": "keep"},
    "force": {"type": "bool", "default": False},
    "await_quiet": {"type": "bool", "default": False},
    "drain": {"type": "list", "elements": "str", "default": []},
    "drain_at_once": {"type": "float", "default": 1.0},
    "undrain": {"type": "list", "elements": "str", "default": []},
    "verify": {"type": "bool", "default": True},
    "keep_weights": {"type": "bool", "default": False},
    "purge": {"type": "bool", "default": False},
    "ignore_lint": {"type": "list", "elements": "str", "default": []},
    "load_modules": {"type": "bool", "default": True},
    "take_over": {"type": "bool", "default": False},
    "settle": {"type": "int", "default": 30},
    "state_folder": {"type": "path", "default": "/var/lib/netops.fleet/lvs"},
    "netns": {"type": "str"},
}


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    if module.params["netns"]:
        try:
            netns.enter(module.params["netns"])
        except (OSError, ValueError) as error:
            module.fail_json(
                msg=f"netns {module.params['netns']}: {error}; allowed is a name shown by 'ip netns' or the path of a namespace"
            )
    result, why = outcome(module.params, module.check_mode)
    if why:
        module.fail_json(msg=why, **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
