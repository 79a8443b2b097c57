# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Killed by SIGKILL before every single call that writes: rollback restores the snapshot taken before, every time."""

from __future__ import annotations

import pytest

from tests.kernel.tuning import PRELUDE

pytestmark = pytest.mark.kernel

KILL = """
NAMES = ("write", "pwrite", "fsync", "rename", "link", "symlink", "unlink", "mkdir", "rmdir", "chmod", "fchmod", "fchown",
         "ftruncate")
REAL = {name: getattr(os, name) for name in NAMES}
REAL_OPEN = os.open

def arm(limit):
    \"\"\"Count calls that change something; with a limit, die before the call of that number.\"\"\"
    state = {"calls": 0}
    def tick():
        state["calls"] += 1
        if limit is not None and state["calls"] > limit:
            os.kill(os.getpid(), signal.SIGKILL)
    def wrap(real):
        def call(*arguments, **words):
            tick()
            return real(*arguments, **words)
        return call
    for name, real in REAL.items():
        setattr(os, name, wrap(real))
    def opened(path, flags, *rest, **words):
        if flags & os.O_CREAT:
            tick()
        return REAL_OPEN(path, flags, *rest, **words)
    os.open = opened
    return state

def child(limit, work):
    \"\"\"Run work in a process of its own that dies before its call number limit; returns (killed, calls).\"\"\"
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            state = arm(limit)
            work()
            Path("/run/calls").write_text(str(state["calls"]))
            status = 0
        finally:
            os._exit(status)
    _pid, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True, None
    assert os.WEXITSTATUS(status) == 0, "the work failed"
    return False, int(Path("/run/calls").read_text())

os.mkdir(FOLDER, 0o700)  # so that each run has the same calls

def clean():
    for name in os.listdir(FOLDER) if os.path.isdir(FOLDER) else ():
        os.unlink(os.path.join(FOLDER, name))

GIVEN = dict(
    profile="inference", paths=[{"name": "peers", "rtt_ms": 2.0, "mbit": 100000}], flows=4, nofile=65536, services=["nginx"],
    pam=True, settings={"net.ipv4.ip_forward": "1"},
)
sysctl.write("net.ipv4.ip_forward", "0")
Path("/etc/sysctl.d/50-own.conf").write_text("net.ipv4.tcp_fin_timeout = 60\\n")
BEFORE = snapshot()

def roll():
    with lock.Lock(FOLDER, "test"):
        return rollback.run(journal.Journal(FOLDER))
"""


def test_killed_at_every_step_of_apply(ns) -> None:
    out = ns.python_json(
        PRELUDE
        + KILL
        + """
_killed, calls = child(None, lambda: tune.run(options(**GIVEN), check=False))
NEW = snapshot()
roll()
assert snapshot() == BEFORE
states, wrong = {"old": 0, "new": 0, "mixed": 0}, []
for limit in range(calls):
    clean()
    killed, _calls = child(limit, lambda: tune.run(options(**GIVEN), check=False))
    assert killed, limit
    now = snapshot()
    states["old" if now == BEFORE else "new" if now == NEW else "mixed"] += 1
    if os.path.isdir(FOLDER):
        steps = roll()
        if rollback.failed(steps) or rollback.foreign(steps):
            wrong.append([limit, rollback.failed(steps), rollback.foreign(steps)])
    if snapshot() != BEFORE:
        wrong.append([limit, "not restored", unlike(BEFORE, snapshot())])
        break
print(json.dumps({"calls": calls, "states": states, "wrong": wrong}))
""",
        timeout=300,
    )
    assert out["wrong"] == []
    assert out["calls"] > 50, "hardly any step was tried"
    assert out["states"]["mixed"] > 20, "the process never died in the middle"


def test_killed_at_every_step_of_the_way_back(ns) -> None:
    out = ns.python_json(
        PRELUDE
        + KILL
        + """
tune.run(options(**GIVEN), check=False)
_killed, calls = child(None, roll)
assert snapshot() == BEFORE
wrong = []
for limit in range(calls):
    clean()
    tune.run(options(**GIVEN), check=False)
    killed, _calls = child(limit, roll)
    assert killed, limit
    roll()
    if snapshot() != BEFORE or journal.Journal(FOLDER).live:
        wrong.append(limit)
print(json.dumps({"calls": calls, "wrong": wrong}))
""",
        timeout=300,
    )
    assert out["wrong"] == [] and out["calls"] > 50


def test_killed_then_run_again_finishes(ns) -> None:
    """Instead of rolling back, the same task is run again: the host is new, and the way back still leads to the originals."""
    out = ns.python_json(
        PRELUDE
        + KILL
        + """
_killed, calls = child(None, lambda: tune.run(options(**GIVEN), check=False))
NEW = snapshot()
roll()
wrong = []
for limit in range(0, calls, 3):
    clean()
    child(limit, lambda: tune.run(options(**GIVEN), check=False))
    tune.run(options(**GIVEN), check=False)
    if snapshot() != NEW or journal.Journal(FOLDER).unfinished() not in ([], journal.Journal(FOLDER).unfinished()[:1]):
        wrong.append([limit, "not new"])
    if tune.run(options(**GIVEN), check=False)["changed"]:
        wrong.append([limit, "third run changed"])
    roll()
    if snapshot() != BEFORE:
        wrong.append([limit, "not restored"])
print(json.dumps({"calls": calls, "wrong": wrong}))
""",
        timeout=300,
    )
    assert out["wrong"] == [] and out["calls"] > 50


def test_killed_while_undoing_one_change(ns) -> None:
    """The state before the second change is not the original: undo leads there, rollback to the original, from every step."""
    out = ns.python_json(
        PRELUDE
        + KILL
        + """
FIRST = dict(settings={"net.ipv4.tcp_fin_timeout": "40"})
def undo(change):
    with lock.Lock(FOLDER, "test"):
        return rollback.undo(journal.Journal(FOLDER), [change])
def prepare():
    clean()
    tune.run(options(**FIRST), check=False)
    between = snapshot()
    return between, tune.run(options(**GIVEN), check=False)["change"]
between, change = prepare()
_killed, calls = child(None, lambda: undo(change))
good = snapshot() == between
roll()
wrong = []
for limit in range(0, calls, 2):
    between, change = prepare()
    child(limit, lambda: undo(change))
    undo(change)
    if snapshot() != between:
        wrong.append([limit, "not undone"])
    roll()
    if snapshot() != BEFORE:
        wrong.append([limit, "not restored"])
print(json.dumps({"calls": calls, "good": good, "wrong": wrong}))
""",
        timeout=300,
    )
    assert out["good"] is True
    assert out["wrong"] == [] and out["calls"] > 30


def test_a_torn_last_line_and_a_damaged_one(ns) -> None:
    out = ns.python_json(
        PRELUDE
        + """
tune.run(options(settings={"net.ipv4.tcp_fin_timeout": "25"}), check=False)
path = FOLDER + "/journal.jsonl"
with open(path, "ab") as file:
    file.write(b'{"op":"change","id":"x"')
torn = journal.Journal(FOLDER)
one = [torn.problems, len(torn.live)]
second = tune.run(options(settings={"net.ipv4.tcp_fin_timeout": "26"}), check=False)["changed"]
lines = open(path, "rb").read().split(b"\\n")
whole = journal.Journal(FOLDER)
two = [len(whole.problems), sorted(entry.target.kind for entry in whole.live.values())]
steps = tune.run(options(state="absent"), check=False)
print(json.dumps([one, second, two, sysctl.read("net.ipv4.tcp_fin_timeout"), os.path.exists(sysctl_plan.FILE)]))
""",
    )
    assert out[0] == [[], 2], "a torn last line is no damage: its change had not begun"
    assert out[1] is True
    assert out[2] == [1, ["file", "sysctl"]], "the torn line is passed over and told"
    assert out[3:] == ["60", False]
