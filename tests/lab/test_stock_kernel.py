# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading changes nothing, on a distribution's own kernel, where nearly every question could load a module.

The kernel boots in a virtual machine by emulation. The usual tools run last, as the control: they do load modules there, so a
collector that asked as carelessly would be caught.
"""

from __future__ import annotations

import glob
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.lab, pytest.mark.machine]

_GUEST = r"""
import json, subprocess, sys

def modules():
    return sorted(line.split()[0] for line in open("/proc/modules"))

def state():
    commands = (["sysctl", "-a"], ["ip", "-d", "address"], ["ip", "route", "show", "table", "all"], ["tc", "qdisc"], ["mount"])
    said = {" ".join(one): subprocess.run(one, capture_output=True, text=True).stdout for one in commands}
    # Counters, clocks and random numbers move by themselves.
    moving = ("random", "fs.dentry", "fs.inode", "fs.file-nr", "kernel.ns_last_pid", "nf_conntrack_count", "kernel.pty.nr")
    lines = [line for line in said["sysctl -a"].splitlines() if not any(word in line.split(" =")[0] for word in moving)]
    said["sysctl -a"] = "\n".join(lines)
    return said

subprocess.run(["ip", "link", "set", "lo", "up"])
before, facts_before = modules(), state()
sys.path.insert(0, sys.argv[1])
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import collect
params = {name: spec.get("default") for name, spec in collect.ARGUMENTS.items()}
params.update(target="tcp/1678", window=0.5, names=["localhost"])
evidence = collect.collect(collect.Options.from_params(params))
after, facts_after = modules(), state()
for tool in (["nft", "list", "ruleset"], ["iptables-legacy-save"], ["iptables-legacy", "-L"], ["ss", "-tuln"], ["ipset", "list"]):
    subprocess.run(tool, capture_output=True)
print("RESULT " + json.dumps({
    "loaded": sorted(set(after) - set(before)),
    "changed": {key: [facts_before[key], facts_after[key]] for key in facts_before if facts_before[key] != facts_after[key]},
    "control": sorted(set(modules()) - set(after)),
    "coverage": {entry["section"]: entry["status"] for entry in evidence["coverage"]},
    "why": [gap for entry in evidence["coverage"] for gap in entry["gaps"]],
    "backends": evidence["sections"]["firewall"]["backends"],
    "findings": {one["id"]: [one["subject"], one["summary"], one["evidence"]] for one in evidence["findings"]},
}))
"""


def _kernel() -> str:
    found = sorted(path for path in glob.glob("/boot/vmlinuz-*") if os.path.isdir(f"/lib/modules/{path.split('vmlinuz-', 1)[1]}"))
    assert found, "no distribution kernel under /boot: make test installs one (linux-image-amd64, linux-image-arm64)"
    return found[-1]


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the script above printed in the guest."""
    script = tmp_path_factory.mktemp("guest") / "script.py"
    script.write_text(_GUEST, encoding="utf-8")
    command = f"/usr/bin/python3 {script} {ROOT / '.collections'}"
    vng = Path(sys.executable).parent / "vng"
    argv = [str(vng), "--run", _kernel(), "--disable-kvm", "--cpus", "2", "--memory", "1G", "--exec", command]
    environ = {**os.environ, "PATH": f"{vng.parent}:{os.environ['PATH']}"}
    done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=400, env=environ, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert lines, f"the guest gave no result\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    result: dict[str, Any] = json.loads(lines[-1][len("RESULT ") :])
    return result


def test_no_module_is_loaded(guest: dict[str, Any]) -> None:
    assert guest["loaded"] == []


def test_the_control_loads_some(guest: dict[str, Any]) -> None:
    """The same questions, asked by the usual tools, load modules on this kernel: the test above can fail."""
    assert {"nf_tables", "ip_tables"} <= set(guest["control"])


def test_nothing_else_changed(guest: dict[str, Any]) -> None:
    assert guest["changed"] == {}


def test_absent_is_told_from_unread(guest: dict[str, Any]) -> None:
    assert {one["name"]: one["status"] for one in guest["backends"]}["nft"] == "absent"
    assert "failed" not in guest["coverage"].values(), guest["why"]
    # The guest has no network: its resolvers are as dead as they look, and no route leads to them.
    rest = {key: told for key, told in guest["findings"].items() if key not in ("port-not-listening", "resolver-dead")}
    assert " resolver " in rest.pop("route-missing", ["", " resolver "])[1]
    assert rest == {}
