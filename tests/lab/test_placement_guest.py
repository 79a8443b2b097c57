# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services and huge pages on a machine with two NUMA nodes: systemd, the kernel and numastat(8) are the witnesses."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.machine import Machine

pytestmark = [pytest.mark.lab, pytest.mark.machine, pytest.mark.drill]

_CALL = """
from ansible_collections.netops.fleet.plugins.module_utils._safety.change import ChangeError
from ansible_collections.netops.fleet.plugins.module_utils._tuning import {module} as module
params, check = args
given = {{name: spec.get("default") for name, spec in module.ARGUMENTS.items()}}
try:
    result = module.run(module.Options.from_params({{**given, **params}}), check)
except ChangeError as error:
    result = {{"failed": str(error)}}
"""
_FINDINGS = """
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import facts, locality
from ansible_collections.netops.fleet.plugins.module_utils._evidence import locality as reader
section = reader.read()
result = [[one.to_dict() for one in locality.find(facts.Facts({"sections": {"locality": section.data}}))], section.data]
"""
#: Holds 48 MiB of memory that it has written to. Where it is told to be picky it starts with all processors only.
_EATER = """[Service]
ExecStartPre=/bin/sh -c "test ! -e /run/picky || test $$(nproc) = 4"
ExecStart=/usr/bin/python3 -c "import time; data = bytearray(b'x') * (48 << 20); time.sleep(1 << 20)"
"""
_FOLDER = "/etc/systemd/system/eater.service.d"
_DROP_IN = f"{_FOLDER}/zz-netops-fleet-placement.conf"


class Restartable(Machine):
    """One that comes back when it reboots; its disk keeps what was written."""

    def _command(self) -> list[str]:
        return [word for word in super()._command() if word != "-no-reboot"]

    def reboot(self) -> None:
        boot = ["cat", "/proc/sys/kernel/random/boot_id"]
        before = self.run(boot).out
        with contextlib.suppress(OSError, ValueError):  # it may end before it has answered
            self.run(["systemctl", "--no-block", "reboot"])
        deadline = time.monotonic() + 600
        while True:
            with contextlib.suppress(OSError, ValueError):
                if self._ask({"op": "exec", "argv": boot}, 10)["out"] != before:
                    return
            assert self._process.poll() is None and time.monotonic() < deadline, f"it does not come back\n{self._said()}"
            time.sleep(0.5)


@pytest.fixture(scope="module")
def machine() -> Iterator[Restartable]:
    made = Restartable(cpus=4, memory_mib=1536, nodes=2)
    with made:
        made.run(["sh", "-ec", "cat > /etc/systemd/system/eater.service"], stdin=_EATER)
        yield made


@pytest.fixture
def host(machine: Restartable) -> Iterator[Restartable]:
    """With the service running, not placed, and no huge pages."""
    machine.sh("systemctl daemon-reload; systemctl start eater")
    yield machine
    machine.sh(f"rm -rf /run/picky {_FOLDER} /run/systemd/system.control; systemctl daemon-reload", check=False)
    for module in ("placement", "pages"):
        call(machine, module, state="absent", force=True)
    machine.sh("systemctl daemon-reload; systemctl reset-failed; systemctl stop eater")


def call(machine: Machine, module: str, check: bool = False, **params: Any) -> dict[str, Any]:
    found: dict[str, Any] = machine.call(_CALL.format(module=module), params, check, timeout=300)
    return found


def place(machine: Machine, check: bool = False, near: str = "node:1", **params: Any) -> dict[str, Any]:
    wanted = {"name": "eater", "near": near, "cpus": None, "policy": "bind", "smt": True, "memlock": "64M"}
    return call(machine, "placement", check, services=[wanted], **params)


def pid(machine: Machine) -> str:
    return machine.sh("systemctl show -p MainPID --value eater").strip()


def allowed(machine: Machine) -> str:
    return machine.sh(f"grep Cpus_allowed_list /proc/{pid(machine)}/status").split()[1]


def megabytes(machine: Machine) -> list[float]:
    """Memory of the service by node, as numastat(8) counts it."""
    line = machine.sh(f"numastat -p {pid(machine)}").strip().splitlines()[-1]
    assert line.startswith("Total")
    return [float(word) for word in line.split()[1:3]]


def reserved(machine: Machine) -> list[int]:
    """Huge pages by node, as numastat(8) shows them, in MB."""
    line = re.search(r"^HugePages_Total\s+(.+)$", machine.sh("numastat -m"), re.MULTILINE)
    assert line is not None
    return [round(float(word)) for word in line[1].split()[:2]]


def findings(machine: Machine) -> list[str]:
    found, _section = machine.call(_FINDINGS)
    return [f"{one['id']} {one['grade']} {one['subject']}" for one in found]


def test_a_service_bound_to_node_1(host: Machine) -> None:
    assert allowed(host) == "0-3"
    checked = place(host, check=True, restart=True)
    assert checked["changed"] and host.run(["test", "-e", _FOLDER], check=False).rc
    first = place(host)
    assert first["changed"] and len(first["restart"]) == 1, first
    assert "processors 0-3, wanted 2-3; memory policy default, wanted bind:1" in first["restart"][0]
    # systemd has it, the process not yet: the diagnosis says so.
    shown = host.sh("systemctl show -p CPUAffinity,NUMAPolicy,NUMAMask,LimitMEMLOCK eater").split()
    assert sorted(shown) == ["CPUAffinity=2-3", f"LimitMEMLOCK={64 << 20}", "NUMAMask=1", "NUMAPolicy=bind"]
    assert allowed(host) == "0-3" and findings(host) == ["service-off-node proven eater.service"]
    before = pid(host)
    second = place(host, restart=True)
    assert second["changed"] and second["restart"] == [], second
    assert pid(host) != before and allowed(host) == "2-3"
    there, away = megabytes(host)[1], megabytes(host)[0]
    assert there > 48 > 16 > away, (away, there)
    assert "bind:1" in host.sh(f"cat /proc/{pid(host)}/numa_maps")
    assert f"{64 << 20}" in host.sh(f"grep 'locked memory' /proc/{pid(host)}/limits")
    assert findings(host) == []
    third = place(host, restart=True)
    assert not third["changed"] and third["changes"] == []
    # Bound by hand to the other node, and its memory stays behind: far from its memory.
    host.sh(f"taskset -apc 0-1 {pid(host)} >/dev/null")
    assert findings(host) == ["service-off-node proven eater.service"]
    back = call(host, "placement", state="absent")
    assert back["changed"] and allowed(host) == "0-3" and host.run(["test", "-e", _FOLDER], check=False).rc
    assert "default" in host.sh(f"head -1 /proc/{pid(host)}/numa_maps")


def test_a_service_that_does_not_come_up_returns(host: Machine) -> None:
    host.sh("touch /run/picky")
    failed = place(host, restart=True)["failed"]
    assert failed.startswith("It did not take and is taken back: service eater.service:"), failed
    assert "Not taken back" not in failed and host.run(["test", "-e", _DROP_IN], check=False).rc
    assert allowed(host) == "0-3"
    # Stopped by its admin it stays stopped on the way back.
    host.sh("rm /run/picky")
    assert place(host, restart=True)["changed"]
    host.sh("systemctl stop eater")
    assert call(host, "placement", state="absent")["changed"]
    assert host.sh("systemctl show -p ActiveState --value eater").strip() == "inactive"


def test_other_drop_ins_give_way_or_win(host: Machine) -> None:
    other = "[Service]\\nCPUAffinity=0\\nNUMAPolicy=interleave\\nNUMAMask=0\\n"
    host.sh(f"mkdir -p {_FOLDER}; printf '{other}' > {_FOLDER}/override.conf")
    host.sh("systemctl daemon-reload")
    found = place(host, restart=True)
    assert [(one["key"], one["line"]) for one in found["plan"][0]["replaces"]] == [
        ("CPUAffinity", 2),
        ("NUMAPolicy", 3),
        ("NUMAMask", 4),
    ]
    assert allowed(host) == "2-3" and "bind:1" in host.sh(f"head -1 /proc/{pid(host)}/numa_maps")
    host.sh(f"printf '[Service]\\nCPUAffinity=0\\n' > {_FOLDER}/zzz.conf; systemctl daemon-reload")
    assert f"{_FOLDER}/zzz.conf line 2" in place(host)["failed"]
    # The witness: systemd would have both.
    assert host.sh("systemctl show -p CPUAffinity --value eater").strip() == "0 2-3"


def test_what_the_control_group_forbids_is_refused(host: Machine) -> None:
    """And rightly so: written all the same, the service does not start."""
    host.sh("systemctl set-property --runtime eater AllowedCPUs=0-1")
    failed = place(host)["failed"]
    assert "allows the processors 0-1 only" in failed
    host.sh(f"mkdir -p {_FOLDER}; printf '[Service]\\nCPUAffinity=2-3\\n' > {_FOLDER}/x.conf; systemctl daemon-reload")
    host.run(["systemctl", "restart", "eater"], check=False)
    assert host.run(["systemctl", "is-active", "--wait", "eater"], check=False).out.strip() != "active"


def test_huge_pages_per_node(host: Machine) -> None:
    pages = [{"count": 64, "size": "2M", "near": "node:1"}]
    checked = call(host, "pages", check=True, pages=pages)
    assert checked["changed"] and reserved(host) == [0, 0]
    first = call(host, "pages", pages=pages, thp={"enabled": "never"})
    assert first["changed"] and first["shortages"] == [], first
    assert reserved(host) == [0, 128]
    assert "[never]" in host.sh("cat /sys/kernel/mm/transparent_hugepage/enabled")
    again = call(host, "pages", pages=pages, thp={"enabled": "never"})
    assert not again["changed"] and again["changes"] == []
    # What the next boot does: the unit alone, early.
    assert host.sh("systemctl is-enabled netops-fleet-pages").strip() == "enabled"
    assert "netops-fleet-pages.service" in host.sh("systemctl show -p Wants sysinit.target")
    host.sh("echo 0 > /sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages")
    host.sh("echo always > /sys/kernel/mm/transparent_hugepage/enabled")
    wrong = ["huge-pages-short proven huge pages of 2048 kB on node 1", "thp-against-profile proven transparent huge pages"]
    assert sorted(findings(host)) == wrong
    host.sh("systemctl restart netops-fleet-pages")
    assert reserved(host) == [0, 128] and findings(host) == []
    assert "64 of 64 pages" in host.sh("journalctl -u netops-fleet-pages -o cat")
    back = call(host, "pages", state="absent")
    assert back["changed"] and reserved(host) == [0, 0]
    assert host.run(["systemctl", "cat", "netops-fleet-pages"], check=False).rc


def test_a_node_that_cannot_give_all_its_pages(host: Machine) -> None:
    """Nine tenths of a node, part of which the kernel and programs already have."""
    total = int(host.sh("awk '/MemTotal/ {print $4}' /sys/devices/system/node/node1/meminfo"))
    # Another program keeps a part of the node.
    hold = "import time; data = bytearray(b'x') * (160 << 20); print('held', flush=True); time.sleep(1 << 20)"
    holder = host.start(["numactl", "--membind=1", "python3", "-c", hold], log="/tmp/held")
    try:
        host.run(["timeout", "60", "sh", "-c", "until grep -q held /tmp/held; do sleep 0.1; done"])
        count = int(total * 0.89) // 2048
        first = call(host, "pages", pages=[{"count": count, "size": "2M", "near": "node:1"}])
        got = reserved(host)[1] // 2
        assert first["changed"] and 0 < got < count
        assert first["shortages"] and first["shortages"][0].startswith(f"node 1: got {got} of {count} pages of 2M"), first[
            "shortages"
        ]
        second = call(host, "pages", pages=[{"count": count, "size": "2M", "near": "node:1"}])
        assert not second["changed"] and second["shortages"] == first["shortages"]
        assert call(host, "pages", state="absent")["changed"] and reserved(host) == [0, 0]
    finally:
        host.end(holder)


def test_after_a_reboot_pages_are_there_before_other_services_and_the_place_is_kept(host: Restartable) -> None:
    assert call(host, "pages", pages=[{"count": 64, "size": "2M", "near": "node:1"}], thp={"enabled": "never"})["changed"]
    assert place(host)["changed"]
    host.reboot()
    assert reserved(host) == [0, 128] and "[never]" in host.sh("cat /sys/kernel/mm/transparent_hugepage/enabled")
    shown = host.sh(
        "systemctl show -p ActiveEnterTimestampMonotonic --value netops-fleet-pages sysinit.target basic.target"
    ).split()
    assert 0 < int(shown[0]) <= int(shown[1]) <= int(shown[2])
    host.sh("systemctl start eater")
    assert allowed(host) == "2-3" and megabytes(host)[1] > 48
    assert not call(host, "pages", pages=[{"count": 64, "size": "2M", "near": "node:1"}], thp={"enabled": "never"})["changed"]
    assert not place(host)["changed"] and findings(host) == []
