#!/usr/bin/python

# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ipset
short_description: One set of addresses or ports with exactly the wanted content, put in place in one step
version_added: 0.1.0
author:
  - netops.fleet contributors (@netops-fleet)
description:
  - Makes an ipset hold what O(entries) or O(file) says. What a set covers is compared, not how it is written, so two halves of a
    prefix are the prefix.
  - The new content is built aside and swapped in. Whoever looks a packet up finds the old content or the new, never an empty set
    or a part of one. Rules that name the set keep naming it.
  - A new set gets room for its content and a quarter more, and enough buckets that it does not have to grow while it is filled.
  - With O(backend=ipset) it talks to the kernel itself; the tool C(ipset) is needed for the next boot only.
  - A set that another program writes is refused, known by its name (fail2ban, kube-proxy, Calico and others) or by a rule that
    puts addresses into it. So is a set that was there before, unless O(adopt) is set.
  - The former content goes into the journal on the host, see M(netops.fleet.change_journal) for the way back.
options:
  name:
    description: Name of the set, up to 31 characters.
    type: str
    required: true
  state:
    description:
      - V(present) makes the set hold the wanted content.
      - V(absent) removes the set. It is an error while a rule names it.
    type: str
    choices: [present, absent]
    default: present
  type:
    description: What the set holds. V(hash:net) and V(hash:net,port) hold prefixes.
    type: str
    choices: ["hash:ip", "hash:net", "hash:ip,port", "hash:net,port", "bitmap:port"]
    default: "hash:net"
  family:
    description: Address family. A set holds addresses of one.
    type: str
    choices: [inet, inet6]
    default: inet
  entries:
    description:
      - The whole content, an entry each. Either this or O(file) is needed with O(state=present).
      - An address, a prefix, or a range such as C(192.0.2.10-192.0.2.20), where the type has ports followed by C(,tcp:443) or
        C(,udp:8000-8010). A bitmap of ports has ports or ranges of ports.
      - Behind it may stand C(nomatch) in types with prefixes, C(timeout SECONDS) where O(timeout) is set, and C(comment "TEXT").
    type: list
    elements: str
  file:
    description: A file on the host with an entry a line, as in O(entries). Empty lines and what follows a C(#) are left out.
    type: path
  timeout:
    description:
      - Seconds after which an entry leaves the set by itself, unless it says its own. V(0) for entries that stay.
      - Without it no entry can have a timeout. An entry that is still there keeps the time it has left, one that has ended comes
        back with the next run.
    type: int
  counters:
    description: Whether each entry counts packets and bytes. Counts survive a change of the content.
    type: bool
    default: false
  maxelem:
    description: The most entries the set can hold. By default what the content needs and a quarter more, 65536 at least.
    type: int
  hashsize:
    description: Buckets of a new set, rounded up to a power of two. By default what the content needs.
    type: int
  backend:
    description:
      - V(ipset) for rules of iptables, V(nft) for a named set of the nftables table O(table).
      - An nft set holds disjoint intervals, which are worked out here. Entries with a comment, a timeout or a counter must not
        overlap in it, none can be C(nomatch) then, and with O(timeout) every entry ends.
    type: str
    choices: [ipset, nft]
    default: ipset
  table:
    description: Family and name of the table, such as V(inet filter), with O(backend=nft). It is made when it is not there.
    type: str
  persist:
    description:
      - Whether the set is there at the next boot, before the rules that name it. A unit of its own loads it, ordered
        before C(netfilter-persistent), C(iptables), C(nftables), C(ufw) and C(firewalld). Where C(nftables.service) starts from
        an empty ruleset, its file includes the sets.
      - That boot is then rehearsed in a network namespace of its own, with the host's own files of rules. If the set would not
        come as it is now, the change is taken back.
    type: bool
    default: true
  adopt:
    description: Whether a set that was not made by this collection may be changed. Its content then is the original to return to.
    type: bool
    default: false
  deadman:
    description:
      - Seconds within which M(netops.fleet.change_journal) must confirm the change, else the host takes it back alone.
      - Use it where the set decides who may reach the host. V(0) sets no timer.
    type: int
    default: 0
  first:
    description: How many entries are named in RV(added), RV(removed), RV(updated) and the diff. Counts are always of all.
    type: int
    default: 10
extends_documentation_fragment:
  - netops.fleet.attributes
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
  - module: netops.fleet.nft_rule_facts
"""

EXAMPLES = r"""
- name: Who may log in
  netops.fleet.ipset:
    name: admins
    type: hash:net
    entries:
      - 192.0.2.0/24 comment "office"
      - 192.0.2.66 nomatch
      - 198.51.100.7

- name: The same for IPv6, taken back by the host unless it is confirmed within a minute
  netops.fleet.ipset:
    name: admins6
    family: inet6
    entries: ["2001:db8:1::/48"]
    deadman: 60

- name: Ports of model servers
  netops.fleet.ipset:
    name: model-ports
    type: bitmap:port
    entries: [8000-8010, "9000"]

- name: A named set of nftables
  netops.fleet.ipset:
    name: monitors
    backend: nft
    table: inet filter
    entries: [192.0.2.0/25, 198.51.100.9]

- name: The set is not needed any more
  netops.fleet.ipset:
    name: old-blocklist
    state: absent
"""

RETURN = r"""
set:
  description: The set as it is now, or would be. None when it is gone.
  returned: success
  type: dict
  contains:
    name:
      description: Its name.
      type: str
    type:
      description: Its type.
      type: str
    family:
      description: Its address family.
      type: str
    entries:
      description: How many entries it has, in the wanted way of writing them.
      type: int
    hashsize:
      description: Buckets that a set of this content gets.
      type: int
    maxelem:
      description: The most entries that a set of this content gets room for.
      type: int
reasons:
  description: Why it was changed, one sentence each.
  returned: success
  type: list
  elements: str
counts:
  description: How many entries were added, removed and updated (another comment, timeout or nomatch).
  returned: success
  type: dict
added:
  description: The first of the added entries.
  returned: success
  type: list
  elements: str
removed:
  description: The first of the removed entries.
  returned: success
  type: list
  elements: str
updated:
  description: The first of the updated entries.
  returned: success
  type: list
  elements: str
change:
  description: The id of the change in the journal. None when nothing changed.
  returned: success
  type: str
confirm_within:
  description: Seconds within which the change must be confirmed. None when no timer was set.
  returned: success
  type: int
notes:
  description: What the reader should know beside it.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.netops.fleet.plugins.module_utils._firewall import set_ipset, set_nft, set_plan, sets
from ansible_collections.netops.fleet.plugins.module_utils._safety import change, journal, lock, objects


def main() -> None:
    module = AnsibleModule(argument_spec=sets.ARGUMENTS, supports_check_mode=True)
    try:
        options = sets.Options.from_params(module.params)
        backend = set_nft.NftSet.of(module.params["table"] or "") if module.params["backend"] == "nft" else set_ipset.Ipset()
        result = sets.run(options, backend, module.check_mode)
    except set_plan.SetsError as error:
        module.fail_json(msg=f"Nothing was changed. {error}")
    except change.ChangeError as error:
        module.fail_json(msg=str(error), **error.facts)
    except (journal.JournalError, lock.Busy, objects.ObjectError, OSError) as error:
        module.fail_json(msg=f"Nothing was changed. {error}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
