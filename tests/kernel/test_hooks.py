# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hook census against the real kernel. Witnesses: the attaching call's own return, tc, ip, bpftool, real packets."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel import bpf_tools
from tests.kernel.conftest import Namespace
from tests.kernel.test_watch import closed, opened

pytestmark = pytest.mark.kernel

TOOL = str(Path(bpf_tools.__file__).resolve())
CGROUPS = next(line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if line.split()[2] == "cgroup2")
DROP, PASS, NEXT = bpf_tools.constant(2).hex(), bpf_tools.constant(0).hex(), bpf_tools.constant(-1).hex()
MAYBE = bpf_tools.helper_result().hex()

READ = """
import json, sys
from ansible_collections.netops.fleet.plugins.module_utils._evidence import hooks
options = json.loads(sys.argv[1])
section = hooks.read(**options)
print(json.dumps({"hooks": section.data, "gaps": [gap.to_dict() for gap in section.gaps]}))
"""


def hold(ns: Namespace, *steps: dict[str, Any]) -> tuple[subprocess.Popen[str], list[dict[str, int]]]:
    """Attach in a process of its own, which holds everything; returns it and what the kernel answered."""
    process = ns.start([sys.executable, "-u", TOOL, json.dumps(steps)])
    assert process.stdout is not None
    told = process.stdout.readline()
    assert told, f"the attaching process failed: {steps}"
    assert process.stdout.readline().strip() == "ready"
    return process, json.loads(told)


def census(ns: Namespace, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = ns.python_json(READ, json.dumps(options))
    return found


def here(ns: Namespace, hook: str, **options: Any) -> list[dict[str, Any]]:
    """Entries of one kind, in listed order. Machine-wide kinds may hold programs of others: the caller filters by id."""
    return [entry for entry in census(ns, **options)["hooks"] if entry["hook"] == hook]


def typed(ns: Namespace, command: str) -> None:
    """Run a printed command as an administrator in the namespace would."""
    ns.run(["sh", "-c", command])


class NetworkOnly(Namespace):
    """Enters with nothing but the network changed: ``ip netns exec`` hides the cgroup file systems."""

    def argv(self, argv: list[str]) -> list[str]:
        return ["nsenter", f"--net=/run/netns/{self.name}", *argv]


@pytest.fixture
def net() -> Iterator[NetworkOnly]:
    namespace = NetworkOnly()
    yield namespace
    namespace.remove()


def reaches(client: Namespace, address: str, port: int) -> bool:
    """Does a TCP connection come up? A packet that is eaten makes it time out."""
    code = (
        "import socket, sys\n"
        "try:\n    socket.create_connection((sys.argv[1], int(sys.argv[2])), 1.5).close()\n    print('true')\n"
        "except TimeoutError:\n    print('false')\n"
    )
    return bool(client.python_json(code, address, str(port)))


def listen(server: Namespace, port: int) -> None:
    server.start_python(
        "import signal, socket, sys\ns = socket.create_server(('0.0.0.0', int(sys.argv[1])))\nprint('ready')\nsignal.pause()",
        str(port),
    )


@pytest.fixture
def wire(ns: Namespace) -> Namespace:
    ns.run(["ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1"])
    for link in ("v0", "v1"):
        ns.run(["ip", "link", "set", link, "up"])
    return ns


@pytest.fixture
def cgroup() -> Iterator[str]:
    path = f"{CGROUPS}/nf-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    os.mkdir(path)
    yield path
    os.rmdir(path)


def tc(name: str, code: str, direction: str, priority: int, **more: Any) -> dict[str, Any]:
    return {"how": "tc", "type": "sched_cls", "code": code, "name": name, "dev": "v0", "direction": direction,
            "priority": priority, **more}  # fmt: skip


def tcx(name: str, code: str, direction: str, dev: str = "v0", **more: Any) -> dict[str, Any]:
    return {"how": "tcx", "type": "sched_cls", "code": code, "name": name, "dev": dev, "direction": direction, **more}


def test_tc_filters_in_run_order_as_tc_lists_them(wire: Namespace) -> None:
    wire.run(["tc", "qdisc", "add", "dev", "v0", "clsact"])
    _process, told = hold(
        wire,
        tc("late", DROP, "ingress", 20),
        tc("early", NEXT, "ingress", 10),
        tc("out", PASS, "egress", 5),
        tc("classifier", DROP, "egress", 7, direct=False),
        tc("lonely", DROP, "ingress", 3, chain=9),
    )
    ids = {name: answer["prog_id"] for name, answer in zip(("late", "early", "out", "classifier", "lonely"), told)}
    found = {entry["name"]: entry for entry in here(wire, "tc")}
    assert {name: entry["id"] for name, entry in found.items()} == ids
    ingress = sorted((entry for entry in found.values() if entry["direction"] == "ingress"), key=lambda entry: entry["order"])
    witness = wire.json(["tc", "-j", "filter", "show", "dev", "v0", "ingress"])
    listed = [(line["pref"], line["options"]["bpf_name"]) for line in witness if "options" in line]
    assert [(entry["tc"]["priority"], entry["name"]) for entry in ingress] == listed
    tags = {line["options"]["bpf_name"]: line["options"]["prog"]["tag"] for line in witness if "options" in line}
    assert {entry["name"]: entry["tag"] for entry in ingress} == tags
    assert (found["late"]["can_drop"], found["early"]["can_drop"], found["out"]["can_drop"]) == ("yes", "no", "no")
    # Its program returns 2, but a filter that is no direct action only classifies with it.
    assert found["classifier"]["can_drop"] == "no" and not found["classifier"]["tc"]["direct_action"]
    assert found["lonely"]["can_drop"] == "no" and found["lonely"]["tc"]["reached"] is False
    assert found["late"]["interface"] == {"name": "v0", "index": found["late"]["interface"]["index"], "class": "v0"}
    assert found["late"]["key"] == f"bpf tc ingress v0 sched_cls late {found['late']['tag']}"
    for name in ("late", "lonely", "out"):
        (command,) = found[name]["detach"]
        typed(wire, command)
        assert ids[name] not in [entry["id"] for entry in here(wire, "tc")]
    assert len(here(wire, "tc")) == 2


def test_ingress_qdisc_u32_and_mirred(wire: Namespace) -> None:
    wire.run(["ip", "link", "add", "x0", "type", "veth", "peer", "name", "x1"])
    wire.run(["tc", "qdisc", "add", "dev", "v0", "ingress"])
    wire.run(["tc", "filter", "add", "dev", "v0", "ingress", "protocol", "ip", "pref", "4", "u32", "match", "ip", "dport", "1678",
              "0xffff", "action", "mirred", "egress", "redirect", "dev", "x0"])  # fmt: skip
    wire.run(["tc", "filter", "add", "dev", "v0", "ingress", "protocol", "ip", "pref", "8", "u32", "match", "u32", "0", "0",
              "action", "mirred", "egress", "mirror", "dev", "x0"])  # fmt: skip
    redirect, mirror = here(wire, "tc")
    assert (redirect["kind"], redirect["direction"], redirect["tc"]["protocol"]) == ("u32", "ingress", "ip")
    assert (redirect["can_drop"], redirect["can_divert"]) == ("no", "yes")
    assert redirect["drop_evidence"] == ["action mirred redirect to egress of x0"]
    assert (mirror["can_drop"], mirror["can_divert"]) == ("no", "no")
    shown = wire.run(["tc", "filter", "show", "dev", "v0", "ingress"]).stdout
    for entry in (redirect, mirror):
        assert f" pref {entry['tc']['priority']} u32 chain 0 fh {entry['tc']['handle']} " in shown
    for entry in (mirror, redirect):
        typed(wire, entry["detach"][0])
    assert here(wire, "tc") == []


def test_classful_qdisc_and_its_classes(wire: Namespace) -> None:
    wire.run(["tc", "qdisc", "add", "dev", "v0", "root", "handle", "1:", "htb"])
    wire.run(["tc", "class", "add", "dev", "v0", "parent", "1:", "classid", "1:1", "htb", "rate", "10mbit"])
    wire.run(["tc", "class", "add", "dev", "v0", "parent", "1:1", "classid", "1:10", "htb", "rate", "5mbit"])
    for parent, flow, priority in (("1:", "1:1", 2), ("1:1", "1:10", 3), ("1:", "1:10", 3)):
        place = ["tc", "filter", "add", "dev", "v0", "parent", parent, "protocol", "ipv6", "pref", str(priority)]
        wire.run([*place, "u32", "match", "u32", "0", "0", "flowid", flow])
    found = here(wire, "tc")
    # The two of priority 3 are one table of u32, which the kernel lists at both places: each is told once.
    assert [(entry["tc"]["priority"], entry["tc"]["classid"]) for entry in found] == [(2, "1:1"), (3, "1:10"), (3, "1:10")]
    assert len({entry["tc"]["handle"] for entry in found}) == 3
    assert all(entry["can_drop"] == "no" and entry["direction"] == "egress" for entry in found)
    for entry in found:
        typed(wire, entry["detach"][0])
    assert here(wire, "tc") == []


def test_shared_block_is_detached_by_its_block(wire: Namespace) -> None:
    for link in ("v0", "v1"):
        wire.run(["tc", "qdisc", "add", "dev", link, "ingress_block", "22", "clsact"])
    wire.run(["tc", "filter", "add", "block", "22", "protocol", "all", "pref", "3", "u32", "match", "u32", "0", "0"])
    found = here(wire, "tc")
    assert sorted(entry["interface"]["name"] for entry in found) == ["v0", "v1"]
    assert [entry["tc"]["block"] for entry in found] == [22, 22]
    typed(wire, found[0]["detach"][0])
    assert here(wire, "tc") == []


def test_tcx_links_in_run_order_with_owner(wire: Namespace) -> None:
    process, told = hold(
        wire,
        tcx("first", NEXT, "ingress"),
        tcx("second", MAYBE, "ingress"),
        tcx("third", DROP, "ingress"),
        tcx("out", PASS, "egress"),
    )
    found = here(wire, "tcx")
    assert [(entry["id"], entry["link_id"]) for entry in sorted(found, key=lambda entry: entry["link_id"])] == [
        (answer["prog_id"], answer["link_id"]) for answer in told
    ]
    ingress = [entry for entry in found if entry["direction"] == "ingress"]
    assert [(entry["order"], entry["name"], entry["can_drop"]) for entry in ingress] == [
        (0, "first", "no"), (1, "second", "unknown"), (2, "third", "yes"),
    ]  # fmt: skip
    assert ingress[2]["drop_evidence"] == ["returns 2 (drop) set at instruction 0"]
    owner = ingress[0]["owners"]
    assert [(one["pid"], one["via"], one["uid"]) for one in owner] == [(process.pid, "link", 0)]
    assert owner[0]["process"] == Path(f"/proc/{process.pid}/comm").read_text().strip()
    assert owner[0]["exe"] == os.path.basename(os.readlink(f"/proc/{process.pid}/exe"))
    assert set(owner[0]) == {"pid", "process", "exe", "unit", "uid", "via"}
    assert abs(ingress[0]["load_time"] - time.time()) < 300 and ingress[0]["loaded_by"] == 0
    command = ingress[1]["detach"][-1]
    assert command == f"bpftool link detach id {ingress[1]['link_id']}"
    typed(wire, command)
    assert [(entry["order"], entry["name"]) for entry in here(wire, "tcx") if entry["direction"] == "ingress"] == [
        (0, "first"), (1, "third"),
    ]  # fmt: skip
    process.terminate()
    process.wait()
    assert here(wire, "tcx") == []


def test_more_tcx_programs_than_the_first_question_has_room_for(wire: Namespace) -> None:
    _process, told = hold(wire, *(tcx(f"p{number}", NEXT, "ingress") for number in range(40)))
    assert [entry["id"] for entry in here(wire, "tcx")] == [answer["prog_id"] for answer in told]


def test_tcx_without_a_link_names_a_command_only_for_the_last(wire: Namespace) -> None:
    hold(wire, {**tcx("one", NEXT, "ingress"), "how": "tcx_direct"}, {**tcx("two", NEXT, "ingress"), "how": "tcx_direct"})
    one, two = here(wire, "tcx")
    assert (one["name"], one["link_id"], two["name"], two["link_id"]) == ("one", None, "two", None)
    assert all(line.startswith("#") for line in one["detach"])
    assert two["detach"][0] == "bpftool net detach tcx_ingress dev v0"
    # What that command asks of the kernel (BPF_PROG_DETACH without a program), in words that older tools lack: the last one goes.
    code = (
        "import socket, struct, sys; sys.path.insert(0, sys.argv[1]); import bpf_tools\n"
        "bpf_tools.bpf(9, struct.pack('=IIII', socket.if_nametoindex('v0'), 0, 46, 0) + bytes(16))"
    )
    wire.python(code, os.path.dirname(TOOL))
    assert [entry["name"] for entry in here(wire, "tcx")] == ["one"]


def test_a_dropping_tcx_program_drops_and_is_said_to(pair: tuple[Namespace, Namespace]) -> None:
    left, right = pair
    listen(right, 1678)
    assert reaches(left, "10.77.0.2", 1678)
    process, _told = hold(right, tcx("eats", DROP, "ingress", dev="vb"))
    assert not reaches(left, "10.77.0.2", 1678)
    (entry,) = here(right, "tcx")
    assert (entry["can_drop"], entry["interface"]["name"]) == ("yes", "vb")
    assert here(left, "tcx") == []
    typed(right, entry["detach"][0])
    assert reaches(left, "10.77.0.2", 1678)
    assert process.poll() is None


@pytest.mark.parametrize("mode", ["generic", "native"])
@pytest.mark.parametrize("how", ["xdp", "xdp_link"])
def test_xdp(wire: Namespace, mode: str, how: str) -> None:
    process, told = hold(
        wire, {"how": how, "type": "xdp", "code": bpf_tools.constant(1).hex(), "name": "guard", "dev": "v0", "mode": mode}
    )
    (entry,) = here(wire, "xdp")
    assert (entry["id"], entry["link_id"]) == (told[0]["prog_id"], told[0].get("link_id"))
    assert (entry["mode"], entry["name"], entry["can_drop"], entry["order"]) == (mode, "guard", "yes", 0)
    witness = wire.json(["ip", "-j", "link", "show", "dev", "v0"])[0]["xdp"]
    assert witness["prog"]["id"] == entry["id"]
    assert [one["pid"] for one in entry["owners"]] == [process.pid]
    typed(wire, entry["detach"][0])
    assert here(wire, "xdp") == []
    assert "xdp" not in wire.json(["ip", "-j", "link", "show", "dev", "v0"])[0]


def test_xdp_in_both_modes(wire: Namespace) -> None:
    """The driver's program on one side and the generic one on the other, each detached by its own command."""
    step = {"how": "xdp", "type": "xdp", "code": bpf_tools.constant(2).hex(), "name": "watch"}
    hold(wire, {**step, "dev": "v0", "mode": "native"}, {**step, "dev": "v1", "mode": "generic"})
    found = {entry["interface"]["name"]: entry for entry in here(wire, "xdp")}
    assert {name: entry["mode"] for name, entry in found.items()} == {"v0": "native", "v1": "generic"}
    assert [entry["can_drop"] for entry in found.values()] == ["no", "no"]
    typed(wire, found["v1"]["detach"][0])
    assert [entry["mode"] for entry in here(wire, "xdp")] == ["native"]


def test_cgroup_programs_where_they_are_attached(net: NetworkOnly, cgroup: str) -> None:
    below = f"{cgroup}/below"
    os.mkdir(below)
    try:
        process, told = hold(
            net,
            {"how": "cgroup", "type": "cgroup_skb", "code": PASS, "name": "block", "path": cgroup,
             "attach": "cgroup_inet_ingress"},
            {"how": "cgroup_link", "type": "cgroup_skb", "code": bpf_tools.constant(1).hex(), "name": "count", "path": cgroup,
             "attach": "cgroup_inet_egress"},
            {"how": "cgroup_link", "type": "cgroup_sock_addr", "code": PASS, "name": "noconnect", "path": below,
             "attach": "cgroup_inet4_connect"},
        )  # fmt: skip
        ids = {answer["prog_id"] for answer in told}
        found = {entry["name"]: entry for entry in here(net, "cgroup") if entry["id"] in ids}
        assert {name: (entry["cgroup"]["path"], entry["direction"], entry["link_id"]) for name, entry in found.items()} == {
            "block": (cgroup, "inet_ingress", None),
            "count": (cgroup, "inet_egress", told[1]["link_id"]),
            "noconnect": (below, "inet4_connect", told[2]["link_id"]),
        }
        assert {name: entry["can_drop"] for name, entry in found.items()} == {"block": "yes", "count": "no", "noconnect": "yes"}
        assert {entry["scope"] for entry in found.values()} == {"machine"}
        listed = json.loads(subprocess.run(["bpftool", "-j", "cgroup", "show", cgroup], capture_output=True, check=True).stdout)
        assert {line["id"] for line in listed} == {found["block"]["id"], found["count"]["id"]}
        assert [one["pid"] for one in found["block"]["owners"]] == [process.pid]
        for name in ("block", "count", "noconnect"):
            typed(net, found[name]["detach"][0])
            assert found[name]["id"] not in [entry["id"] for entry in here(net, "cgroup")]
        assert here(net, "cgroup", cgroups=False) == []
    finally:
        os.rmdir(below)


_IN_CGROUP = """
import os, signal, socket, sys
with open(sys.argv[1] + "/cgroup.procs", "w") as file:
    file.write(str(os.getpid()))
server = socket.create_server(("0.0.0.0", 1678))
print("ready", flush=True)
signal.pause()
"""
_WALK = """
import json
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import world
from ansible_collections.netops.fleet.plugins.module_utils._firewall.packet import Packet
walker = world.read().walker()
found = {}
for port in (1678, 1679):
    said = walker.incoming(Packet(4, 6, "10.77.0.1", "10.77.0.2", 49152, port, "v0", ""))
    found[port] = [said.verdict, [one.hook["id"] for one in said.possible if one.hook]]
print(json.dumps(found))
"""


_SENT = """
import json
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import world
from ansible_collections.netops.fleet.plugins.module_utils._firewall.packet import Packet
said = world.read().walker().outgoing(Packet(4, 6, None, "10.77.0.1", 49152, 1678))
print(json.dumps([one.hook["id"] for one in said.possible if one.hook] + ([said.object["hook"]["id"]] if said.object else [])))
"""


_REFUSED = """
import errno, os, socket, sys
with open(sys.argv[1] + "/cgroup.procs", "w") as file:
    file.write(str(os.getpid()))
for kind in (socket.SOCK_STREAM, socket.SOCK_STREAM, socket.SOCK_DGRAM):
    assert socket.socket(socket.AF_INET, kind).connect_ex(("127.0.0.1", 1678)) == errno.EPERM
"""


def test_a_connect_that_a_cgroup_program_refuses_is_watched(net: NetworkOnly, cgroup: str, wait_until: Any) -> None:
    deny = {"how": "cgroup_link", "type": "cgroup_sock_addr", "code": PASS, "name": "deny", "path": cgroup}
    holder, _told = hold(net, {**deny, "attach": "cgroup_inet4_connect"})
    watcher, _child = opened(net, "connections._by_bpftrace")
    net.python(_REFUSED, cgroup)
    (one,) = closed(watcher)["connections"]
    assert (one["destination"], one["port"], one["attempts"], one["failed"]) == ("127.0.0.1", 1678, 2, {"EPERM": 2})
    holder.kill()
    holder.wait()
    wait_until(lambda: not Path(f"{cgroup}/cgroup.procs").read_text())


def test_cgroup_programs_of_others_are_not_on_the_way(cgroup: str, wait_until: Any) -> None:
    """A program acts on sockets of its cgroup's processes: not on other sockets of the namespace, not in other namespaces."""
    server, client = NetworkOnly(), NetworkOnly()
    try:
        server.run(["ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1", "netns", client.name])
        for namespace, link, number in ((client, "v1", 1), (server, "v0", 2)):
            namespace.run(["ip", "addr", "add", f"10.77.0.{number}/24", "dev", link])
            namespace.run(["ip", "link", "set", link, "up"])
        inside = server.start_python(_IN_CGROUP, cgroup)
        listen(server, 1679)
        wait_until(lambda: reaches(client, "10.77.0.2", 1678))
        block = {
            "how": "cgroup",
            "type": "cgroup_skb",
            "code": PASS,
            "name": "block",
            "path": cgroup,
            "attach": "cgroup_inet_ingress",
        }
        _process, (told,) = hold(server, block)
        number = told["prog_id"]

        def entry(namespace: Namespace) -> dict[str, Any]:
            (found,) = [one["cgroup"] for one in here(namespace, "cgroup") if one["id"] == number]
            return found

        assert (entry(server)["here"], entry(server)["listens"]) == (True, ["tcp/1678"])
        assert (entry(client)["here"], entry(client)["listens"]) == (False, [])
        assert (reaches(client, "10.77.0.2", 1678), reaches(client, "10.77.0.2", 1679)) == (False, True)
        walked = server.python_json(_WALK)
        assert walked["1678"][0] != "accept" and number in walked["1678"][1]
        assert number not in walked["1679"][1]
        assert number not in [one for _verdict, some in client.python_json(_WALK).values() for one in some]
        # What the asking process sends meets the programs of its own cgroups alone.
        egress = {**block, "name": "quiet", "attach": "cgroup_inet_egress"}
        _process, (other,) = hold(server, egress)
        into = f"import os\nwith open({cgroup!r} + '/cgroup.procs', 'w') as file:\n    file.write(str(os.getpid()))\n"
        assert other["prog_id"] not in server.python_json(_SENT)
        assert other["prog_id"] in server.python_json(into + _SENT)
        inside.kill()
        inside.wait()
        assert wait_until(lambda: entry(server)["here"] is False)
    finally:
        server.remove()
        client.remove()


@pytest.mark.alone  # whose namespace such a link acts in cannot be told: a diagnosis beside this test would suspect it
def test_netfilter_link(ns: Namespace) -> None:
    listen(ns, 1678)
    process, told = hold(
        ns,
        {"how": "netfilter", "type": "netfilter", "code": PASS, "name": "nfdrop", "family": 2, "hook": 1, "priority": -300},
        {"how": "netfilter", "type": "netfilter", "code": bpf_tools.constant(1).hex(), "name": "nfpass", "family": 10, "hook": 3,
         "priority": 77},
    )  # fmt: skip
    ids = {answer["link_id"] for answer in told}
    found = {entry["name"]: entry for entry in here(ns, "netfilter") if entry["link_id"] in ids}
    assert found["nfdrop"]["netfilter"] == {"family": "ipv4", "priority": -300, "flags": []}
    assert (found["nfdrop"]["direction"], found["nfdrop"]["can_drop"], found["nfdrop"]["scope"]) == ("input", "yes", "unknown")
    assert (found["nfpass"]["direction"], found["nfpass"]["can_drop"]) == ("output", "no")
    assert not reaches(ns, "127.0.0.1", 1678)
    typed(ns, found["nfdrop"]["detach"][0])
    assert reaches(ns, "127.0.0.1", 1678)
    process.terminate()
    process.wait()
    assert ids.isdisjoint(entry["link_id"] for entry in here(ns, "netfilter"))


def test_programs_of_the_namespace(ns: Namespace, make_ns: Any) -> None:
    _process, told = hold(
        ns,
        {"how": "netns_link", "type": "sk_lookup", "code": PASS, "name": "steer", "attach": "sk_lookup"},
        {"how": "netns", "type": "flow_dissector", "code": PASS, "name": "dissect", "attach": "flow_dissector"},
    )
    (lookup,), (dissector,) = here(ns, "sk_lookup"), here(ns, "flow_dissector")
    assert (lookup["id"], lookup["link_id"], lookup["can_drop"]) == (told[0]["prog_id"], told[0]["link_id"], "yes")
    assert (dissector["id"], dissector["link_id"], dissector["can_drop"]) == (told[1]["prog_id"], None, "unknown")
    other = make_ns()
    assert here(other, "sk_lookup") == [] and here(other, "flow_dissector") == []
    typed(ns, lookup["detach"][0])
    typed(ns, dissector["detach"][0])
    assert here(ns, "sk_lookup") == [] and here(ns, "flow_dissector") == []


def test_route_with_a_program(wire: Namespace) -> None:
    """The route is made by ip itself, from a pinned program: the file system is private to one process."""
    code = """
import json, os, subprocess, sys
sys.path.insert(0, sys.argv[1])
import bpf_tools
from ansible_collections.netops.fleet.plugins.module_utils._evidence import hooks
libc = bpf_tools._libc
assert libc.unshare(0x00020000) == 0
subprocess.run(["mount", "--make-rprivate", "/"], check=True)
subprocess.run(["mount", "-t", "bpf", "bpf", "/mnt"], check=True)
os.mkdir("/mnt/lwt")
prog = bpf_tools.load(12, bpf_tools.constant(2), "lwtdrop")
bpf_tools.pin(prog, "/mnt/lwt/x")
number = bpf_tools.identity(prog)["prog_id"]
subprocess.run(["ip", "addr", "add", "10.9.0.1/24", "dev", "v0"], check=True)
subprocess.run("ip route add 10.99.0.0/16 encap bpf xmit pinned /mnt/lwt/x via 10.9.0.2 dev v0".split(), check=True)
before = [e for e in hooks.read(cgroups=False).data if e["hook"] == "lwt"]
subprocess.run(["sh", "-c", before[0]["detach"][0]], check=True)
after = [e for e in hooks.read(cgroups=False).data if e["hook"] == "lwt"]
print(json.dumps([number, before, after]))
"""
    number, before, after = wire.python_json(code, os.path.dirname(TOOL))
    (entry,) = before
    assert (entry["id"], entry["direction"], entry["can_drop"], entry["interface"]["name"]) == (number, "xmit", "yes", "v0")
    assert after == []


def test_pins_keep_a_program_without_a_process(wire: Namespace) -> None:
    """A bpffs in a private mount namespace; the process that attached is gone, only the pin holds the link."""
    code = """
import json, os, subprocess, sys
sys.path.insert(0, sys.argv[1])
import bpf_tools
from ansible_collections.netops.fleet.plugins.module_utils._evidence import hooks
outside = os.open("/proc/self/ns/mnt", os.O_RDONLY)
assert bpf_tools._libc.unshare(0x00020000) == 0
inside = os.open("/proc/self/ns/mnt", os.O_RDONLY)
subprocess.run(["mount", "--make-rprivate", "/"], check=True)
subprocess.run(["mount", "-t", "bpf", "bpf", "/mnt"], check=True)
os.mkdir("/mnt/a b")
told = bpf_tools.hold([dict(how="tcx", type="sched_cls", code=sys.argv[2], name="held", dev="v0", direction="ingress",
                            pin="/mnt/prog", pin_link="/mnt/a b/link", close=True)])
def read():
    return [e for e in hooks.read(cgroups=False).data if e["hook"] == "tcx"]
first = read()
assert bpf_tools._libc.setns(outside, 0x00020000) == 0
apart = hooks.read(cgroups=False)
assert bpf_tools._libc.setns(inside, 0x00020000) == 0
subprocess.run(["sh", "-c", first[0]["detach"][-1]], check=True)
print(json.dumps([told, first, read(), os.listdir("/mnt"), [gap.why for gap in apart.gaps if gap.what == "hooks.owners"]]))
"""
    told, first, after, left, apart = wire.python_json(code, os.path.dirname(TOOL), DROP)
    (entry,) = first
    assert entry["link_id"] == told[0]["link_id"] and entry["owners"] == []
    assert entry["pin"] == ["/mnt/a b/link", "/mnt/prog"]
    assert entry["detach"] == [f"bpftool link detach id {entry['link_id']}", "rm '/mnt/a b/link'"]
    assert after == [] and {"a b", "prog"} <= set(left)
    # From where that file system is not mounted nothing is seen to hold the link, and that is said.
    assert any("held by what cannot be seen from here" in why for why in apart)


def test_without_root_gaps_and_what_rtnetlink_tells(net: NetworkOnly) -> None:
    net.run(["ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1"])
    net.run(["tc", "qdisc", "add", "dev", "v0", "clsact"])
    hold(
        net,
        tc("seen", DROP, "ingress", 1),
        tcx("unseen", DROP, "ingress"),
        {"how": "xdp", "type": "xdp", "code": bpf_tools.constant(1).hex(), "name": "x", "dev": "v0", "mode": "generic"},
    )
    code = (
        "import json, os, sys\n"
        "from ansible_collections.netops.fleet.plugins.module_utils._evidence import hooks\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "s = hooks.read()\n"
        "print(json.dumps([s.data, [g.to_dict() for g in s.gaps]]))\n"
    )
    data, gaps = net.python_json(code)
    by_hook = {entry["hook"]: entry for entry in data}
    assert set(by_hook) == {"tc", "xdp"}
    assert (by_hook["tc"]["name"], by_hook["tc"]["prog_type"], by_hook["tc"]["can_drop"]) == ("seen", "sched_cls", "unknown")
    assert by_hook["xdp"]["mode"] == "generic" and by_hook["xdp"]["can_drop"] == "unknown"
    named = {gap["what"]: gap["why"] for gap in gaps}
    assert {"hooks.programs", "hooks.links", "hooks.tcx", "hooks.cgroup", "hooks.netfilter", "hooks.owners"} <= set(named)
    assert all(
        "root" in named[what] for what in ("hooks.programs", "hooks.tcx", "hooks.cgroup", "hooks.netfilter", "hooks.owners")
    )


def test_only_the_wanted_interfaces(wire: Namespace) -> None:
    hold(wire, tcx("a", NEXT, "ingress"), tcx("b", NEXT, "ingress", dev="v1"))
    found = census(wire, interfaces=["v1", "nope"], cgroups=False)
    assert [entry["name"] for entry in found["hooks"] if entry["hook"] == "tcx"] == ["b"]
    assert [gap["what"] for gap in found["gaps"] if "nope" in gap["why"]] == ["hooks.interfaces"]


@pytest.mark.alone  # a test beside this one may have the kernel load a module
def test_reading_changes_nothing(wire: Namespace) -> None:
    wire.run(["tc", "qdisc", "add", "dev", "v0", "clsact"])
    hold(wire, tc("a", NEXT, "ingress", 1), tcx("b", NEXT, "egress"))

    def state() -> list[str]:
        commands = ("tc -d qdisc show", "tc filter show dev v0 ingress", "ip -d link show", "ls /sys/module", "nft list ruleset")
        told = [wire.run(command.split()).stdout for command in commands]
        settings = wire.run(
            ["grep", "-rs", "", "/proc/sys/net/ipv4/conf", "/proc/sys/net/ipv6/conf", "/proc/sys/net/core"], check=False
        )
        return [
            *told,
            *sorted(line for line in settings.stdout.splitlines() if "random" not in line and "stable_secret" not in line),
        ]

    before = state()
    assert all(before[:4]) and len(before) > 50
    assert {entry["name"] for entry in census(wire)["hooks"]} >= {"a", "b"}
    assert state() == before


def test_module_reads_a_named_namespace(wire: Namespace) -> None:
    wire.run(["tc", "qdisc", "add", "dev", "v0", "clsact"])
    hold(wire, tc("inside", DROP, "ingress", 1))
    root = Path(__file__).resolve().parents[2]
    module = root / "plugins/modules/tc_hook_facts.py"
    done = subprocess.run(
        [sys.executable, str(module)],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": {"netns": wire.name, "interfaces": ["v0"], "cgroups": False}}),
        capture_output=True, text=True, check=False, env=Namespace.environment(), cwd=root,
    )  # fmt: skip
    answer = json.loads(done.stdout)
    (entry,) = [entry for entry in answer["hooks"] if entry["hook"] == "tc"]
    assert entry["name"] == "inside" and answer["changed"] is False
    assert answer["ansible_facts"]["tc_hook_facts"]["coverage"] == answer["coverage"]
    assert shlex.split(entry["detach"][0])[:4] == ["ip", "netns", "exec", wire.name]
    # As printed, outside of the namespace.
    subprocess.run(["sh", "-c", entry["detach"][0]], check=True)
    assert here(wire, "tc") == []


OWNERS = """
import json, sys
from ansible_collections.netops.fleet.plugins.module_utils._evidence import fdcensus
found = fdcensus.census(json.loads(sys.argv[1]), bpf=True, seconds=float(sys.argv[2]))
print(json.dumps({
    "sockets": {inode: owner.pid for inode, owner in found.sockets.items()},
    "programs": {number: [owner.pid for owner in owners] for number, owners in found.programs.items()},
    "links": {number: [owner.pid for owner in owners] for number, owners in found.links.items()},
    "gaps": [gap.why for gap in found.gaps], "processes": found.processes,
}))
"""


def test_one_walk_finds_owners_of_sockets_and_programs(wire: Namespace) -> None:
    process, told = hold(wire, tcx("held", NEXT, "ingress"))
    server = wire.start_python(
        "import os, signal, socket\ns = socket.create_server(('127.0.0.1', 1678))\nprint('ready')\nsignal.pause()"
    )
    inode = next(
        int(os.readlink(f"/proc/{server.pid}/fd/{name}")[8:-1])
        for name in os.listdir(f"/proc/{server.pid}/fd")
        if os.readlink(f"/proc/{server.pid}/fd/{name}").startswith("socket:")
    )
    found = wire.python_json(OWNERS, json.dumps([inode]), "30")
    assert found["sockets"] == {str(inode): server.pid}
    assert found["programs"][str(told[0]["prog_id"])] == [process.pid]
    assert found["links"][str(told[0]["link_id"])] == [process.pid]
    assert wire.python_json(OWNERS, "[]", "30")["sockets"] == {}
    assert str(inode) in wire.python_json(OWNERS, "null", "30")["sockets"]
    cut = wire.python_json(OWNERS, "null", "0")
    assert cut["processes"] == 0 and any(why.startswith("stopped after 0 s") for why in cut["gaps"])


def test_instructions_are_analysed_as_the_kernel_shows_them(wire: Namespace) -> None:
    """Branches, a mask, a tail call: loaded for real, so that the verifier's rewriting is part of it."""
    insn = bpf_tools.insn
    prandom, leave = insn(0x85, imm=7), insn(0x95)
    branch = prandom + insn(0x15, off=2, imm=5) + insn(0xB7, imm=0) + leave + insn(0xB7, imm=2) + leave
    mask = prandom + insn(0x57, imm=1) + leave  # 0 or 1: neither drops at tcx
    wide = prandom + insn(0x57, imm=3) + leave  # may be 2
    dead = insn(0xB7, dst=1, imm=1) + insn(0x15, dst=1, off=1, imm=1) + insn(0x05, off=2) + insn(0xB7, imm=0) + leave
    dead += insn(0xB7, imm=2) + leave  # the drop cannot be reached: the verifier takes it out
    _process, told = hold(
        wire,
        *(
            tcx(name, code.hex(), "ingress")
            for name, code in (("branch", branch), ("mask", mask), ("wide", wide), ("dead", dead))
        ),
    )
    assert len(told) == 4
    found = {entry["name"]: entry for entry in here(wire, "tcx")}
    assert {name: entry["can_drop"] for name, entry in found.items()} == {
        "branch": "yes", "mask": "no", "wide": "unknown", "dead": "no",
    }  # fmt: skip
    assert found["branch"]["drop_evidence"] == ["returns 2 (drop) set at instruction 4"]
