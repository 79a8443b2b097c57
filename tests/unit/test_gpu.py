# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""GPUs: a program in the tool's place that answers as nvidia-smi does, and what is told of it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import gpu, installed
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._evidence import gpu as reader
from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Section
from ansible_collections.netops.fleet.plugins.module_utils._kernel import command
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import checks
from tests.unit.hosts import healthy

FIELDS = [name for name in reader.FIELDS if name != "clocks_throttle_reasons.active"]
#: An H100 at rest: its link saves power, and the reason for low clocks is that it idles.
IDLE = {
    "index": "0",
    "uuid": "GPU-b1d0d3e5-1111-2222-3333-444444444444",
    "pci.bus_id": "00000000:17:00.0",
    "name": "NVIDIA H100 80GB HBM3",
    "utilization.gpu": "0",
    "utilization.memory": "0",
    "memory.used": "4",
    "memory.total": "81559",
    "temperature.gpu": "31",
    "power.draw": "71.25",
    "ecc.errors.uncorrected.volatile.total": "0",
    "pcie.link.gen.current": "1",
    "pcie.link.gen.max": "5",
    "pcie.link.width.current": "16",
    "pcie.link.width.max": "16",
    "clocks_event_reasons.active": "0x0000000000000001",
}
BUSY = {**IDLE, "utilization.gpu": "99", "pcie.link.gen.current": "5", "clocks_event_reasons.active": "0x0000000000000004"}


def line(**changed: str) -> str:
    """One GPU at rest, but for what is given."""
    names = {
        "width": "pcie.link.width.current",
        "generation": "pcie.link.gen.current",
        "busy": "utilization.gpu",
        "ecc": "ecc.errors.uncorrected.volatile.total",
        "slowed": "clocks_event_reasons.active",
        "index": "index",
    }
    given = {**IDLE, **{names[key]: value for key, value in changed.items()}}
    return ", ".join(given[name] for name in FIELDS) + "\n"


def told(text: str, error: dict[str, str] | None = None) -> list[tuple[str, str, str]]:
    found = {"error": error, "gpus": reader.gpus(text, FIELDS)}
    return [(one.id, one.severity, one.subject) for one in installed.find(Facts(healthy(installed={"gpu": found})))]


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put a shell script in the tool's place, and a driver that runs; returns the lines it was called with."""
    runs = tmp_path / "runs"
    runs.touch()
    monkeypatch.setattr(reader, "_RUNS", (str(runs),))
    monkeypatch.setattr(command, "SEARCH_PATH", (str(tmp_path), *command.SEARCH_PATH))

    def put(script: str) -> Path:
        path = tmp_path / "nvidia-smi"
        path.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/calls\n{script}\n', encoding="utf-8")
        path.chmod(0o755)
        return tmp_path / "calls"

    return put


def printing(tmp_path: Path, text: str, status: int = 0) -> str:
    (tmp_path / "answer").write_text(text, encoding="utf-8")
    return f"cat {tmp_path}/answer; exit {status}"


# --- reading


def test_without_a_driver_that_runs_the_tool_is_not_called(tool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = tool("exit 0")
    for missing in (("proc/driver/nvidia/none", str(tmp_path)), (str(tmp_path), "dev/none")):
        monkeypatch.setattr(reader, "_RUNS", missing)
        section = Section(None)
        assert reader.read(section) is None and not section.gaps
    assert not calls.exists()


def test_the_driver_must_be_loaded_and_in_use() -> None:
    assert reader._RUNS == ("proc/driver/nvidia/version", "dev/nvidiactl")


def test_without_the_tool_there_is_nothing(tool: Any) -> None:
    section = Section(None)
    assert reader.read(section) is None and not section.gaps


def test_gpus_are_read(tool: Any, tmp_path: Path) -> None:
    calls = tool(printing(tmp_path, line() + line(index="1", ecc="[N/A]", slowed="[Not Supported]")))
    section = Section(None)
    found = reader.read(section)
    assert found is not None and found["error"] is None and not section.gaps
    assert found["gpus"][0] == {
        "index": 0,
        "uuid": "GPU-b1d0d3e5-1111-2222-3333-444444444444",
        "bus": "00000000:17:00.0",
        "name": "NVIDIA H100 80GB HBM3",
        "utilization": 0,
        "memory_utilization": 0,
        "memory_used_mib": 4,
        "memory_total_mib": 81559,
        "temperature_c": 31,
        "power_w": 71.25,
        "ecc_uncorrected": 0,
        "link_generation": 1,
        "link_generation_max": 5,
        "link_width": 16,
        "link_width_max": 16,
        "slowed_by": 1,
        "error": None,
    }
    assert (found["gpus"][1]["index"], found["gpus"][1]["ecc_uncorrected"], found["gpus"][1]["slowed_by"]) == (1, None, None)
    assert calls.read_text().splitlines() == [f"--query-gpu={','.join(FIELDS)} --format=csv,noheader,nounits"]


def test_an_older_driver_is_asked_by_the_names_it_knows(tool: Any, tmp_path: Path) -> None:
    (tmp_path / "answer").write_text(line(slowed="0x40").replace(", 71.25", ""), encoding="utf-8")
    calls = tool(
        "for name in clocks_event_reasons.active power.draw; do case $1 in *$name*)\n"
        '  echo "Field \\"$name\\" is not a valid field to query."; exit 2;; esac; done\n'
        f"cat {tmp_path}/answer"
    )
    section = Section(None)
    found = reader.read(section)
    assert found is not None and not section.gaps
    assert (found["gpus"][0]["slowed_by"], found["gpus"][0]["power_w"]) == (0x40, None)
    assert len(calls.read_text().splitlines()) == 3 and "clocks_throttle_reasons.active" in calls.read_text()


def test_a_driver_that_knows_no_field_is_not_asked_for_ever(tool: Any) -> None:
    calls = tool('echo "Field \\"$(echo $1 | sed s/.*=// | cut -d, -f2)\\" is not a valid field to query."; exit 2')
    section = Section(None)
    found = reader.read(section)
    assert found == {"error": None, "gpus": []} and len(section.gaps) == 1 and len(calls.read_text().splitlines()) == 5


@pytest.mark.parametrize(
    ("said", "status", "kind", "severity"),
    [
        (
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA "
            "driver is installed and running.\n",
            9,
            "driver",
            "critical",
        ),
        ("No devices were found\n", 6, "none", "critical"),
        ("No devices were found\n", 0, "none", "critical"),
        ("Unable to determine the device handle for GPU0000:17:00.0: Unknown Error\n", 255, "lost", "critical"),
        (
            "Unable to determine the device handle for GPU 0000:17:00.0: GPU is lost.  Reboot the system to recover this GPU\n",
            15,
            "lost",
            "critical",
        ),
        ("Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 550.54\n", 18, "mismatch", "warning"),
    ],
)
def test_what_the_tool_says_is_unreachable(tool: Any, tmp_path: Path, said: str, status: int, kind: str, severity: str) -> None:
    tool(printing(tmp_path, said, status))
    section = Section(None)
    found = reader.read(section)
    assert found is not None and found["error"]["kind"] == kind and not section.gaps
    assert told("", found["error"]) == [("gpu-unreachable", severity, "GPU")]


@pytest.mark.parametrize(
    ("said", "status"),
    [("Failed to initialize NVML: Insufficient Permissions\n", 4), ("", 0), ("", 1), ("a, b\n", 0), ("\x1b[31m" * 999, 3)],
)
def test_an_answer_that_tells_nothing_of_gpus_is_a_gap(tool: Any, tmp_path: Path, said: str, status: int) -> None:
    tool(printing(tmp_path, said, status))
    section = Section(None)
    assert reader.read(section) == {"error": None, "gpus": []}
    assert [one.what for one in section.gaps] == ["installed.gpu"]


def test_a_tool_that_hangs_is_ended_and_told(tool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_SECONDS", 0.2)
    calls = tool("exec tail -f /dev/null")
    found = reader.read(Section(None))
    assert found is not None and found["error"]["kind"] == "silent" and calls.exists()
    assert told("", found["error"]) == [("gpu-unreachable", "warning", "GPU")]


def test_one_that_cannot_be_ended_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that waits in the kernel for a device that hangs does not end when it is killed."""
    monkeypatch.setattr(command, "_SECONDS_TO_END", 0.05)
    killed: list[int] = []
    monkeypatch.setattr(command.os, "killpg", lambda group, _signal: killed.append(group))
    result = command.run(["sleep", "60"], timeout=0.05)
    assert result.rc == -2 and len(killed) == 1
    os.kill(killed[0], signal.SIGKILL)
    os.waitpid(killed[0], 0)


@given(st.text(max_size=400), st.sampled_from([line(), line(busy="99")]))
def test_whatever_the_tool_prints_is_bounded(noise: str, row: str) -> None:
    for text in (noise, row + noise, ", ".join([noise] * len(FIELDS)), row.replace("NVIDIA H100 80GB HBM3", noise)):
        found = reader.gpus(text, FIELDS)
        assert len(json.dumps(found)) < 64 * 1024 and all(isinstance(one["index"], int) for one in found)
        gpu.find({"error": reader.error(command.Result(("nvidia-smi",), 1, text, noise)), "gpus": found})


def test_at_most_64_gpus_are_read() -> None:
    assert len(reader.gpus(line() * 1000, FIELDS)) == 64


def test_a_name_with_a_command_in_it_is_not_taken_over() -> None:
    row = line().replace("NVIDIA H100 80GB HBM3", "x; $(reboot)").replace("00000000:17:00.0", "`reboot`")
    found = reader.gpus(row, FIELDS)[0]
    assert found["name"] is None and found["bus"] is None


# --- judging


@pytest.mark.parametrize("row", [line(), ", ".join(BUSY[name] for name in FIELDS), line(ecc="[N/A]", width="[Not Supported]")])
def test_a_gpu_that_is_well_is_silent(row: str) -> None:
    assert told(row) == []


def test_a_gpu_that_is_lost_is_told_and_no_number_of_it() -> None:
    gone = ", ".join(["1", IDLE["uuid"], IDLE["pci.bus_id"], IDLE["name"], *["[GPU is lost]"] * (len(FIELDS) - 4)])
    assert told(line() + gone) == [("gpu-unreachable", "critical", "GPU 1")]


def test_ecc_errors() -> None:
    assert told(line(ecc="1")) == [("gpu-ecc-errors", "warning", "GPU 0")]


@pytest.mark.parametrize(
    ("given", "narrow"),
    [
        ({"width": "8", "generation": "5"}, True),
        ({"width": "8", "generation": "1"}, False),  # it saves power
        ({"width": "8", "generation": "4", "busy": "90"}, True),
        ({"width": "16", "generation": "1", "busy": "90"}, False),
        ({"width": "[N/A]", "generation": "5"}, False),
    ],
)
def test_link(given: dict[str, str], narrow: bool) -> None:
    assert told(line(**given)) == ([("gpu-link-narrow", "warning", "GPU 0")] if narrow else [])


@pytest.mark.parametrize(
    ("mask", "slow"),
    [
        ("0x0", False),
        ("0x1", False),
        ("0x4", False),
        ("0x2", False),
        ("0x20", True),
        ("0x40", True),
        ("0x88", True),
        ("x", False),
    ],
)
def test_throttled(mask: str, slow: bool) -> None:
    assert told(line(slowed=mask)) == ([("gpu-throttled", "warning", "GPU 0")] if slow else [])


@pytest.mark.parametrize("name", ["gpu-unreachable", "gpu-ecc-errors", "gpu-link-narrow", "gpu-throttled"])
def test_findings_of_gpus_stand_in_the_machines_column(name: str) -> None:
    assert checks.check_of({"id": name}) == "machine"
