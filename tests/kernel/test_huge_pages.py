# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""huge_pages from its options to /sys and back, on a tree of two nodes in place of the machine's; its kernel is left alone.

What a kernel does with the numbers is the matter of tests/lab/test_placement_guest.py.
"""

from __future__ import annotations

import pytest

from tests.kernel.tuning import PRELUDE

pytestmark = pytest.mark.kernel

#: A host with two nodes of 1 GiB; node 1 yields at most LIMIT pages of 2 MiB, as a kernel with fragmented memory does.
TREE = (
    PRELUDE
    + '''
from ansible_collections.netops.fleet.plugins.module_utils._safety import pages as page_objects
from ansible_collections.netops.fleet.plugins.module_utils._safety.change import ChangeError
from ansible_collections.netops.fleet.plugins.module_utils._tuning import pages, pages_boot, pages_plan
NODES, THP = "/sys/devices/system/node", "/sys/kernel/mm/transparent_hugepage"
for folder in (NODES, "/sys/kernel/mm"):
    subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=True)
Path("/run/online").write_text("0-1\\n")
subprocess.run(["mount", "--bind", "/run/online", "/sys/devices/system/cpu/online"], check=True)
for node in (0, 1):
    home = Path(f"{NODES}/node{node}")
    for size in (2048, 1048576):
        pool = home / f"hugepages/hugepages-{size}kB"
        pool.mkdir(parents=True)
        for name in ("nr", "free", "surplus"):
            (pool / f"{name}_hugepages").write_text("0\\n")
    (home / "cpulist").write_text(f"{node}\\n")
    (home / "meminfo").write_text(f"Node {node} MemTotal:        1048576 kB\\n")
    (home / "distance").write_text("10 20\\n" if node == 0 else "20 10\\n")
os.mkdir(THP)
Path(THP, "enabled").write_text("[always] madvise never\\n")
Path(THP, "defrag").write_text("always defer defer+madvise [madvise] never\\n")
POOL = NODES + "/node{}/hugepages/hugepages-{}kB"
LIMIT = 1 << 30
real_write = page_objects._write
def write(path, text):
    """The kernel's side: choices are kept in their file, pages are cut."""
    if path.startswith(THP):
        words = Path(path).read_text().replace("[", "").replace("]", "").split()
        text = " ".join(f"[{word}]" if word == text else word for word in words)
    elif "node1" in path:
        text = str(min(int(text), LIMIT))
    os.truncate(path, 0)
    real_write(path, text + "\\n")
page_objects._write = write
def number(node, size=2048):
    return int(Path(POOL.format(node, size), "nr_hugepages").read_text())
def run(check=False, **given):
    return pages.run(pages.Options(**given), check)
def tree():
    return {str(path): path.read_text() for top in (NODES, THP) for path in sorted(Path(top).rglob("*")) if path.is_file()}
W = pages_plan.Want
'''
)


def test_apply_second_run_and_way_back(ns) -> None:
    out = ns.python_json(
        TREE
        + """
Path(POOL.format(0, 2048), "nr_hugepages").write_text("100\\n")
before = tree()
given = dict(pages=[W(64, 2048)], profile="inference")
check = run(check=True, **given)
assert tree() == before and not os.path.exists(FOLDER), "check mode changed something"
first = run(**given)
second = run(**given)
during = [number(0), number(1), Path(THP, "enabled").read_text()]
journalled = sorted(str(entry.target) for entry in journal.Journal(FOLDER).live.values())
fewer = run(pages=[W(32, 2048, "node:1")], profile="own")
less = [number(0), number(1), Path(THP, "enabled").read_text()]
back = run(state="absent")
restored = tree() == before
print(json.dumps([check["changes"] == first["changes"], check["diff"] == first["diff"], first["changed"], second["changed"],
    second["changes"], during, journalled, less, restored, back["changed"], run(state="absent")["changed"], first["notes"],
    first["plan"][0]["reason"]]))
"""
    )
    same, diff, first, second, changes, during, journalled, less, restored, back, again, notes, reason = out
    assert same and diff and first and not second and changes == []
    assert during == [100, 64, "always [madvise] never\n"]
    assert journalled == [
        "hugepages /sys/devices/system/node/node1/hugepages/hugepages-2048kB",
        "sysfs /sys/kernel/mm/transparent_hugepage/enabled",
    ]
    assert less == [100, 32, "[always] madvise never\n"], "what is no longer wanted returns"
    assert restored and back and not again
    assert notes == ["systemd does not run this host: nothing is done at the next boot"]
    assert reason == "100 were there before, for others: they stay"


def test_a_shortage_is_told_once_a_boot_and_rolls_back(ns) -> None:
    out = ns.python_json(
        TREE
        + """
LIMIT = 300
first = run(pages=[W(400, 2048, "node:1")])
second = run(pages=[W(400, 2048, "node:1")])
steps = [step.verdict for step in rollback.preview(journal.Journal(FOLDER))]
# The next boot yields another number: still ours.
Path(POOL.format(1, 2048), "nr_hugepages").write_text("350\\n")
other = [step.verdict for step in rollback.preview(journal.Journal(FOLDER))]
state = json.loads(Path(FOLDER, "pages.json").read_text())
Path(FOLDER, "pages.json").write_text(json.dumps({**state, "boot": "another"}))
LIMIT = 500
third = run(pages=[W(400, 2048, "node:1")])
full = number(1)
Path(POOL.format(1, 2048), "nr_hugepages").write_text("450\\n")
foreign = run(state="absent")
print(json.dumps([first["changed"], first["warnings"], second["changed"], second["warnings"], steps, other, third["changed"],
    full, third["warnings"], foreign["changed"], foreign["warnings"], number(1)]))
"""
    )
    first, warned, second, again, steps, other, third, full, quiet, foreign, left, number = out
    assert first and not second
    assert warned == again and warned[0].startswith("node 1: got 300 of 400 pages of 2M")
    assert steps == other == ["restore"]
    assert third and full == 400 and quiet == []
    assert not foreign and "left alone" in left[0] and number == 450


def test_what_cannot_be_is_refused_before_anything_is_written(ns) -> None:
    out = ns.python_json(
        TREE
        + """
before = tree()
def error(**given):
    try:
        run(**given)
    except ChangeError as found:
        return str(found)
found = [error(pages=[W(600, 2048)]), error(pages=[W(1, 4096)]), error(pages=[W(1, 2048, "node:7")]), error(enabled="sometimes")]
print(json.dumps([found, tree() == before, os.path.exists(FOLDER + "/journal.jsonl")]))
"""
    )
    errors, untouched, journalled = out
    assert all(one.startswith("Nothing was changed. ") for one in errors)
    for told, one in zip(("1024 MiB", "size 4M is not one", "has the nodes 0-1", "sometimes is not one"), errors):
        assert told in one
    assert untouched and not journalled


def test_the_program_of_the_boot_only_raises(ns) -> None:
    out = ns.python_json(
        TREE
        + """
Path(POOL.format(0, 2048), "nr_hugepages").write_text("500\\n")
LIMIT = 10
import io, contextlib
said = io.StringIO()
with contextlib.redirect_stdout(said):
    pools = [word for folder in (POOL.format(0, 2048), POOL.format(1, 2048), "/sys/none") for word in ("--pages", folder + "=64")]
    status = pages_boot.main([*pools, "--set", THP + "/enabled=never", "--set", "/sys/none/x=1"])
print(json.dumps([status, number(0), number(1), Path(THP, "enabled").read_text(), said.getvalue().splitlines()]))
"""
    )
    status, there, short, thp, said = out
    assert status == 0 and (there, short) == (500, 10) and thp == "always madvise [never]\n"
    assert [line[:3] for line in said] == ["<6>", "<4>", "<4>", "<6>", "<4>"]
    assert said[0].endswith("500 of 64 pages") and said[1].endswith("10 of 64 pages")


def test_killed_before_each_write_the_way_back_works(ns) -> None:
    out = ns.python_json(
        TREE
        + """
before = tree()
left = []
for position in range(12):
    child = os.fork()
    if child == 0:
        count = 0
        def dying(path, text, inner=write):
            global count
            if count == position:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1
            inner(path, text)
        page_objects._write = dying
        run(pages=[W(64, 2048)], enabled="never", defrag="never")
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    steps = rollback.run(journal.Journal(FOLDER))
    left.append([os.WIFSIGNALED(status), tree() == before, rollback.failed(steps)])
print(json.dumps(left))
"""
    )
    assert any(killed for killed, _same, _failed in out) and not out[-1][0]
    assert all(same and failed == [] for _killed, same, failed in out)
