# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Planning interrupts of a very large machine; and what spreading one queue's packets over processors brings."""

from __future__ import annotations

import os
import statistics
import time

from ansible_collections.netops.fleet.plugins.module_utils._evidence import topology
from ansible_collections.netops.fleet.plugins.module_utils._kernel import cpulist
from ansible_collections.netops.fleet.plugins.module_utils._tuning import irq_plan
from tests.bench.figures import Figure
from tests.bench.measure import MeasureError
from tests.bench.options import Options
from tests.kernel.conftest import Namespace
from tests.unit.test_irq_plan import nic, shape

NICS, QUEUES, SOCKETS, CORES, THREADS = 16, 256, 8, 32, 2
#: Rules that each received packet passes, so that receiving is the work; seconds of one measurement.
RULES, SECONDS, FLOWS = 400, 2.0, 64

_FLOOD = """
import json, os, socket, sys, time
target, seconds, flows = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
os.sched_setaffinity(0, {0})
socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _flow in range(flows)]
for one in socks:
    one.connect((target, 9))
sent, until = 0, time.monotonic() + seconds
while time.monotonic() < until:
    for one in socks:
        one.send(b"x")
    sent += flows
print(json.dumps(sent))
"""


def run(options: Options) -> list[Figure]:
    return [*_plan(), *_spread(options)]


def _plan() -> list[Figure]:
    machine = shape(SOCKETS, CORES, THREADS)
    nics = [nic(machine, f"n{at:02}", at % SOCKETS, QUEUES, 1000 * at) for at in range(NICS)]
    taken = []
    for _round in range(3):
        begun = time.perf_counter()
        plan = irq_plan.make(machine, nics, irq_plan.Options())
        taken.append(time.perf_counter() - begun)
    if len(plan.placements) != NICS * QUEUES:
        raise MeasureError(f"{len(plan.placements)} of {NICS * QUEUES} queues were placed")
    name = f"plan of {NICS} NICs with {QUEUES} queues on {len(machine.cpus)} processors"
    return [Figure(name, statistics.median(taken), "s", at_most=1.0)]


def _spread(options: Options) -> list[Figure]:
    """A sender and a receiver joined by a link with one queue: all on one processor, then as the plan spreads it."""
    if (os.cpu_count() or 1) < 2:
        options.say("one processor: there is nothing to spread over")
        return []
    sender, receiver = Namespace(), Namespace()
    try:
        name = receiver.name
        sender.run(["ip", "link", "add", "out", "type", "veth", "peer", "name", "in", "netns", name])
        for space, link, address in ((sender, "out", "192.0.2.1/30"), (receiver, "in", "192.0.2.2/30")):
            space.run(["ip", "address", "add", address, "dev", link])
            space.run(["ip", "link", "set", link, "up"])
        rules = "\n".join(f"udp dport {20000 + at} drop" for at in range(RULES))
        text = f"table inet f {{\nchain i {{ type filter hook input priority 0;\n{rules}\nudp dport 9 counter drop\n}}\n}}\n"
        receiver.run(["nft", "-f", "-"], input=text)
        helpers = _helpers()
        rates: dict[str, list[float]] = {"one": [], "spread": []}
        for _round in range(options.rounds):
            for way, mask in (("one", "0"), ("spread", cpulist.show_mask(helpers))):
                receiver.run(["sh", "-c", f"echo {mask} > /sys/class/net/in/queues/rx-0/rps_cpus"])
                before = _received(receiver)
                sender.python_json(_FLOOD, "192.0.2.2", str(SECONDS), str(FLOWS))
                rates[way].append((_received(receiver) - before) / SECONDS)
    finally:
        sender.remove()
        receiver.remove()
    one, spread = (statistics.median(rates[way]) for way in ("one", "spread"))
    options.say(f"packets per second: {one:.0f} on one processor, {spread:.0f} spread over {cpulist.show(helpers)} too")
    detail = f"{RULES} rules for each packet; the sender shares the first processor"
    return [Figure("packets received, spread by RPS", spread, "", one, "on one processor", detail=detail)]


def _helpers() -> tuple[int, ...]:
    """The processors that the plan gives to RPS, for a NIC with one queue on this machine."""
    plan = irq_plan.make(topology.read(), [nic(topology.read(), "in", None, 1)], irq_plan.Options())
    return next(cpulist.parse(each.value) for each in plan.steering if each.setting == "rx-0.rps_cpus")


def _received(space: Namespace) -> int:
    listed = space.run(["nft", "list", "chain", "inet", "f", "i"]).stdout
    return int(listed.split("counter packets ", 1)[1].split()[0])
