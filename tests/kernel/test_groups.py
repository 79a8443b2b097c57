# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Named groups: what is declared, packets meet. The witnesses are connections from addresses in the groups and outside."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.netops.fleet.plugins.module_utils._firewall import groups, groups_apply
from ansible_collections.netops.fleet.plugins.module_utils._firewall.set_plan import SetsError
from ansible_collections.netops.fleet.plugins.module_utils._safety import nft_state
from tests.kernel.conftest import Namespace

_RUN = """
import json, sys
from ansible_collections.netops.fleet.plugins.module_utils._firewall import groups_apply, set_plan
from ansible_collections.netops.fleet.plugins.module_utils._safety import change
folder, given, check = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3] == "check"
params = {name: spec.get("default") for name, spec in groups_apply.ARGUMENTS.items()} | {"persist": False} | given
params["groups"] = [{"addresses": [], "ports": [], "action": "allow", **one} for one in params["groups"]]
try:
    print(json.dumps(groups_apply.run(params, check, folder)))
except (set_plan.SetsError, change.ChangeError) as error:
    print(json.dumps({"error": str(error)}))
"""

GROUPS = [
    {
        "name": "admins",
        "addresses": ["192.0.2.0/28", '2001:db8::/112 comment "office, 3rd floor"'],
        "ports": ["tcp/22", "tcp/9100"],
    },
    {"name": "monitors", "addresses": ["192.0.2.20-192.0.2.21"], "ports": ["tcp/9100-9101"]},
    {"name": "everywhere", "addresses": ["192.0.2.30"]},
    {"name": "blocked", "addresses": ["192.0.2.5", "192.0.2.40"], "action": "block"},
    {"name": "quiet", "addresses": ["192.0.2.41"], "ports": ["tcp/80"], "action": "block"},
]
_SERVE = """
import socket, threading
def serve(port):
    listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    waiting.release()
    while True:
        listener.accept()[0].close()
waiting = threading.Semaphore(0)
for port in (22, 80, 9100, 9101):
    threading.Thread(target=serve, args=(port,), daemon=True).start()
    waiting.acquire()
print("ready")
threading.Event().wait()
"""
#: (source, port) pairs → which of them connect
_TRY = """
import json, socket, sys
found = []
for source, target, port in json.loads(sys.argv[1]):
    sock = socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET)
    sock.settimeout(0.4)
    sock.bind((source, 0))
    try:
        sock.connect((target, port))
        found.append(True)
    except OSError:
        found.append(False)
    sock.close()
print(json.dumps(found))
"""


@pytest.fixture
def client(ns: Namespace, make_ns: Callable[[], Namespace]) -> Iterator[Namespace]:
    """A neighbour that owns all of 192.0.2.0/24 but 192.0.2.200, where the services are."""
    other = make_ns()
    ns.run(["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1", "netns", other.name])
    ns.run(["ip", "address", "add", "192.0.2.200/24", "dev", "eth0"])
    ns.run(["ip", "address", "add", "2001:db8::200/64", "dev", "eth0", "nodad"])
    ns.run(["ip", "link", "set", "eth0", "up"])
    for last in (1, 5, 20, 30, 40, 41, 99):
        other.run(["ip", "address", "add", f"192.0.2.{last}/24", "dev", "eth1"])
    for last in ("1", "1:1"):
        other.run(["ip", "address", "add", f"2001:db8::{last}/64", "dev", "eth1", "nodad"])
    other.run(["ip", "link", "set", "eth1", "up"])
    ns.start_python(_SERVE)
    yield other


@pytest.fixture
def run(ns: Namespace, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def call(check: bool = False, **given: Any) -> dict[str, Any]:
        answer: dict[str, Any] = ns.python_json(_RUN, str(tmp_path / "journal"), json.dumps(given), "check" if check else "run")
        return answer

    return call


@pytest.mark.kernel
def test_each_address_reaches_what_its_groups_say(ns: Namespace, client: Namespace, run: Callable[..., dict[str, Any]]) -> None:
    ns.run(["iptables", "-N", "DOCKER"])
    ns.run(["iptables", "-A", "FORWARD", "-j", "DOCKER"])
    ns.run(["iptables", "-A", "INPUT", "-p", "tcp", "--dport", "9101", "-s", "192.0.2.30", "-j", "DROP"])
    foreign = ns.run(["iptables-save"]).stdout
    wished = run(check=True, groups=GROUPS)
    assert wished["changed"] and "netops_groups" not in ns.run(["nft", "list", "tables"]).stdout
    done = run(groups=GROUPS)
    assert done.get("changed"), done
    assert wished["diff"] == done["diff"] and not run(groups=GROUPS)["changed"]
    v4, v6 = "192.0.2.200", "2001:db8::200"
    expected = {
        ("192.0.2.1", v4, 22): True,
        ("192.0.2.99", v4, 22): False,
        ("192.0.2.20", v4, 22): False,
        ("192.0.2.20", v4, 9100): True,
        ("192.0.2.20", v4, 9101): True,
        ("192.0.2.1", v4, 9100): True,
        ("192.0.2.1", v4, 9101): False,
        ("192.0.2.30", v4, 22): True,
        ("192.0.2.30", v4, 9101): False,  # another rule of the host refuses it, and goes on doing so
        ("192.0.2.99", v4, 80): True,  # nobody names it
        ("192.0.2.5", v4, 22): False,  # in admins too: blocked comes first
        ("192.0.2.40", v4, 80): False,
        ("192.0.2.41", v4, 80): False,
        ("2001:db8::1", v6, 22): True,
        ("2001:db8::1:1", v6, 22): False,
        ("2001:db8::1:1", v6, 80): True,
    }
    found = json.loads(client.python(_TRY, json.dumps(list(expected))).stdout)
    assert dict(zip(expected, found)) == expected
    assert ns.run(["iptables-save"]).stdout.splitlines()[1:-1] == foreign.splitlines()[1:-1]
    assert run(state="absent")["changed"] and "netops_groups" not in ns.run(["nft", "list", "tables"]).stdout


@pytest.mark.kernel
def test_names_that_are_words_of_nft_with_4_or_6_behind_are_all_refused(ns: Namespace) -> None:
    """Any other word of nft is a name like another."""
    words = "ip icmpv icmp ipv inet tcp udp th l ll rt srh ct ether set map counter drop accept all nat a x hour day last quota"
    for name in [*words.split(), "a-", "a_", "socket", "meta", "dst", "hbh", "frag", "sack", "comment", "elements", "type"]:
        given = {"name": name, "addresses": ["192.0.2.1", "2001:db8::1"], "ports": ["tcp/22"], "action": "allow"}
        try:
            text = groups.text(groups.parse([given]))
        except SetsError:
            assert name in ("ip", "icmpv")
            continue
        assert ns.run(["nft", "-c", "-f", "-"], input=text, check=False).returncode == 0, name


@pytest.mark.kernel
def test_who_would_be_locked_out() -> None:
    parsed = groups.parse([{"addresses": [], "ports": [], "action": "allow", **one} for one in GROUPS])
    assert groups.refused(parsed, "192.0.2.1", 22) == "" and groups.refused(parsed, "192.0.2.30", 22) == ""
    assert "blocked blocks" in groups.refused(parsed, "192.0.2.5", 22)
    assert "tcp/22 is for admins, everywhere" in groups.refused(parsed, "192.0.2.99", 22)
    assert groups.refused(parsed, "192.0.2.99", 80) == "" and "quiet blocks" in groups.refused(parsed, "192.0.2.41", 80)
    assert groups.refused(parsed, "2001:db8::1", 22) == "" and groups.refused(parsed, "2001:db8::1:1", 22) != ""


@pytest.mark.kernel
def test_plan_that_locks_its_own_connection_out_is_refused(ns: Namespace, tmp_path: Path) -> None:
    given = json.dumps({"groups": GROUPS})
    words = [
        "env",
        "SSH_CONNECTION=192.0.2.99 5000 192.0.2.200 22",
        "python3",
        "-c",
        _RUN,
        str(tmp_path / "journal"),
        given,
        "run",
    ]
    answer = json.loads(ns.run(words, env=ns.environment()).stdout)
    assert "could not be opened again: tcp/22 is for admins, everywhere" in answer["error"]
    assert ns.run(["nft", "list", "tables"]).stdout == "" and not (tmp_path / "journal").exists()


@pytest.mark.kernel
def test_nobody_confirms_and_the_host_is_as_before(ns: Namespace, run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    run(groups=GROUPS)
    before = ns.run(["nft", "list", "ruleset"]).stdout
    done = run(groups=GROUPS[:1], deadman=10)
    assert done["confirm_within"] == 10 and ns.run(["nft", "list", "ruleset"]).stdout != before
    marker = tmp_path / "journal" / "deadman.json"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "uptime": 0}))  # its time has come
    ns.run(["python3", str(tmp_path / "journal" / "journal.pyz"), "--folder", str(tmp_path / "journal"), "expire"])
    assert ns.run(["nft", "list", "ruleset"]).stdout == before


_OPEN = """
import json, sys
from ansible_collections.netops.fleet.plugins.module_utils._firewall import opening
params = {name: spec.get("default") for name, spec in opening.ARGUMENTS.items()} | json.loads(sys.argv[2])
print(json.dumps(opening.run(params, False, sys.argv[1])))
"""
_OUTSIDE = "192.0.2.99"


def opens(ns: Namespace, folder: Path, port: str, **given: Any) -> None:
    assert ns.python_json(_OPEN, str(folder / "journal"), json.dumps({"port": port, **given}))["changed"]


def reaches(client: Namespace, *ports: int) -> list[bool]:
    """From an address in no group."""
    given = json.dumps([(_OUTSIDE, "192.0.2.200", port) for port in ports])
    found: list[bool] = json.loads(client.python(_TRY, given).stdout)
    return found


def chain(ns: Namespace) -> list[str]:
    """Its rules in their order."""
    listed = ns.run(["nft", "-s", "list", "chain", "inet", "netops_groups", "input"]).stdout
    return [line.strip() for line in listed.splitlines()[3:-2]]


@pytest.mark.kernel
def test_what_is_open_for_a_while_stays_open_when_groups_change(
    ns: Namespace, client: Namespace, run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    run(groups=GROUPS)
    assert reaches(client, 22, 9101) == [False, False]
    opens(ns, tmp_path, "tcp/9101", source=_OUTSIDE)
    opens(ns, tmp_path, "tcp/22")
    ended = 'tcp dport 9100 meta time < 1000 accept comment "netops.fleet opening tcp/9100 from any until 1000"'
    ns.run(["nft", "insert rule inet netops_groups input " + ended])
    before = chain(ns)
    wished = run(check=True, groups=GROUPS[:1])
    assert chain(ns) == before
    done = run(groups=GROUPS[:1])
    assert done["changed"] and done["notes"] == wished["notes"]
    assert [note.split(",")[0] for note in done["notes"]] == [
        "the opening tcp/22 from any",
        f"the opening tcp/9101 from {_OUTSIDE}/32",
    ]
    assert chain(ns)[:2] == before[1:3], "with their ends, first, in their order; what has ended is gone"
    assert "opening" not in "".join(chain(ns)[2:]) and reaches(client, 22, 9100) == [True, False]
    assert not run(groups=GROUPS[:1])["changed"]
    opens(ns, tmp_path, "tcp/22", state="closed")
    assert run(groups=GROUPS)["changed"] and reaches(client, 22, 9101) == [False, True]
    done = run(state="absent")
    assert done["changed"] and "loses its rule in this table, which goes" in done["notes"][0]


@pytest.mark.kernel
def test_the_way_back_opens_and_closes_no_port(
    ns: Namespace, client: Namespace, run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    run(groups=GROUPS)
    opens(ns, tmp_path, "tcp/22")
    done = run(groups=GROUPS[:2], deadman=600)
    opens(ns, tmp_path, "tcp/22", state="closed")
    opens(ns, tmp_path, "tcp/9101")
    assert reaches(client, 22, 9101) == [False, True]
    marker = tmp_path / "journal" / "deadman.json"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "uptime": 0}))  # its time has come
    ns.run(["python3", str(tmp_path / "journal" / "journal.pyz"), "--folder", str(tmp_path / "journal"), "expire"])
    assert done["change"] and "everywhere" in ns.run(["nft", "list", "ruleset"]).stdout
    assert reaches(client, 22, 9101) == [False, True]


@pytest.mark.kernel
@pytest.mark.parametrize("tool", ["nft", "iptables"])
def test_groups_that_are_new_close_nothing_before_its_time(
    ns: Namespace, client: Namespace, run: Callable[..., dict[str, Any]], tmp_path: Path, tool: str
) -> None:
    if tool == "nft":
        chain_of = "chain input { type filter hook input priority 0; policy drop; ct state established accept; }"
        ns.run(["nft", "-f", "-"], input=f"table inet filter {{ {chain_of}; }}")
    else:
        ns.run(["iptables", "-A", "INPUT", "-p", "tcp", "--dport", "9101", "-j", "DROP"])
    opens(ns, tmp_path, "tcp/9101")
    assert reaches(client, 9101) == [True]
    done = run(groups=GROUPS)
    assert done["changed"] and "the opening tcp/9101 from any" in done["notes"][0]
    assert reaches(client, 22, 9101) == [False, True]
    opens(ns, tmp_path, "tcp/9101", state="closed")
    assert reaches(client, 9101) == [False] and "opening" not in ns.run(["nft", "list", "ruleset"]).stdout


@pytest.mark.kernel
def test_a_table_that_went_without_confirmation_is_there_again(
    ns: Namespace, run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    run(groups=GROUPS)
    before = ns.run(["nft", "list", "ruleset"]).stdout
    done = run(state="absent", deadman=10)
    marker = tmp_path / "journal" / "deadman.json"
    assert done["confirm_within"] == 10 and ns.run(["nft", "list", "ruleset"]).stdout == ""
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "uptime": 0}))  # its time has come
    ns.run(["python3", str(tmp_path / "journal" / "journal.pyz"), "--folder", str(tmp_path / "journal"), "expire"])
    assert ns.run(["nft", "list", "ruleset"]).stdout == before
    run(state="absent")
    assert ns.run(["nft", "list", "ruleset"]).stdout == ""


@pytest.mark.kernel
def test_table_of_somebody_else_is_refused(ns: Namespace, run: Callable[..., dict[str, Any]]) -> None:
    ns.run(["nft", "add", "table", "inet", "netops_groups"])
    assert "was not made by this collection" in run(groups=GROUPS)["error"]


def test_an_address_with_the_comment_of_an_opening_is_no_opening() -> None:
    comment = "netops.fleet opening tcp/22 from any until 99999999999"
    given = {"name": "a", "addresses": [f'192.0.2.1 comment "{comment}"'], "ports": ["tcp/22"], "action": "allow"}
    text = groups.text(groups.parse([given]))
    assert nft_state.opened(text) == [] and nft_state.steady(text) == text and "192.0.2.1" in text


def test_the_end_of_an_opening_is_not_read_from_local_time() -> None:
    rule = 'tcp dport 22 meta time < "2099-10-25 02:30:00" counter packets 3 bytes 180 accept comment "netops.fleet opening '
    text = f'table inet t {{\n\tchain input {{\n\t\t{rule}tcp/22 from any until 4096579800"\n\t}}\n}}\n'
    (found,) = nft_state.opened(text)
    assert (found.chain, found.port, found.until) == ("input", "tcp/22 from any", 4096579800)
    assert "meta time < 4096579800 counter packets 3 bytes 180 accept" in found.rule


@pytest.mark.parametrize(
    ("group", "says"),
    [
        ({"name": "1st", "ports": ["tcp/22"]}, "starts with a letter"),
        ({"name": "a; flush", "ports": ["tcp/22"]}, "starts with a letter"),
        ({"name": "ip", "ports": ["tcp/22"]}, "group ip: nft has a word ip6 of its own"),
        ({"name": "icmpv", "ports": ["tcp/22"]}, "group icmpv: nft has a word icmpv6 of its own"),
        ({"name": "a", "ports": ["22"]}, "a port is like tcp/22"),
        ({"name": "a", "ports": ["tcp/70000"]}, "a port is like"),
        ({"name": "a", "ports": ["tcp/0"]}, "a port is like"),
        ({"name": "a", "addresses": ["192.0.2.300"], "ports": ["tcp/22"]}, "addresses of group a, 1: '192.0.2.300'"),
        ({"name": "a", "addresses": ["192.0.2.0/24"]}, "there is nothing to do"),
        ({"name": "a", "addresses": ["192.0.2.1 timeout 5"], "ports": ["tcp/22"]}, "for the module ipset"),
    ],
)
def test_wrong_group_is_named_with_what_is_allowed(group: dict[str, Any], says: str) -> None:
    with pytest.raises(SetsError) as caught:
        groups.parse([{"addresses": [], "ports": [], "action": "allow", **group}])
    assert says in str(caught.value)


@pytest.mark.kernel
def test_a_host_without_nft_is_told_what_to_do(ns: Namespace, tmp_path: Path) -> None:
    """Nothing of the host's iptables is changed."""
    nft = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin")
    assert nft is not None
    before = ns.run(["iptables-legacy-save"]).stdout
    script = 'mount --bind /dev/null "$0" && exec "$@"'
    given = json.dumps({"groups": GROUPS})
    words = ["unshare", "-m", "sh", "-ec", script, nft, "python3", "-c", _RUN, str(tmp_path / "journal"), given, "run"]
    answer = json.loads(ns.run(words, env=ns.environment()).stdout)
    assert "install the package nftables" in answer["error"] and "backend: ipset" in answer["error"]
    assert not (tmp_path / "journal").exists() and ns.run(["iptables-legacy-save"]).stdout == before


def test_a_kernel_without_nf_tables_is_told_from_a_wrong_table(monkeypatch: pytest.MonkeyPatch) -> None:
    for said, hint in (("Error: Operation not supported", True), ("Error: syntax error", False)):

        def fails(*_arguments: Any, said: str = said) -> Any:
            raise OSError(1, said)

        monkeypatch.setattr(groups_apply.netns, "apart", fails)
        with pytest.raises(SetsError) as caught:
            groups_apply._tried("table inet netops_groups {}")
        assert ("no nf_tables" in str(caught.value)) is hint
