# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks as people run them: three ways, several versions of ansible-core, hosts that misbehave."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit import evidence_samples as samples

ROOT = Path(__file__).resolve().parents[2]
#: The commands of another ansible-core are tried with ANSIBLE_BIN=/its/venv/bin.
BIN = Path(os.environ.get("ANSIBLE_BIN") or Path(sys.executable).parent)


def play(
    *arguments: str, cwd: Path = ROOT, tool: str = "ansible-playbook", home: Path, **more: str
) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_LOCAL_TEMP": str(home / "tmp"),
        "COLUMNS": "120",
        **more,
    }
    return subprocess.run(
        [str(BIN / tool), *arguments],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def latest(output: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((output / "latest" / "report.json").read_text(encoding="utf-8"))
    return report


def by_name(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in report["hosts"]}


class Canned:
    """An inventory whose hosts answer from files."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.answers, self.output = folder, folder / "answers", folder / "out"
        self.answers.mkdir()
        self.hosts: dict[str, dict[str, Any]] = {}

    def host(self, name: str, out: Any = "", mode: str = "reply", **variables: Any) -> None:
        text = out if isinstance(out, str) else json.dumps(out)
        (self.answers / name.encode().hex()).write_text(json.dumps({"mode": mode, "out": text}), encoding="utf-8")
        self.hosts[name] = {"ansible_connection": "canned", "ansible_python_interpreter": "/usr/bin/python3", **variables}

    def evidence(self, name: str, evidence: Any, **more: Any) -> None:
        now = time.time()
        reply = {
            "changed": False,
            "evidence": base64.b64encode(samples.packed(evidence)).decode(),
            "summary": {"findings": {"critical": 0}, "top": [], "coverage": {"ok": 15}},
            "host_time_start": now,
            "host_time_end": now,
            **more,
        }
        self.host(name, reply)

    def diagnose(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        inventory = self.folder / "hosts.json"
        inventory.write_text(json.dumps({"gpu-nodes": {"hosts": self.hosts}}), encoding="utf-8")
        return play(
            *("-i", str(inventory), "playbooks/diagnose.yml", "-e", f"diagnose_output={self.output}", *arguments),
            home=self.folder,
            ANSIBLE_CONNECTION_PLUGINS=str(ROOT / "tests" / "unit" / "connection"),
            CANNED_ANSWERS=str(self.answers),
            ANSIBLE_PIPELINING="1",
            **more,
        )


@pytest.fixture
def canned(tmp_path: Path) -> Canned:
    return Canned(tmp_path)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The collection built and installed as users get it."""
    folder = tmp_path_factory.mktemp("installed")
    tree = folder / "tree"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if not name.startswith((".collections/", "tests/", "molecule/")) and (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tree / name)
    (tree / "README.md").touch()
    built = play("collection", "build", str(tree), "--output-path", str(folder), tool="ansible-galaxy", home=folder)
    assert built.returncode == 0, built.stderr
    archive = next(folder.glob("netops-fleet-*.tar.gz"))
    target = folder / "collections"
    done = play(
        *("collection", "install", str(archive), "-p", str(target), "--no-deps", "--offline", "--force"),
        tool="ansible-galaxy",
        home=folder,
    )
    assert done.returncode == 0, done.stderr
    yield target
    shutil.rmtree(folder)


#: name -> (arguments before the common ones, folder it is run in)
FORMS = {
    "inside playbooks": (["diagnose.yml"], ROOT / "playbooks"),
    "from the root": (["playbooks/diagnose.yml"], ROOT),
    "installed": (["netops.fleet.diagnose", "-i", "inventories/example"], ROOT),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_example_fleet_is_diagnosed(form: str, tmp_path: Path, installed: Path) -> None:
    """Every form that the documentation shows; -e ansible_connection=local keeps the example's addresses out of it."""
    arguments, cwd = FORMS[form]
    more = {"ANSIBLE_COLLECTIONS_PATH": str(installed)} if form == "installed" else {}
    output = tmp_path / "out"
    done = play(
        *(*arguments, "-l", "gpu-nodes", "-e", "ansible_connection=local", "-e", "ansible_become=false", "-f", "2"),
        *("-e", f"ansible_python_interpreter={sys.executable}", "-e", "diagnose_window=0.1", "-e", "diagnose_probe_peers=0"),
        *("-e", '{"diagnose_names": []}', "-e", f"diagnose_output={output}", "-e", "diagnose_target=tcp/1678"),
        home=tmp_path,
        cwd=cwd,
        **more,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr
    report = latest(output)
    assert report["totals"]["statuses"] == {"ok": 6}
    assert report["run"]["target_text"] == "tcp/1678"
    assert [one["name"] for one in report["groups"]] == ["gpu-nodes"]
    assert "report.html" in done.stdout
    assert stat.S_IMODE((output / "latest").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (output / "latest").iterdir()} == {0o600}
    assert re.search(r"gpu-01 +: ok=3 +changed=0", done.stdout)
    assert re.search(r"gpu-02 +: ok=1 +changed=0", done.stdout), "one task per host"


def test_a_mesh_is_drawn_probed_and_joined(tmp_path: Path) -> None:
    """Three names of this machine, each with an address of lo; a fourth has none that is written out."""
    inventory = tmp_path / "hosts"
    lines = [f"one-{number} ansible_connection=local diagnose_address=127.0.0.{number}\n" for number in (1, 2, 3)]
    inventory.write_text("[all]\n" + "".join(lines) + "nameless ansible_connection=local\n", encoding="utf-8")
    output = tmp_path / "out"
    done = play(
        *("playbooks/diagnose.yml", "-i", str(inventory), "-e", "ansible_become=false", "-e", "diagnose_window=0", "-f", "2"),
        *("-e", f"ansible_python_interpreter={sys.executable}", "-e", "diagnose_mesh_peers=8", "-e", f"diagnose_output={output}"),
        home=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = latest(output)
    mesh = report["mesh"]
    assert (mesh["hosts"], mesh["rows"], mesh["pairs"], mesh["planned"]) == (4, 4, 9, 12)
    assert "9 of 12 pairs probed" in done.stdout
    assert by_name(report)["one-1"]["peers"]["note"].endswith("not probed, no address known: nameless")


def test_a_saved_run_is_judged_again(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    fleet = samples.broken_fleet()
    for one in fleet.values():
        one["findings"], one["answer"] = [], None  # as if an older version had not known the fault
    samples.run(folder, fleet)
    done = play("playbooks/report.yml", "-i", "inventories/local", "-e", f"report_run={folder}", home=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    report = by_name(json.loads((folder / "report.json").read_text(encoding="utf-8")))
    assert report["gpu-02"]["findings"][0]["fix"] == ["nft delete rule inet lab input handle 11"]
    assert report["gpu-01"]["findings"] == []
    kept = play(
        *("playbooks/report.yml", "-i", "inventories/local", "-e", f"report_run={folder}", "-e", "report_rejudge=false"),
        home=tmp_path,
    )
    assert kept.returncode == 0, kept.stdout + kept.stderr
    report = by_name(json.loads((folder / "report.json").read_text(encoding="utf-8")))
    assert "firewall-drops-target" not in [one["id"] for one in report["gpu-02"]["findings"]]


def test_hosts_that_misbehave_are_lines_of_the_report(canned: Canned) -> None:
    """The first host is the unreachable one: the tasks that run once go through it."""
    canned.host("a-unreachable", mode="unreachable")
    canned.host("b-dies", '{"changed": false, "evid', mode="die")
    canned.host("c-hangs", mode="hang")
    canned.host("d-nonsense", {"changed": False, "evidence": ["not", "text"]})
    canned.host("e-not-gzip", {"changed": False, "evidence": base64.b64encode(b"x" * 40).decode()})
    canned.evidence("f-not-the-schema", {"schema": 1, "hosts": 3})
    canned.host("g-failed", {"failed": True, "msg": "no \x1b[2Jpermission", "ansible_facts": {"ansible_host": "203.0.113.66"}})
    canned.evidence("h-well", samples.sealed(samples.host(1)))
    done = canned.diagnose("-e", "diagnose_timeout=6", "-e", "diagnose_target=tcp/1678")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    report = by_name(latest(canned.output))
    assert {name: one["status"] for name, one in report.items()} == {
        "a-unreachable": "unreachable",
        "b-dies": "failed",
        "c-hangs": "timeout",
        "d-nonsense": "invalid",
        "e-not-gzip": "invalid",
        "f-not-the-schema": "invalid",
        "g-failed": "failed",
        "h-well": "ok",
    }
    assert "no \\x1b[2Jpermission" in report["g-failed"]["reason"]
    assert "lacks" in report["f-not-the-schema"]["reason"]
    assert report["h-well"]["answer"]["verdict"] == "open"
    assert report["h-well"]["clock"]["low"] <= 0
    assert re.search(r"a-unreachable +: .*ignored=1", done.stdout)
    assert re.search(r"h-well +: .*ignored=0", done.stdout)


def test_names_that_try_to_leave_the_folder(canned: Canned) -> None:
    canned.evidence("../../escape", samples.sealed(samples.host(1)))
    canned.evidence(".hidden", samples.sealed(samples.host(2)))
    done = canned.diagnose()
    assert done.returncode == 0, done.stdout + done.stderr
    files = sorted(path.name for path in (canned.output / "latest").iterdir())
    assert files == [
        "%2E.%2F..%2Fescape.evidence.gz",
        "%2Ehidden.evidence.gz",
        "report.html",
        "report.json",
        "run.json",
    ]
    assert not list(canned.folder.rglob("escape*"))
    assert set(by_name(latest(canned.output))) == {"../../escape", ".hidden"}


@pytest.mark.parametrize("check_mode", [False, True])
def test_fail_on(canned: Canned, check_mode: bool) -> None:
    for name, evidence in samples.broken_fleet().items():
        canned.evidence(name, evidence)
    extra = ["--check"] if check_mode else []
    done = canned.diagnose("-e", "diagnose_fail_on=critical", "-e", "diagnose_target=tcp/1678", *extra)
    assert done.returncode == 2
    assert "diagnose_fail_on is critical: 3 of 6 hosts" in done.stdout + done.stderr
    assert "nft delete rule inet lab input handle 11" in done.stdout
    assert latest(canned.output)["totals"]["answers"] == {"blocked": 3, "open": 3}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["diagnose_target=1678"], "diagnose_target: found '1678'; allowed is PROTOCOL/PORT"),
        (["diagnose_target=tcp/99999"], "PORT is 1 to 65535"),
        (["diagnose_window=soon"], "diagnose_window: found 'soon'; allowed is a number from 0 to 60"),
        (["diagnose_min_peers=1"], "diagnose_min_peers"),
        (["diagnose_fail_on=maybe"], "never, critical, warning, any"),
        (["diagnose_output=/dev/null/x"], "diagnose_output"),
        (["diagnose_http=ftp://x"], "diagnose_http"),
    ],
)
def test_wrong_options_end_the_run_before_any_host_is_asked(canned: Canned, arguments: list[str], said: str) -> None:
    canned.evidence("gpu-01", samples.sealed(samples.host(1)))
    done = canned.diagnose(*[part for one in arguments for part in ("-e", one)])
    assert done.returncode == 2
    assert said in " ".join((done.stdout + done.stderr).replace("\\n", " ").split())
    assert not list(canned.folder.rglob("*.evidence.gz"))


def test_a_typing_error_in_an_option_is_told(canned: Canned) -> None:
    canned.evidence("gpu-01", samples.sealed(samples.host(1)))
    done = canned.diagnose("-e", "diagnose_taget=tcp/1678")
    assert "did you mean diagnose_target?" in " ".join((done.stdout + done.stderr).split())


def test_no_host_matches(canned: Canned) -> None:
    canned.evidence("gpu-01", samples.sealed(samples.host(1)))
    limited = canned.diagnose("-l", "nowhere")
    assert limited.returncode != 0
    pattern = canned.diagnose("-e", "diagnose_hosts=nowhere")
    assert "nowhere" in pattern.stdout + pattern.stderr
    assert "no hosts matched" in pattern.stdout
    assert not canned.output.exists()


def test_peers_are_named_with_addresses_that_are_written_out(canned: Canned) -> None:
    evidence = samples.sealed(samples.host(1))
    for number in range(1, 5):
        canned.evidence(f"gpu-{number:02d}", evidence)
    canned.hosts["gpu-02"]["ansible_host"] = "192.0.2.12"
    canned.hosts["gpu-03"].update(ansible_host="192.0.2.13", diagnose_address="2001:db8::13")
    canned.hosts["gpu-04"]["ansible_host"] = "{{ '192.0.2.14' }}"
    done = canned.diagnose("-e", "diagnose_target=tcp/1678", "-e", "diagnose_probe_peers=3", "-l", "gpu-01,gpu-02,gpu-03,gpu-04")
    assert done.returncode == 0, done.stdout + done.stderr
    report = by_name(latest(canned.output))
    assert report["gpu-01"]["peers"]["note"].endswith("not probed, no address known: gpu-04")
    assert report["gpu-04"]["peers"]["note"].endswith("not probed, no address known: gpu-01")
