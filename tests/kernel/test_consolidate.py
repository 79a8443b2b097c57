# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""firewall_consolidate on a real kernel: plan, apply, second run, refusals, the way back. The tools' listings are the witness."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kernel import consolidate
from tests.kernel.conftest import Namespace

pytestmark = pytest.mark.kernel

BACKENDS = [("native", "ip"), ("native", "ip6"), ("nft", "ip"), ("nft", "ip6"), ("legacy", "ip"), ("legacy", "ip6")]
COUNT = 60


def foreign(text: str) -> list[str]:
    return [line for line in text.splitlines() if any(word in line for word in ("DOCKER", "f2b", "172.17", "fd17", "theirs"))]


@pytest.mark.parametrize(("backend", "family"), BACKENDS)
def test_from_plan_to_rollback(ns: Namespace, tmp_path: Path, backend: str, family: str) -> None:
    folder = tmp_path / "state"
    consolidate.load(ns, consolidate.blocked(COUNT, backend, family), backend, family)
    original = consolidate.save(ns, backend, family)

    looked = consolidate.run(ns, folder, check=True)
    assert looked["changed"] and not folder.exists()
    planned = consolidate.run(ns, folder)
    assert planned["summary"]["rules_after"] < 10 and planned["summary"]["certificate"] == "equal"
    assert planned["summary"]["elements"] == COUNT and planned["summary"]["sets"] == 1
    assert oct(os.stat(planned["path"]).st_mode & 0o777) == "0o600"
    assert consolidate.run(ns, folder)["changed"] is False, "the same plan is not written again"
    assert consolidate.save(ns, backend, family) == original, "planning changes nothing"
    with open(planned["path"]) as file:
        (chain,) = json.load(file)["chains"]
    case = next(one for one in chain["before"] if one["comment"] == "case 7")
    assert case["place"][0] == "set" and case["place"][3] == consolidate.address(7, family)

    path = planned["path"]
    assert consolidate.run(ns, folder, check=True, state="applied", path=path)["changed"] is True
    assert consolidate.save(ns, backend, family) == original, "check mode changes nothing"
    done = consolidate.run(ns, folder, state="applied", path=path)
    assert done["changed"] and done["change"] and "error" not in done
    now = consolidate.save(ns, backend, family)
    assert consolidate.address(7, family) not in now or backend == "native"
    assert len(now) < len(original) or backend == "native"
    assert foreign(now) == foreign(original), "chains of others are untouched, byte for byte"
    again = consolidate.run(ns, folder, state="applied", path=path)
    assert again["changed"] is False and again["change"] is None
    fresh = consolidate.run(ns, folder)
    assert fresh["summary"]["rules_before"] == 0, "nothing is left to fold"

    back = consolidate.journal(ns, folder, "rolled_back", done["change"])
    assert back["changed"] and back["warnings"] == []
    assert consolidate.save(ns, backend, family) == original
    if backend != "native":
        assert ns.run(["ipset", "list", "-n"]).stdout == "", "sets of the plan are gone"


@pytest.mark.parametrize("backend", ["native", "nft", "legacy"])
def test_rules_that_moved_are_refused(ns: Namespace, tmp_path: Path, backend: str) -> None:
    consolidate.load(ns, consolidate.blocked(COUNT, backend), backend)
    path = consolidate.run(ns, tmp_path / "state")["path"]
    if backend == "native":
        ns.run(["nft", "insert", "rule", "inet", "fence", "input", "tcp", "dport", "9", "accept"])
    else:
        ns.run([f"iptables-{backend}", "-I", "INPUT", "-p", "tcp", "--dport", "9", "-j", "ACCEPT"])
    before = consolidate.save(ns, backend)
    done = consolidate.run(ns, tmp_path / "state", state="applied", path=path)
    assert "not those of the plan" in done["error"]
    assert consolidate.save(ns, backend) == before


def test_a_plan_that_was_touched_is_refused(ns: Namespace, tmp_path: Path) -> None:
    consolidate.load(ns, consolidate.blocked(COUNT, "native"), "native")
    path = consolidate.run(ns, tmp_path / "state")["path"]
    with open(path) as file:
        plan = json.load(file)
    plan["sets"][0]["elements"].pop()
    with open(path, "w") as file:
        json.dump(plan, file)
    assert "changed after it was made" in consolidate.run(ns, tmp_path / "state", state="applied", path=path)["error"]


def test_a_forged_plan_has_no_certificate(ns: Namespace, tmp_path: Path) -> None:
    """Whoever can make the digest right cannot make the certificate right: it is made again."""
    consolidate.load(ns, consolidate.blocked(COUNT, "native"), "native")
    path = consolidate.run(ns, tmp_path / "state")["path"]
    code = """
import json, sys
from ansible_collections.netops.fleet.plugins.module_utils._firewall import consolidate
plan = consolidate.read(sys.argv[1])
plan["sets"][0]["elements"].pop()
plan["certificate"]["digest"] = consolidate.digest(plan)
consolidate.write(sys.argv[1], plan)
"""
    ns.python(code, path)
    before = consolidate.save(ns, "native")
    assert "no certificate" in consolidate.run(ns, tmp_path / "state", state="applied", path=path)["error"]
    assert consolidate.save(ns, "native") == before


def test_the_connection_must_be_accepted_as_established(ns: Namespace, tmp_path: Path) -> None:
    for words in ("link add va type veth peer name vb", "address add 192.0.2.1/24 dev va", "link set va up"):
        ns.run(["ip", *words.split()])
    text = consolidate.blocked(COUNT, "native").replace("ct state established,related accept\n", "")
    consolidate.load(ns, text.replace("jump theirs", "jump theirs\ndrop"), "native")
    path = consolidate.run(ns, tmp_path / "state")["path"]
    here = {"source": "192.0.2.9", "source_port": 40000, "destination": "192.0.2.1", "port": 2222}
    done = consolidate.run(ns, tmp_path / "state", state="applied", path=path, connection=here)
    assert "192.0.2.9 is not accepted now as established (drop: nft inet fence input handle" in done["error"]
    assert consolidate.run(ns, tmp_path / "state", state="applied", path=path, connection={**here, "port": 22})["changed"]


def test_several_tables_and_back_ends_at_once(ns: Namespace, tmp_path: Path) -> None:
    consolidate.load(ns, consolidate.blocked(COUNT, "native"), "native")
    for backend, family in (("nft", "ip"), ("nft", "ip6"), ("legacy", "ip"), ("legacy", "ip6")):
        consolidate.load(ns, consolidate.blocked(20, backend, family), backend, family)
    before = [consolidate.save(ns, backend, family) for backend, family in BACKENDS]
    planned = consolidate.run(ns, tmp_path / "state")
    assert planned["summary"]["chains"] == 5 and planned["summary"]["sets"] == 5
    done = consolidate.run(ns, tmp_path / "state", state="applied", path=planned["path"])
    assert done["changed"]
    consolidate.journal(ns, tmp_path / "state", "rolled_back", done["change"])
    assert [consolidate.save(ns, backend, family) for backend, family in BACKENDS] == before


def test_only_the_chains_that_were_asked_for(ns: Namespace, tmp_path: Path) -> None:
    consolidate.load(ns, consolidate.blocked(COUNT, "native"), "native")
    consolidate.load(ns, consolidate.blocked(20, "legacy"), "legacy")
    planned = consolidate.run(ns, tmp_path / "state", chains=["filter/INPUT"])
    assert planned["summary"]["chains"] == 1 and planned["summary"]["elements"] == 20
    assert consolidate.run(ns, tmp_path / "state", chains=["nothing/*"])["summary"]["chains"] == 0


def test_a_table_with_an_owner_is_left_alone(ns: Namespace, tmp_path: Path) -> None:
    drops = "\n".join(f"ip saddr 10.0.0.{n} drop" for n in range(1, 20))
    text = f"table ip sleeping {{\nflags dormant;\nchain input {{\ntype filter hook input priority 0;\n{drops}\n}}\n}}\n"
    consolidate.load(ns, text, "native")
    planned = consolidate.run(ns, tmp_path / "state")
    assert planned["summary"]["chains"] == 0 and "sleeps" in planned["notes"][0]


def test_the_next_boot_of_nftables(make_ns: Callable[[], Namespace], tmp_path: Path) -> None:
    host, boot = make_ns(), make_ns()
    consolidate.load(host, consolidate.blocked(COUNT, "native"), "native")
    conf = tmp_path / "root" / "etc" / "nftables.conf"
    conf.parent.mkdir(parents=True)
    conf.write_text("#!/usr/sbin/nft -f\nflush ruleset\n" + host.run(["nft", "list", "ruleset"]).stdout)
    original = conf.read_text()
    path = consolidate.run(host, tmp_path / "state")["path"]
    done = consolidate.run(host, tmp_path / "state", state="applied", path=path)
    assert [note for note in done["notes"] if "at boot" in note] == []
    boot.run(["nft", "-f", str(conf)])
    assert set(consolidate.save(boot, "native").split()) == set(consolidate.save(host, "native").split())
    assert "nf_drop_src" in conf.read_text()
    consolidate.journal(host, tmp_path / "state", "rolled_back", done["change"])
    assert conf.read_text() == original, "the file goes back with the rules"


def test_the_next_boot_of_iptables(make_ns: Callable[[], Namespace], tmp_path: Path) -> None:
    host, boot = make_ns(), make_ns()
    etc, plugins = tmp_path / "root" / "etc" / "iptables", tmp_path / "root" / "usr/share/netfilter-persistent/plugins.d"
    etc.mkdir(parents=True)
    for family, name in (("ip", "rules.v4"), ("ip6", "rules.v6")):
        consolidate.load(host, consolidate.blocked(COUNT, "nft", family), "nft", family)
        (etc / name).write_text(host.run([f"{'ip6' if family == 'ip6' else 'ip'}tables-save", "-c"]).stdout)
    original = {name: (etc / name).read_text() for name in ("rules.v4", "rules.v6")}
    (etc / "ipsets").write_text("create mine hash:ip family inet\nadd mine 192.0.2.1\n")

    path = consolidate.run(host, tmp_path / "state")["path"]
    done = consolidate.run(host, tmp_path / "state", state="applied", path=path)
    assert sum("nothing loads ipsets before it" in note for note in done["notes"]) == 2
    assert {name: (etc / name).read_text() for name in original} == original, "without its set a rule would fail at boot"
    consolidate.journal(host, tmp_path / "state", "rolled_back", done["change"])

    plugins.mkdir(parents=True)
    (plugins / "10-ipset").write_text("")
    done = consolidate.run(host, tmp_path / "state", state="applied", path=path)
    assert [note for note in done["notes"] if "at boot" in note] == []
    boot.run(["ipset", "restore", "-exist", "-file", str(etc / "ipsets")])
    for name, tool in (("rules.v4", "iptables"), ("rules.v6", "ip6tables")):
        boot.run([f"{tool}-restore", str(etc / name)])
        family = "ip6" if tool == "ip6tables" else "ip"
        assert consolidate.save(boot, "nft", family) == consolidate.save(host, "nft", family)
    listed = [
        sorted(line for line in ns.run(["ipset", "save"]).stdout.splitlines() if line.startswith("add")) for ns in (boot, host)
    ]
    assert [line for line in listed[0] if "mine" not in line] == listed[1]
    consolidate.journal(host, tmp_path / "state", "rolled_back", done["change"])
    assert {name: (etc / name).read_text() for name in original} == original
    assert (etc / "ipsets").read_text() == "create mine hash:ip family inet\nadd mine 192.0.2.1\n"


def test_a_rule_too_long_to_be_shown_whole_stays(ns: Namespace, tmp_path: Path) -> None:
    some = ", ".join(f"192.0.{n >> 8}.{n & 255}" for n in range(0, 1000, 2))
    text = consolidate.blocked(COUNT, "native").replace("iif lo accept", f"iif lo accept\nip daddr {{ {some} }} counter accept")
    consolidate.load(ns, text, "native")
    original = consolidate.save(ns, "native")
    path = consolidate.run(ns, tmp_path / "state")["path"]
    done = consolidate.run(ns, tmp_path / "state", state="applied", path=path)
    assert done["changed"] and "192.0.3.230" in consolidate.save(ns, "native")
    assert consolidate.run(ns, tmp_path / "state", state="applied", path=path)["changed"] is False
    consolidate.journal(ns, tmp_path / "state", "rolled_back", done["change"])
    assert consolidate.save(ns, "native") == original


@pytest.mark.parametrize("backend", ["native", "nft", "legacy"])
def test_one_plan_for_two_hosts_with_the_same_rules(make_ns: Callable[[], Namespace], tmp_path: Path, backend: str) -> None:
    """They differ in counters, handles and what docker wrote; the third in one rule."""
    rules = consolidate.blocked(COUNT, backend)
    one, two, odd = make_ns(), make_ns(), make_ns()
    consolidate.load(one, rules, backend)
    consolidate.load(two, rules.replace("172.17.0.2 ", "172.18.0.9 ") if backend != "native" else rules, backend)
    consolidate.load(odd, rules.replace(consolidate.address(7), "198.51.100.7"), backend)
    if backend == "native":
        one.run(["nft", "add", "rule", "ip", "docker", "DOCKER", "accept"])
        one.run(
            ["nft", "insert", "rule", "inet", "fence", "input", "iif", "lo", "counter", "packets", "9", "bytes", "9", "accept"]
        )
        two.run(["nft", "insert", "rule", "inet", "fence", "input", "iif", "lo", "counter", "accept"])
        odd.run(["nft", "insert", "rule", "inet", "fence", "input", "iif", "lo", "counter", "accept"])
    folders = {ns.name: tmp_path / ns.name / "state" for ns in (one, two, odd)}

    def read(ns: Namespace, **params: object) -> dict[str, object]:
        found: dict[str, object] = consolidate.run(ns, folders[ns.name], state="read", **params)
        return found

    first = read(one, rules=True)
    assert not folders[one.name].exists(), "reading writes nothing"
    assert first["fingerprint"] == read(two)["fingerprint"] != read(odd)["fingerprint"]
    assert "listing" not in read(two) and any(consolidate.address(7) in str(chain) for chain in first["listing"].values())  # type: ignore[attr-defined]
    assert (first["applied"], first["planned"], first["changed"]) == ("nothing", None, False)
    planned = consolidate.run(one, folders[one.name])
    assert planned["fingerprint"] == first["fingerprint"] == read(one)["planned"]

    before = consolidate.save(two, backend)
    done = consolidate.run(two, folders[two.name], state="applied", path=planned["path"])
    assert done.get("changed"), done
    now = read(two)
    assert now["applied"] == "stands" and now["fingerprint"] != first["fingerprint"] and now["left"] == []
    assert len(consolidate.save(two, backend)) < len(before) or backend == "native"
    refused = consolidate.run(odd, folders[odd.name], state="applied", path=planned["path"])
    assert "the rules of this host are not those of the plan" in refused["error"]

    consolidate.load(two, consolidate.blocked(3, backend), backend)
    if backend == "native":
        two.run(["nft", "flush", "chain", "inet", "fence", "input"])
    else:
        two.run([f"iptables-{backend}", "-F", "INPUT"])
    assert read(two)["applied"] == "changed"


def test_a_carried_plan_writes_over_no_set(make_ns: Callable[[], Namespace], tmp_path: Path) -> None:
    one, two = make_ns(), make_ns()
    for ns in (one, two):
        consolidate.load(ns, consolidate.blocked(COUNT, "legacy"), "legacy")
    path = consolidate.run(one, tmp_path / "one")["path"]
    plan = json.loads(Path(path).read_text())
    plan["options"]["prefix"] = "x_"
    Path(path).write_text(json.dumps(plan))
    refused = consolidate.run(two, tmp_path / "two", state="applied", path=path)
    assert "does not begin with x_" in refused["error"], refused
    name = plan["sets"][0]["name"]
    plan["options"]["prefix"] = "nf_"
    Path(path).write_text(json.dumps(plan))
    two.run(["ipset", "create", name, "hash:ip"])
    refused = consolidate.run(two, tmp_path / "two", state="applied", path=path)
    assert "the rules of this host are not those of the plan" in refused["error"]
    assert two.run(["ipset", "list", "-n"]).stdout.split() == [name] and "-N" not in two.run(["ipset", "save"]).stdout


def test_a_set_of_nftables_has_the_plain_hash_table_and_room(ns: Namespace, tmp_path: Path) -> None:
    consolidate.load(ns, consolidate.blocked(300, "native"), "native")
    plan = consolidate.run(ns, tmp_path / "state")
    assert consolidate.run(ns, tmp_path / "state", state="applied", path=plan["path"])["changed"]
    (made,) = [one["set"] for one in ns.json(["nft", "-j", "list", "sets"])["nftables"] if "set" in one]
    assert made["size"] == 2048 and len(ns.json(["nft", "-j", "list", "set", "inet", "fence", made["name"]])["nftables"]) == 2
    more = ", ".join(consolidate.address(number) for number in range(300, 1200))
    ns.run(["nft", "-f", "-"], input=f"add element inet fence {made['name']} {{ {more} }}\n")


def test_the_folder_of_a_given_path_stays_as_it_is(ns: Namespace, tmp_path: Path) -> None:
    consolidate.load(ns, consolidate.blocked(COUNT, "native"), "native")
    shared, kept = tmp_path / "shared", tmp_path / "kept"
    shared.mkdir()
    shared.chmod(0o1777)
    kept.write_text("a file of somebody else")
    kept.chmod(0o644)
    for planted in ("plan.json", ".plan.json.new"):
        (shared / planted).symlink_to(kept)
    path = shared / "plan.json"
    assert consolidate.run(ns, tmp_path / "state", path=str(path))["changed"]
    assert oct(shared.stat().st_mode) == "0o41777"
    assert kept.read_text() == "a file of somebody else" and not path.is_symlink()
    assert oct(path.stat().st_mode) == "0o100600" and [one.name for one in shared.iterdir()] == ["plan.json"]
    assert not consolidate.run(ns, tmp_path / "state", path=str(path))["changed"]
    path.chmod(0o644)
    assert consolidate.run(ns, tmp_path / "state", path=str(path))["changed"] and oct(path.stat().st_mode) == "0o100600"
    assert consolidate.run(ns, tmp_path / "state", state="applied", path=str(path))["changed"]


def test_a_path_that_cannot_be_written_is_named(ns: Namespace, tmp_path: Path) -> None:
    (tmp_path / "theirs").symlink_to(tmp_path)
    os.chown(tmp_path / "theirs", 65534, 65534, follow_symlinks=False)
    os.mkfifo(tmp_path / "pipe")
    for path, says in (
        (tmp_path / "none" / "plan.json", f"there is no folder {tmp_path}/none; make it first"),
        (Path("plan.json"), "must be the full path of a file"),
        (tmp_path, "must be the full path of a file"),
        (tmp_path / "theirs" / "plan.json", "is a link that user 65534 made"),
    ):
        for check in (True, False):
            assert says in consolidate.run(ns, tmp_path / "state", check=check, path=str(path))["error"]
    before = sorted(tmp_path.iterdir())
    assert (
        "is no file" in consolidate.run(ns, tmp_path / "state", check=True, state="applied", path=str(tmp_path / "pipe"))["error"]
    )
    assert sorted(tmp_path.iterdir()) == before and not (tmp_path / "none").exists()


def test_the_own_folder_of_plans_is_private(ns: Namespace, tmp_path: Path) -> None:
    plans = tmp_path / "state" / "plans"
    plans.mkdir(parents=True)
    plans.chmod(0o755)
    assert consolidate.run(ns, tmp_path / "state", path=str(plans / "mine.json"))["changed"]
    assert oct(plans.stat().st_mode) == "0o40700"
