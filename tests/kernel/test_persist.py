# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets at the next boot. The witness is that boot, done by hand in a fresh namespace: what the unit starts, then the rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.kernel.conftest import Namespace

pytestmark = pytest.mark.kernel

#: /etc and /run are the test's own. systemd is there as far as files go; which units are enabled stands in UNITS.
_PRELUDE = """
import json, os, shutil, subprocess, sys, tempfile
from pathlib import Path
kept = tempfile.mkdtemp()
shutil.copytree("/etc/alternatives", kept + "/alternatives", symlinks=True)
for folder in ("/etc", "/run", "/var/lib"):
    subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=True)
shutil.move(kept + "/alternatives", "/etc/alternatives")
os.rmdir(kept)
for folder in ("/run/systemd/system", "/etc/systemd/system", "/etc/iptables"):
    os.makedirs(folder)
from ansible_collections.netops.fleet.plugins.module_utils._firewall import persist, set_ipset, set_nft, set_plan, sets
from ansible_collections.netops.fleet.plugins.module_utils._safety import change, cli, objects
UNITS = {}
def put_unit(name, state):
    UNITS[name] = state
unit = objects.known("unit")._replace(capture=lambda name: UNITS.get(name), put=put_unit)
objects.KINDS["unit"] = lambda: {"unit": unit}
objects.known.cache_clear()
objects.reload_units = lambda targets: False

def run(**given):
    params = {name: spec.get("default") for name, spec in sets.ARGUMENTS.items()} | given
    backend = set_nft.NftSet.of(params["table"]) if params["backend"] == "nft" else set_ipset.Ipset()
    try:
        return sets.run(sets.Options.from_params(params), backend, False)
    except (set_plan.SetsError, change.ChangeError) as error:
        return {"error": str(error)}

def out(*words, text=None):
    return subprocess.run(words, capture_output=True, text=True, input=text)

def starts():
    '''What the unit starts, in its order.'''
    text = Path("/etc/systemd/system/netops-fleet-sets.service").read_text()
    return [line.split("=", 1)[1].replace("%%", "%").split() for line in text.splitlines() if line.startswith("ExecStart=")]

def boot(*commands, show):
    '''Exit statuses of these commands in a fresh namespace, and what the last one prints.'''
    script = "; ".join(" ".join(words) + " >&2; echo $?" for words in commands)
    done = out("unshare", "--net", "sh", "-c", script + "; " + show)
    lines = done.stdout.splitlines()
    return lines[: len(commands)], lines[len(commands) :], done.stderr
"""


@pytest.fixture
def host(ns: Namespace) -> Callable[[str], Any]:
    return lambda code: ns.python_json(_PRELUDE + code)


def test_sets_are_loaded_before_the_rules_that_name_them(host: Callable[[str], Any]) -> None:
    found = host("""
UNITS["netfilter-persistent.service"] = {"enabled": True, "active": True}
one = run(name="admins", entries=['192.0.2.0/24 comment "rack 7"', "192.0.2.66 nomatch"])
two = run(name="ports/x", type="bitmap:port", entries=["80", "8000-8001"], timeout=600)
three = run(name="admins6", family="inet6", entries=["2001:db8::/32"])
out("iptables", "-A", "INPUT", "-p", "tcp", "-m", "set", "--match-set", "admins", "src", "-j", "ACCEPT")
Path("/etc/iptables/rules.v4").write_text(out("iptables-save").stdout)
rules = ["iptables-restore", "/etc/iptables/rules.v4"]
again = run(name="admins", entries=['192.0.2.0/24 comment "rack 7"', "192.0.2.66 nomatch"])
print(json.dumps({
    "errors": [one.get("error"), two.get("error"), three.get("error")], "again": again,
    "right": boot(*starts(), rules, show="ipset save; iptables -S"), "wrong": boot(rules, *starts(), show="iptables -S"),
    "unit": Path("/etc/systemd/system/netops-fleet-sets.service").read_text(), "units": UNITS,
    "twice": boot(*starts(), *starts(), show="ipset save admins | sort"),
    "live": out("ipset", "save", "admins").stdout.splitlines(),
}))
""")
    assert found["errors"] == [None, None, None] and not found["again"]["changed"], found
    codes, shown, errors = found["right"]
    assert set(codes) == {"0"}, errors
    assert "-A INPUT -p tcp -m set --match-set admins src -j ACCEPT" in shown
    assert {"add admins 192.0.2.66 nomatch", "add admins6 2001:db8::/32"} <= set(shown)
    assert any(line.startswith("add ports/x 8001 timeout") for line in shown), shown
    assert found["wrong"][0][0] != "0", "rules that come first do not load: order is what matters"
    before = next(line for line in found["unit"].splitlines() if line.startswith("Before="))
    for service in ("netfilter-persistent", "iptables", "ip6tables", "nftables", "ufw", "firewalld"):
        assert f"{service}.service" in before
    assert found["units"]["netops-fleet-sets.service"] == {"enabled": True, "active": False}
    codes, shown, errors = found["twice"]
    assert set(codes) == {"0"}, errors
    assert [line.split(" bucketsize")[0] for line in shown] == sorted(line.split(" bucketsize")[0] for line in found["live"])


@pytest.mark.parametrize("path", ["/etc/nftables.conf", "/etc/sysconfig/nftables.conf"])
def test_nft_set_and_rules_are_one_transaction_at_boot(host: Callable[[str], Any], path: str) -> None:
    found = host(
        f"""
PATH = {path!r}
"""
        + """
os.makedirs(os.path.dirname(PATH), exist_ok=True)
conf = '''#!/usr/sbin/nft -f
flush ruleset

table inet filter {
  set admins { type ipv4_addr; flags interval; }
  chain in {
    type filter hook input priority 0
    ip saddr @admins accept
  }
}
'''
Path(PATH).write_text(conf)
UNITS["nftables.service"] = {"enabled": True, "active": True}
out("nft", "-f", PATH)
done = run(name="admins", backend="nft", table="inet filter", entries=["10.0.0.0/8", "10.1.0.0/16 nomatch"], adopt=True)
again = run(name="admins", backend="nft", table="inet filter", entries=["10.0.0.0/8", "10.1.0.0/16 nomatch"], adopt=True)
first = Path(PATH).read_text()
shown = boot(["nft", "-f", PATH], show="nft list ruleset")
live = out("nft", "list", "ruleset").stdout.splitlines()
gone = out("python3", "/var/lib/netops.fleet/journal.pyz", "show")
print(json.dumps({"done": done, "again": again, "conf": first, "boot": shown, "live": live, "before": conf}))
"""
    )
    assert "error" not in found["done"] and not found["again"]["changed"], found
    lines = found["conf"].splitlines()
    assert lines[lines.index("flush ruleset") + 1] == 'include "/etc/netops.fleet/sets/*.nft"'
    codes, shown, errors = found["boot"]
    assert codes == ["0"], errors
    assert shown == found["live"]
    assert found["conf"].replace('include "/etc/netops.fleet/sets/*.nft"\n', "") == found["before"]


def test_without_nftables_service_the_unit_loads_nft_sets(host: Callable[[str], Any]) -> None:
    found = host("""
done = run(name="a", backend="nft", table="inet filter", entries=["10.0.0.0/8"])
print(json.dumps({"done": done, "boot": boot(*starts(), show="nft list set inet filter a")}))
""")
    assert "error" not in found["done"] and found["boot"][0] == ["0"] and "10.0.0.0/8" in " ".join(found["boot"][1])


def test_a_file_that_would_add_to_the_set_at_boot_is_found_out(host: Callable[[str], Any]) -> None:
    found = host("""
conf = "flush ruleset\\ntable inet filter { set a { type ipv4_addr; flags interval; elements = { 192.0.2.1 }; }; }\\n"
Path("/etc/nftables.conf").write_text(conf)
UNITS["nftables.service"] = {"enabled": True, "active": True}
out("nft", "-f", "/etc/nftables.conf")
before = out("nft", "list", "ruleset").stdout
done = run(name="a", backend="nft", table="inet filter", entries=["10.0.0.0/8"], adopt=True)
print(json.dumps({
    "done": done,
    "conf": Path("/etc/nftables.conf").read_text() == conf,
    "same": out("nft", "list", "ruleset").stdout == before,
    "left": os.path.exists("/etc/netops.fleet")}))
""")
    assert "would not bring the set as it is now" in found["done"]["error"] and "taken back" in found["done"]["error"]
    assert found["conf"] and found["same"] and not found["left"]


def test_stale_copy_of_the_distribution_is_taken_out_and_comes_back(host: Callable[[str], Any]) -> None:
    found = host("""
saved = "create other hash:ip\\nadd other 192.0.2.9\\ncreate a hash:net\\nadd a 203.0.113.0/24\\n"
Path("/etc/iptables/ipsets").write_text(saved)
UNITS["netfilter-persistent.service"] = {"enabled": True, "active": True}
done = run(name="a", entries=["10.0.0.0/8"])
now = Path("/etc/iptables/ipsets").read_text()
status = cli.main(["rollback"])
after = Path("/etc/iptables/ipsets").read_text() == saved
print(json.dumps({
    "done": done, "now": now, "status": status, "after": after, "sets": out("ipset", "list", "-n").stdout, "units": UNITS,
    "left": os.path.exists("/etc/netops.fleet"),
}))
""")
    assert found["now"] == "create other hash:ip\nadd other 192.0.2.9\n" and "made a at boot as well" in " ".join(
        found["done"]["notes"]
    )
    assert found["status"] == 0 and found["after"] and found["sets"] == ""
    assert found["units"]["netops-fleet-sets.service"] is None and not found["left"]


def test_another_file_that_is_broken_anyway_is_told_and_no_obstacle(host: Callable[[str], Any]) -> None:
    found = host("""
UNITS["netfilter-persistent.service"] = {"enabled": True, "active": True}
Path("/etc/iptables/rules.v4").write_text("*filter\\n-A NOWHERE -j ACCEPT\\nCOMMIT\\n")
print(json.dumps(run(name="admins", entries=["10.0.0.0/8"])))
""")
    assert found["changed"] and "iptables-restore /etc/iptables/rules.v4 would fail" in " ".join(found["notes"])


def test_removed_set_leaves_nothing_at_boot(host: Callable[[str], Any]) -> None:
    found = host("""
run(name="a", entries=["10.0.0.0/8"])
run(name="b", entries=["10.0.0.0/8"])
run(name="a", state="absent")
one = [starts(), UNITS["netops-fleet-sets.service"]]
run(name="b", state="absent")
there = os.path.exists("/etc/systemd/system/netops-fleet-sets.service")
print(json.dumps([one, there, UNITS["netops-fleet-sets.service"], run(name="b", state="absent")["changed"]]))
""")
    (starts, unit), there, gone, changed = found
    assert len(starts) == 1 and "/b.ipset" in starts[0][-1] and unit["enabled"]
    assert not there and gone is None and not changed


def test_folded_rules_may_be_saved_and_load_at_boot(host: Callable[[str], Any]) -> None:
    found = host("""
from ansible_collections.netops.fleet.plugins.module_utils._firewall import apply
text = "*filter\\n-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT\\n"
text += "".join(f"-A INPUT -s 198.51.100.{number}/32 -j DROP\\n" for number in range(1, 41))
text += "".join(f"-A INPUT -s 192.0.2.{number}/32 -p tcp -m tcp --dport 22 -j ACCEPT\\n" for number in range(1, 41))
out("iptables-restore", text=text + "COMMIT\\n")
params = {name: spec.get("default") for name, spec in apply.ARGUMENTS.items()}
params.update(chains=[], check_connection=False, deadman=0)
plan = apply.run(params, False)
done = apply.run({**params, "state": "applied", "path": plan["path"]}, False, persist=persist.folded)
Path("/etc/iptables/rules.v4").write_text(out("iptables-save").stdout)
print(json.dumps({"done": done["changed"], "live": out("iptables", "-S").stdout.splitlines(), "count": len(starts()),
    "boot": boot(*starts(), ["iptables-restore", "/etc/iptables/rules.v4"], show="iptables -S")}))
""")
    codes, shown, errors = found["boot"]
    assert found["done"] and found["count"] == 2 and set(codes) == {"0"}, errors
    assert shown == found["live"] and len(shown) < 10
