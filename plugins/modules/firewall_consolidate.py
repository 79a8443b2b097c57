#!/usr/bin/python

# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: firewall_consolidate
short_description: Thousands of per-address rules into a few rules and sets, with a proof that no packet's verdict changes
version_added: 0.1.0
author:
  - netops.fleet contributors (@netops-fleet)
description:
  - Finds rules of a chain that differ in one thing (source, destination, port, or address and port together) and have the same
    verdict, also when rules that commute with them stand between. They become one rule and a named set, a set of nftables for
    rules of nftables and an ipset for rules of iptables.
  - Everything that is not fully understood, or does more than decide (log, limit, mark, jump, NAT), stays in its place, and
    RV(barriers) says which and why. Chains of other programs (docker, kube-proxy, firewalld, fail2ban) are not touched.
  - Each plan has a certificate. A check of its own, which shares no code with the folding, has compared the rules before and
    after over all packets. Without it there is no plan, and it is made again on the host before anything is written.
  - V(planned) writes the plan into a file. V(applied) carries out exactly that file, and refuses when the rules of the host are
    no longer those it was made for. Hosts with the same rules have the same RV(fingerprint), so one plan serves them all.
  - Sets are written first, then the rules, each table in one step, so no packet meets half of it. Rules that stay keep their
    counters and handles, and a folded rule goes on from the sum of its members' counters.
  - The way back is in the journal of the host before the first write, see M(netops.fleet.change_journal). With O(deadman) the
    host takes everything back by itself unless the change is confirmed, also after the controller or the session was lost.
options:
  state:
    description:
      - V(read) only looks. It returns the RV(fingerprint), a digest of each chain (RV(marks)), and whether what was applied is
        still there (RV(applied)).
      - V(planned) looks and writes the plan file; nothing else is changed.
      - V(applied) carries out the plan in O(path), which may have been made on another host of the same fingerprint.
    type: str
    choices: [read, planned, applied]
    default: planned
  path:
    description:
      - The plan file on the host. Only root can read it.
      - With O(state=planned), the default is a file of C(/var/lib/netops.fleet/plans) that is named by the fingerprint.
      - The folder of a path given with O(state=planned) must be there already, and stays as it is.
    type: path
  chains:
    description:
      - Which chains to look at, as C(TABLE/CHAIN), where C(*) and C(?) stand for other characters.
      - The default is every chain that belongs to no other program.
    type: list
    elements: str
    default: []
  rules:
    description: With V(read) and V(planned), whether the rules themselves are returned too, as RV(listing).
    type: bool
    default: false
  minimum:
    description: Fewer rules than this are not worth a set.
    type: int
    default: 4
  order:
    description: Whether busier rules move up, past rules they commute with and no further.
    type: bool
    default: false
  prefix:
    description: How the names of new sets begin.
    type: str
    default: nf_
  deadman:
    description:
      - Seconds within which the change must be confirmed with M(netops.fleet.change_journal), over a new connection. Else the
        host takes it back.
      - With V(0) there is no timer.
    type: int
    default: 120
  persist:
    description:
      - Whether the next boot is changed too. The ipsets are loaded there before any rules, as with M(netops.fleet.ipset).
      - Files that load rules are changed where they hold the rules of the plan line by line, those of iptables only where its
        ipsets are loaded before them. Each is tried in a network namespace of its own first. A file that says the same in
        other words is left as it is, decides every packet alike, and may be saved anew at any time; RV(notes) says so.
    type: bool
    default: true
  check_connection:
    description:
      - Whether the SSH connection must be accepted as an established one, by the rules as they are and as they will be, before
        anything is written.
    type: bool
    default: true
  connection:
    description: The connection to check, where it cannot be found in the environment of the SSH session.
    type: dict
    suboptions:
      source:
        description: Address of the controller, as the host sees it.
        type: str
        required: true
      source_port:
        description: Its port.
        type: int
      destination:
        description: Address of the host that it is connected to.
        type: str
        required: true
      port:
        description: Port of the host.
        type: int
        default: 22
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
requirements:
  - Root. nft 0.9.0 or newer for rules of nftables, iptables 1.8 or newer for rules of iptables.
seealso:
  - module: netops.fleet.change_journal
  - module: netops.fleet.ipset
  - module: netops.fleet.nft_rule_facts
"""

EXAMPLES = r"""
- name: What could be folded?
  netops.fleet.firewall_consolidate:
  register: plan

- name: Fold it, and take it back by yourself unless told otherwise within two minutes
  netops.fleet.firewall_consolidate:
    state: applied
    path: "{{ plan.path }}"
  register: done
  when: plan.summary.sets > 0

- name: The confirmation needs a connection of its own
  ansible.builtin.meta: reset_connection

- name: Still here, keep it
  netops.fleet.change_journal:
    state: confirmed
    change: "{{ done.change }}"
  when: done is changed
"""

RETURN = r"""
fingerprint:
  description: The same for hosts whose chains hold the same rules, whatever their counters and handles are.
  returned: success
  type: str
  sample: 2f1c9a3e5d7b8c6a1e0f9d8c7b6a5e4d
marks:
  description: >-
    A digest of each chain, C(sets) for the definitions of the sets they name, and C(unread BACKEND) where rules could not be
    read. The fingerprint is made of these.
  returned: with O(state=read)
  type: dict
  sample:
    nft inet filter input: 2f1c9a3e5d7b8c6a1e0f9d8c7b6a5e4d
whole:
  description: >-
    A digest of all rules of a chain into which programs such as docker write too. Their rules are not part of the fingerprint,
    and a plan that changes such a chain is only for hosts where they wrote the same.
  returned: with O(state=read)
  type: dict
applied:
  description: >-
    V(stands) where all that this module applied is still there, V(changed) where somebody else changed some of it since,
    V(nothing) where nothing was applied or all was taken back.
  returned: with O(state=read)
  type: str
left:
  description: What somebody else changed of it.
  returned: with O(state=read)
  type: list
  elements: str
planned:
  description: The fingerprint of the newest plan on this host. None without one.
  returned: with O(state=read)
  type: str
listing:
  description: Chain to its rules without handles and counters; the first line is its hook, priority and policy.
  returned: with O(rules=true)
  type: dict
path:
  description: The plan file.
  returned: with O(state=planned) and O(state=applied)
  type: str
summary:
  description: >-
    Rules looked at (C(rules)), rules of the chains that change (C(rules_before), C(rules_after)), C(chains), C(sets),
    C(elements), C(barriers), and C(certificate), which is V(equal).
  returned: with O(state=planned) and O(state=applied)
  type: dict
  sample:
    rules: 10021
    rules_before: 10021
    rules_after: 23
    chains: 1
    sets: 2
    elements: 10000
    barriers: 1
    certificate: equal
folded:
  description: The chains that change.
  returned: with O(state=planned) and O(state=applied)
  type: list
  elements: str
  sample: [nft inet filter input]
barriers:
  description: Rules that nothing may move across, with the reason.
  returned: with O(state=planned) and O(state=applied)
  type: list
  elements: dict
  sample:
    - where: nft inet filter input handle 9
      text: limit rate 5/second accept
      why: "not understood or not static: limit rate 5/second"
notes:
  description: Chains that were left as they are and why, and what was not checked.
  returned: success
  type: list
  elements: str
change:
  description: The id of the change in the journal of the host. None when nothing was changed.
  returned: with O(state=planned) and O(state=applied)
  type: str
confirm_within:
  description: Seconds within which the change must be confirmed. None when there is no timer.
  returned: with O(state=planned) and O(state=applied)
  type: int
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.netops.fleet.plugins.module_utils._firewall import apply, consolidate, persist, set_plan
from ansible_collections.netops.fleet.plugins.module_utils._safety import change, journal, lock, objects


def main() -> None:
    module = AnsibleModule(argument_spec=apply.ARGUMENTS, supports_check_mode=True)
    try:
        result = apply.run(module.params, module.check_mode, persist=persist.folded if module.params["persist"] else None)
    except change.ChangeError as error:
        module.fail_json(msg=str(error), **error.facts)
    except (consolidate.PlanError, set_plan.SetsError, journal.JournalError, lock.Busy, objects.ObjectError, OSError) as error:
        module.fail_json(msg=f"Nothing was changed. {error}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
