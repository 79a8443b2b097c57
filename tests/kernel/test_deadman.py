# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The dead-man's timer where systemd does not run, and adaptive buffers under real traffic. (With systemd: molecule/tune.)"""

from __future__ import annotations

import pytest

from tests.kernel.tuning import PRELUDE

pytestmark = pytest.mark.kernel

WAIT = '''
import time
def until(condition):
    deadline = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < deadline, "the awaited condition did not come true"
        time.sleep(0.05)
def value(name="net.ipv4.conf.all.arp_ignore"):
    return sysctl.read(name)
from ansible_collections.netops.fleet.plugins.module_utils._safety import act
CUTS = dict(settings={"net.ipv4.conf.all.arp_ignore": "1", "net.ipv4.tcp_fin_timeout": "25"}, deadman=10)
def timers(change, *more):
    """Pids of the processes, of any namespace, that wait for this change; more: further words of theirs."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\\0")
        except OSError:
            continue  # it ended meanwhile
        if all(word.encode() in words for word in (change, *more)):
            found.append(int(pid))
    return found
'''


def test_not_confirmed_it_is_taken_back_to_what_was_before_not_to_the_original(ns) -> None:
    out = ns.python_json(
        PRELUDE
        + WAIT
        + """
before = snapshot()
tune.run(options(settings={"net.ipv4.tcp_fin_timeout": "40"}), check=False)
between = snapshot()
done = tune.run(options(**CUTS), check=False)
applied = [value(), value("net.ipv4.tcp_fin_timeout"), done["confirm_within"], os.path.exists(deadman.marker(FOLDER))]
until(lambda: not os.path.exists(deadman.marker(FOLDER)))
taken_back = snapshot() == between
try:
    act.confirm(done["change"], False, FOLDER)
    told = None
except act.ActError as error:
    told = str(error)
tune.run(options(state="absent"), check=False)
print(json.dumps([applied, taken_back, told, snapshot() == before]))
""",
        timeout=90,
    )
    assert out[0] == ["1", "25", 10, True]
    assert out[1] is True and "not in force any more" in out[2] and out[3] is True


def test_confirmed_it_stays_and_the_late_timer_does_nothing(ns) -> None:
    out = ns.python_json(
        PRELUDE
        + WAIT
        + """
done = tune.run(options(**CUTS), check=False)
waiting = lambda: timers(done["change"], "expire")
waited = len(waiting())
confirmed = act.confirm(done["change"], False, FOLDER)
deadline = time.monotonic() + 60
while waiting() and time.monotonic() < deadline:
    time.sleep(0.05)
gone = waiting() == []
again = act.confirm(done["change"], False, FOLDER)
# What the timer runs when it fires after all.
words = [sys.executable, FOLDER + "/journal.pyz", "expire", "--change", done["change"]]
late = subprocess.run(words, env={"PATH": os.environ["PATH"]})
print(json.dumps([confirmed["confirmed"] == [done["change"]], again["changed"], late.returncode, value(), waited, gone]))
""",
        timeout=120,
    )
    # Without systemd a process of its own waits; it ends with the confirmation, not with the deadline.
    assert out == [True, False, 0, "1", 1, True]


JOIN = """
before = snapshot()
def changes():
    first = tune.run(options(**CUTS), check=False)
    second = tune.run(options(settings={**CUTS["settings"], "net.ipv4.conf.all.rp_filter": "2"}, deadman=12), check=False)
    return [first["change"], second["change"]]
"""


def test_a_second_change_joins_the_first_and_one_confirmation_is_for_both(ns) -> None:
    out = ns.python_json(
        PRELUDE
        + WAIT
        + JOIN
        + """
both = changes()
waiting = deadman.armed(FOLDER)
# The first one's timer fires before the common deadline: it is the later one's turn.
words = [sys.executable, FOLDER + "/journal.pyz", "expire", "--change", both[0]]
early = subprocess.run(words, env={"PATH": os.environ["PATH"]})
kept = [value(), value("net.ipv4.conf.all.rp_filter")]
confirmed = act.confirm(both[0], False, FOLDER)["confirmed"]
print(json.dumps([waiting["changes"] == both, early.returncode, kept, confirmed == both, deadman.armed(FOLDER)]))
""",
        timeout=90,
    )
    assert out == [True, 0, ["1", "2"], True, None]


def test_a_container_that_is_started_again_counts_as_not_confirmed(ns) -> None:
    """The kernel, and so its boot id, is the same as before: what the unit at boot runs does not ask for the deadline."""
    out = ns.python_json(
        PRELUDE
        + WAIT
        + """
done = tune.run(options(**{**CUTS, "deadman": 3600}), check=False)
words = [sys.executable, FOLDER + "/journal.pyz", "--folder", FOLDER, "expire"]
unit = deadman._BOOT_TEXT.format(marker="", folder=FOLDER, python=words[0], application=words[1])
assert "ExecStart=" + " ".join(words) + "\\n" in unit, unit
subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
print(json.dumps([value(), deadman.armed(FOLDER)]))
for pid in timers(done["change"]):
    os.kill(pid, signal.SIGKILL)  # It would wait for an hour.
""",
        timeout=90,
    )
    assert out == ["0", None]


def test_joined_changes_are_taken_back_together(ns) -> None:
    out = ns.python_json(
        PRELUDE
        + WAIT
        + JOIN
        + """
both = changes()
until(lambda: not os.path.exists(deadman.marker(FOLDER)))
print(json.dumps([snapshot() == before, journal.Journal(FOLDER).changes]))
""",
        timeout=90,
    )
    assert out == [True, []], "all is at its original, so the journal moved to the history"


def test_a_joined_change_that_is_taken_back_leaves_the_other_waiting(ns) -> None:
    out = ns.python_json(
        PRELUDE
        + WAIT
        + JOIN
        + """
both = changes()
back = {"owner": None, "force": False, "since": None, "change": both[1]}
act.back(back, False, FOLDER)
waiting = deadman.armed(FOLDER)["changes"] == both[:1]
act.back({**back, "change": None, "since": journal.START}, False, FOLDER)
print(json.dumps([waiting, deadman.armed(FOLDER), snapshot() == before]))
""",
        timeout=90,
    )
    assert out == [True, None, True]


def test_all_changes_since_a_mark_are_taken_back_and_none_before(ns) -> None:
    """Several runs, one of them cut short by the death of its process, one taken back already: the rollout's way back."""
    out = ns.python_json(
        PRELUDE
        + WAIT
        + """
before = snapshot()
tune.run(options(settings={"net.ipv4.tcp_fin_timeout": "40"}), check=False)
between, mark = snapshot(), journal.Journal(FOLDER).mark()
tune.run(options(settings={"net.ipv4.tcp_fin_timeout": "41"}), check=False)
taken = tune.run(options(settings={"net.ipv4.tcp_fin_timeout": "42", "net.ipv4.tcp_syn_retries": "4"}), check=False)
act.back({"owner": None, "force": False, "since": None, "change": taken["change"]}, False, FOLDER)
pid = os.fork()
if pid == 0:
    objects.put = lambda target, state: os.kill(os.getpid(), signal.SIGKILL)
    from ansible_collections.netops.fleet.plugins.module_utils._safety import change
    try:
        tune.run(options(profile="inference"), check=False)
    finally:
        os._exit(1)
os.waitpid(pid, 0)
cut = [one.id for one in journal.Journal(FOLDER).unfinished()]
tune.run(options(settings={"net.ipv4.tcp_fin_timeout": "44"}), check=False)
given = {"owner": None, "force": False, "since": mark, "change": None}
shown = act.back(given, True, FOLDER)
unchanged = snapshot() != between
done = act.back(given, False, FOLDER)
same = snapshot() == between
again = act.back(given, False, FOLDER)
act.back({**given, "since": None}, False, FOLDER)
gone = act.back(given, False, FOLDER)
try:
    act.back({**given, "since": ""}, False, FOLDER)
    refused = None
except journal.JournalError as error:
    refused = str(error)
tune.run(options(settings={"net.ipv4.tcp_fin_timeout": "45"}), check=False)
younger = act.back(given, True, FOLDER)["changed"]
seen = [len(cut), shown["changed"], unchanged, done["changed"], same, again["changed"], gone["changed"]]
print(json.dumps([*seen, refused, younger]))
""",
        timeout=90,
    )
    assert out[:7] == [1, True, True, True, True, False, False]
    assert "is no mark" in out[7]
    assert out[8] is True, "the marked change is gone; what is younger is still found"


def test_a_timer_that_died_is_made_up_for_by_the_next_run(ns) -> None:
    """Killed between the marker and the timer, or by a host that was off for long without its boot unit."""
    out = ns.python_json(
        PRELUDE
        + WAIT
        + """
before = snapshot()
done = tune.run(options(**{**CUTS, "deadman": 3600}), check=False)
marker = json.loads(Path(deadman.marker(FOLDER)).read_text())
Path(deadman.marker(FOLDER)).write_text(json.dumps({**marker, "deadline": marker["deadline"] - 7200}))
after = tune.run(options(settings={"net.ipv4.tcp_syn_retries": "4"}), check=False)
print(json.dumps([after["notes"], value(), value("net.ipv4.tcp_fin_timeout"), os.path.exists(deadman.marker(FOLDER))]))
for pid in timers(done["change"]):
    os.kill(pid, signal.SIGKILL)  # It would wait for an hour.
""",
        timeout=90,
    )
    assert any("was never confirmed" in note for note in out[0])
    assert out[1:] == ["0", "60", False]


def test_keys_that_cannot_cut_the_host_off_arm_nothing(ns) -> None:
    out = ns.python_json(
        PRELUDE
        + WAIT
        + """
done = tune.run(options(settings={"net.ipv4.tcp_fin_timeout": "25"}, deadman=10), check=False)
print(json.dumps([done["confirm_within"], os.path.exists(deadman.marker(FOLDER))]))
""",
    )
    assert out == [None, False]


def test_the_application_runs_with_the_oldest_python_s_ways_and_nothing_else(ns) -> None:
    """journal.pyz needs no module beside Python's own: an empty environment, isolated mode."""
    out = ns.python_json(
        PRELUDE
        + WAIT
        + """
before = snapshot()
tune.run(options(profile="inference"), check=False)
def call(*words):
    command = [sys.executable, "-I", FOLDER + "/journal.pyz", *words]
    return subprocess.run(command, env={}, cwd="/", capture_output=True, text=True)
shown = call("show")
listed = json.loads(call("show", "--json").stdout)
back = call("rollback")
print(json.dumps([shown.stdout, len(listed["objects"]), back.returncode, snapshot() == before, call("show").stdout]))
""",
    )
    assert "sysctl net.core.somaxconn: 4096 -> 65535" in out[0]
    assert out[1] > 10 and out[2] == 0 and out[3] is True
    assert out[4] == "nothing differs from its original\n"


def test_adaptive_buffers_double_under_traffic_and_shrink_no_further_than_the_default(ns) -> None:
    """Loopback traffic makes load; two samples agree, the third finds the kernel's value doubled, and the way back works."""
    flood = (
        "import socket, threading\n"
        "server = socket.create_server(('127.0.0.1', 9000))\n"
        "def drain():\n"
        "    connection = server.accept()[0]\n"
        "    while connection.recv(1 << 20): pass\n"
        "threading.Thread(target=drain, daemon=True).start()\n"
        "client = socket.create_connection(('127.0.0.1', 9000))\n"
        "print('ready', flush=True)\n"
        "data = bytes(1 << 16)\n"
        "while True: client.sendall(data)\n"
    )
    ns.start_python(flood)
    out = ns.python_json(
        PRELUDE
        + """
before = snapshot()
asked = dict(profile="own", adapt=True, adapt_window=0.3, link_mbit=100.0, flows=4)
from ansible_collections.netops.fleet.plugins.module_utils._tuning import adaptive, host
real = host.memory
host.memory = lambda: (real()[0], 0.9)  # The share of free memory is the machine's; here it is a free one.
sizes, packets = [], []
for _number in range(3):
    check = tune.run(options(**asked), check=True)
    done = tune.run(options(**asked), check=False)
    sizes.append(int(sysctl.read("net.ipv4.tcp_rmem").split()[2]))
    packets.append(done["ansible_facts"]["netops_fleet_adapt"]["decisions"][-1]["why"])
host.memory = lambda: (real()[0], 0.1)
for _number in range(8):
    tune.run(options(**asked), check=False)
low = int(sysctl.read("net.ipv4.tcp_rmem").split()[2])
tune.run(options(state="absent"), check=False)
print(json.dumps([sizes, packets, low, snapshot() == before]))
""",
        timeout=120,
    )
    sizes, why, low, restored = out
    assert sizes[1] == 2 * sizes[0] and sizes[2] == sizes[1], why
    assert "doubled" in why[1] and "kept" in why[0]
    assert low == sizes[0], "it shrinks to what was there before, and no further"
    assert restored is True


RELEASE = """
KEY = "net.ipv4.conf.all.arp_ignore"
before = snapshot()
tune.run(options(settings={KEY: "1", "net.ipv4.tcp_fin_timeout": "25"}, persist=False), check=False)
between = snapshot()
done = tune.run(options(persist=False, deadman=3600), check=False)
gone = snapshot() == before
for pid in timers(done["change"], "--after"):
    os.kill(pid, signal.SIGKILL)  # It would wait for an hour.
def expire():
    words = [sys.executable, FOLDER + "/journal.pyz", "expire"]
    return subprocess.run(words, stdout=subprocess.DEVNULL).returncode
"""


def test_giving_back_what_can_cut_the_host_off_is_taken_back_unless_confirmed(ns) -> None:
    out = ns.python_json(
        PRELUDE
        + WAIT
        + RELEASE
        + """
code = expire()
back = unlike(snapshot(), between)
tune.run(options(state="absent"), check=False)
print(json.dumps([done["confirm_within"], gone, code, back, unlike(snapshot(), before), deadman.armed(FOLDER)]))
""",
        timeout=90,
    )
    assert out == [3600, True, 0, [], [], None]


def test_giving_back_that_is_confirmed_stays(ns) -> None:
    out = ns.python_json(
        PRELUDE
        + WAIT
        + RELEASE
        + """
confirmed = [act.confirm(done["change"], False, FOLDER)["changed"] for _twice in range(2)]
code = expire()
again = tune.run(options(persist=False, deadman=3600), check=False)["changed"]
journal.KEEP_WHOLE = 0
tune.run(options(persist=False), check=False)
print(json.dumps([confirmed, code, snapshot() == before, again, os.path.exists(FOLDER + "/journal.jsonl")]))
""",
        timeout=90,
    )
    assert out == [[True, False], 0, True, False, False]


def test_the_way_back_to_the_originals_ends_the_wait_of_what_was_given_back(ns) -> None:
    out = ns.python_json(
        PRELUDE
        + WAIT
        + RELEASE
        + """
tune.run(options(state="absent"), check=False)
waiting = deadman.armed(FOLDER)
print(json.dumps([waiting, expire(), unlike(snapshot(), before), os.path.exists(FOLDER + "/journal.jsonl")]))
""",
        timeout=90,
    )
    assert out == [None, 0, [], False]


def test_a_change_that_is_undone_leaves_the_wait_of_what_was_given_back(ns) -> None:
    out = ns.python_json(
        PRELUDE
        + WAIT
        + RELEASE
        + """
other = tune.run(options(settings={"net.ipv4.tcp_syn_retries": "4"}, persist=False), check=False)
act.back({"owner": None, "force": False, "since": None, "change": other["change"]}, False, FOLDER)
waiting = deadman.armed(FOLDER)
expire()
print(json.dumps([waiting and waiting["changes"] == [done["change"]], unlike(snapshot(), between)]))
""",
        timeout=90,
    )
    assert out == [True, []]


def test_the_timer_moves_no_buffer_whose_value_was_given(ns) -> None:
    """Given at once, or later as the value that it has by then; the other one is still moved."""
    out = ns.python_json(
        PRELUDE
        + """
from ansible_collections.netops.fleet.plugins.module_utils._tuning import adapt, adaptive
adaptive.measure = lambda window: adapt.Sample(1.0, 1000000, 1448000000, 0.9)  # A busy host with memory to spare.
# systemd does not run here: what its timer would call is called by hand.
adaptive.timer_changes, adaptive.timer_objects = lambda folder, interval: [], lambda: []
asked = dict(adapt=True, adapt_interval=60, adapt_window=0.1, link_mbit=100.0, flows=4, persist=False)
values = lambda: [sysctl.read(key) for key, _send in adaptive.KEYS]
def ticks():
    for _number in range(3):
        assert adaptive.main(["--folder", FOLDER]) == 0
    return values()
both = {"net.ipv4.tcp_rmem": "4096 131072 6400000", "net.ipv4.tcp_wmem": "4096 16384 4200000"}
tune.run(options(settings=both, **asked), check=False)
given = [values(), ticks()]
tune.run(options(settings={"net.ipv4.tcp_rmem": both["net.ipv4.tcp_rmem"]}, **asked), check=False)
one = ticks()
now = dict(zip(both, one))
again = tune.run(options(settings=now, **asked), check=False)["changed"]
print(json.dumps([list(both.values()), given, one, again, ticks()]), flush=True)
""",
        timeout=120,
    )
    both, given, one, changed, later = out
    tokens = [[value.split() for value in values] for values in (both, *given, one, later)]
    assert tokens[1] == tokens[2] == tokens[0]
    assert tokens[3][0] == tokens[0][0] and int(tokens[3][1][2]) > 4_200_000, "the send buffer was not given any more"
    assert changed is False and tokens[4] == tokens[3]
