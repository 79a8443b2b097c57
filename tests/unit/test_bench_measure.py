# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the bench measures is what was used: CPU of every descendant, memory counted once, medians, ratios."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.bench import measure
from tests.bench.figures import Figure, table

MIB = 2**20

BURN = """
import os, sys, time
def burn(seconds):
    start = time.process_time()
    while time.process_time() - start < seconds:
        pass
"""


def python(code: str, **more: object) -> measure.Measured:
    return measure.run([sys.executable, "-S", "-E", "-c", code], **more)  # type: ignore[arg-type]


def interpreter_cpu() -> float:
    """What an interpreter that does nothing costs."""
    return python("pass").cpu


def test_cpu_of_a_command() -> None:
    found = python(BURN + "burn(0.5)")
    assert found.cpu >= 0.5
    # The witness is the process itself: what it burnt, an interpreter, and nothing near a second time the same.
    assert found.cpu < 0.5 + interpreter_cpu() + 0.3


def test_cpu_of_children_that_were_waited_for() -> None:
    code = BURN + (
        "for _ in range(3):\n"
        "    pid = os.fork()\n"
        "    if not pid:\n"
        "        burn(0.2)\n"
        "        os._exit(0)\n"
        "    os.waitpid(pid, 0)\n"
    )
    found = python(code)
    assert 0.6 <= found.cpu < 0.6 + interpreter_cpu() + 0.4


def test_cpu_of_a_child_nobody_waited_for() -> None:
    """The child ends before its parent, which never asks for its status."""
    code = BURN + (
        "ours, theirs = os.pipe()\n"
        "if not os.fork():\n"
        "    burn(0.3)\n"
        "    os._exit(0)\n"
        "os.close(theirs)\n"
        "os.read(ours, 1)\n"  # ends when the child has
    )
    assert python(code).cpu >= 0.3


def test_cpu_of_a_daemon_that_lives_on() -> None:
    """As ssh's connection masters do: it left its parent, works, and stays. Later runs count only what it used in them."""
    code = BURN + (
        "ours, theirs = os.pipe()\n"
        "if not os.fork():\n"
        "    os.setsid()\n"
        "    if os.fork():\n"
        "        os._exit(0)\n"
        "    burn(0.4)\n"
        "    os.write(theirs, str(os.getpid()).encode())\n"
        "    while True:\n"
        "        time.sleep(60)\n"
        "os.wait()\n"
        "print('daemon', os.read(ours, 20).decode())\n"
    )
    found = python(code)
    daemon = int(re.findall(r"daemon (\d+)", found.output)[0])
    try:
        # Ticks of 10 ms: what is still alive is counted in whole ones.
        assert found.cpu >= 0.38
        assert {each.pid: each.parent for each in measure.descendants(os.getpid())}[daemon] == os.getpid()
        assert python(BURN + "burn(0.1)").cpu < 0.38
        ending = (
            f"import os, time\nos.kill({daemon}, 9)\n"
            f"while open('/proc/{daemon}/stat').read().rpartition(')')[2].split()[0] != 'Z':\n    time.sleep(0.01)\n"
        )
        assert python(ending).cpu < 0.38, "the end of the daemon counted its life a second time"
    finally:
        with suppress(ProcessLookupError):
            os.kill(daemon, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(daemon, 0)


def holding(megabytes: int, forks: int) -> subprocess.Popen[bytes]:
    """A process that holds memory, and forks that share it; returned when all of them do."""
    code = (
        f"import os, sys\nkept = b'x' * ({megabytes} << 20)\n"
        f"for _ in range({forks}):\n    if not os.fork():\n        break\n"
        "os.write(1, b'r')\nsys.stdin.read()\n"
    )
    process = subprocess.Popen([sys.executable, "-S", "-E", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    for _ in range(forks + 1):
        assert process.stdout.read(1) == b"r"
    return process


@pytest.mark.parametrize("forks", [0, 3])
def test_memory_that_forks_share_counts_once(forks: int) -> None:
    process = holding(80, forks)
    try:
        total, largest = measure.memory(process.pid)
        assert len(measure.descendants(process.pid)) == forks
    finally:
        process.communicate(b"")
    assert 80 * MIB <= total < 140 * MIB
    assert 80 * MIB <= largest < 110 * MIB


def test_peak_memory_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command gives its memory back once a sample has seen it; the peak stays."""
    seen, real = tmp_path / "seen", measure.memory

    def memory(root: int) -> tuple[int, int]:
        total, largest = real(root)
        if total >= 60 * MIB:
            seen.touch()
        return total, largest

    monkeypatch.setattr(measure, "memory", memory)
    code = (
        f"import os, time\nkept = b'x' * (60 << 20)\nwhile not os.path.exists({str(seen)!r}):\n    time.sleep(0.01)\ndel kept\n"
    )
    found = python(code, watch_memory=True, interval=0.01, timeout=60)
    assert 60 * MIB <= found.memory < 110 * MIB
    assert 60 * MIB <= found.largest < 110 * MIB


def test_input_is_the_file(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"print('as it came')")
    found = measure.run([sys.executable, "-"], input=source)
    assert found.output.strip() == "as it came"


def test_a_command_that_fails_says_why() -> None:
    with pytest.raises(measure.MeasureError, match=r"exit status 3\n.*it broke"):
        python("import sys; print('it broke'); sys.exit(3)")
    assert python("import sys; sys.exit(3)", check=False).status == 3


def test_a_command_that_hangs_is_ended_with_its_children() -> None:
    code = "import os, time\nos.fork()\nwhile True:\n    time.sleep(60)\n"
    before = {each.pid for each in measure.descendants(os.getpid())}
    with pytest.raises(measure.MeasureError, match="still running after"):
        python(code, timeout=0.5)
    left = [each for each in measure.descendants(os.getpid()) if each.pid not in before and each.state != "Z"]
    assert left == []


def test_medians_are_taken_number_by_number() -> None:
    rounds = [measure.Measured(3, 1, 10, 5, 0, "a"), measure.Measured(1, 2, 30, 6, 0, "b"), measure.Measured(2, 9, 20, 7, 0, "c")]
    assert measure.median(rounds) == measure.Measured(2, 2, 20, 6, 0, "c")


def test_kinds_take_turns() -> None:
    order: list[str] = []

    def kind(name: str, cpu: float) -> measure.Measured:
        order.append(name)
        return measure.Measured(1, cpu)

    found = measure.alternate({"a": lambda: kind("a", 1), "b": lambda: kind("b", 2)}, 3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert (found["a"].cpu, found["b"].cpu) == (1, 2)


@pytest.mark.parametrize(
    ("figure", "ratio", "met"),
    [
        (Figure("f", 3, "s", 2, "tool", 1.5), 1.5, True),
        (Figure("f", 3.1, "s", 2, "tool", 1.5), 1.55, False),
        (Figure("f", 3, "s", 2, "tool"), 1.5, None),
        (Figure("f", 0, "", at_most=0), None, True),
        (Figure("f", 1, "", at_most=0), None, False),
        (Figure("f", 1, "s", 0.0, "tool", 1.5), None, None),
    ],
)
def test_a_figure_is_judged_by_its_ratio_or_by_itself(figure: Figure, ratio: float | None, met: bool | None) -> None:
    assert figure.ratio == (None if ratio is None else pytest.approx(ratio))
    assert figure.met is met


def test_the_table_says_what_is_missed() -> None:
    figures = [
        Figure("fast", 1, "s", 2, "tool", 1.5),
        Figure("slow", 4, "s", 2, "tool", 1.5),
        Figure("changed", 0, "", at_most=0),
    ]
    text = table(figures)
    lines = {line.split()[0]: line.split() for line in text.splitlines()}
    assert lines["fast"][-1] == "yes"
    assert lines["slow"][-4:] == ["2.00x", "<=", "1.50x", "NO"]
    assert lines["changed"][-1] == "yes"
