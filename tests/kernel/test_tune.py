# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Applying a plan to a real kernel: sysctl(8) says what is in force, ss(8) what sockets have."""

from __future__ import annotations

import pytest

from tests.kernel.tuning import PRELUDE

pytestmark = pytest.mark.kernel


def run(ns, code: str):
    return ns.python_json(PRELUDE + code)


def test_apply_second_run_and_way_back(ns) -> None:
    out = run(
        ns,
        """
before = snapshot()
given = dict(profile="inference", paths=[{"name": "peers", "rtt_ms": 2.0, "mbit": 100000}], flows=4, nofile=65536,
             services=["nginx"], pam=True)
check = tune.run(options(**given), check=True)
assert snapshot() == before, "check mode changed something"
assert not os.path.exists(FOLDER), "check mode left a folder"
first = tune.run(options(**given), check=False)
second = tune.run(options(**given), check=False)
shown = {key: subprocess.run(["sysctl", "-n", key], capture_output=True, text=True).stdout.split()
         for key in ("net.core.somaxconn", "net.ipv4.tcp_rmem", "net.ipv4.tcp_tw_reuse", "net.ipv4.tcp_fin_timeout")}
own = Path(sysctl_plan.FILE).read_text()
modes = [oct(os.stat(FOLDER).st_mode), oct(os.stat(FOLDER + "/journal.jsonl").st_mode)]
third = tune.run(options(state="absent"), check=True)
back = tune.run(options(state="absent"), check=False)
print(json.dumps({
    "same_list": check["changes"] == first["changes"], "same_diff": check["diff"] == first["diff"],
    "changed": [check["changed"], first["changed"]],
    "second": [second["changed"], second["changes"], second["diff"]], "shown": shown, "own": own, "modes": modes,
    "back": [third["changed"], back["changed"], len(third["changes"]), len(back["changes"]), len(first["changes"])],
    "restored": snapshot() == before, "again": tune.run(options(state="absent"), check=False)["changed"],
    "left": sorted(os.listdir(FOLDER)),
}))
""",
    )
    assert out["changed"] == [True, True] and out["same_list"] and out["same_diff"]
    assert out["second"] == [False, [], []]
    assert out["shown"]["net.core.somaxconn"] == ["65535"]
    assert out["shown"]["net.ipv4.tcp_tw_reuse"] == ["1"]
    assert out["shown"]["net.ipv4.tcp_fin_timeout"] == ["30"]
    # 2 * 100 Gbit/s * 2 ms = 50 MB, in steps of 64 KiB.
    assert out["shown"]["net.ipv4.tcp_rmem"][2] == str(-(-50_000_000 // 65536) * 65536)
    assert "net.core.somaxconn = 65535\n" in out["own"] and "net.core.rmem_max" not in out["own"]
    assert out["modes"] == ["0o40700", "0o100600"]
    assert out["back"][:2] == [True, True] and out["back"][2] == out["back"][3] == out["back"][4]
    assert out["restored"] and out["again"] is False
    assert "journal.jsonl" not in out["left"] and "history.jsonl" in out["left"]


def test_the_limits_of_ansible_tools_are_not_ours(ns) -> None:
    """One test per mistake in the field: missing keys, tabs, single numbers, other keys, invalid values in check mode."""
    out = run(
        ns,
        """
sysctl.write("net.ipv4.tcp_syn_retries", "6")
Path(sysctl_plan.FILE).write_text("net.ipv4.tcp_fin_timeout=\\t60\\nnet.ipv4.tcp_syn_retries = 3\\n")
os.chmod(sysctl_plan.FILE, 0o640)
gone = dict(settings={"net.ipv4.tcp_tw_recycle": "1", "net.ipv4.tcp_fin_timeout": "25"})
first = tune.run(options(**gone), check=False)
second = tune.run(options(**gone), check=False)
def error(check, **given):
    try:
        tune.run(options(**given), check)
    except tune.TuneError as found:
        return str(found)
    return None
before = snapshot()
print(json.dumps({
    "first": [first["changed"], first["skipped_keys"]], "second": second["changed"], "own": Path(sysctl_plan.FILE).read_text(),
    "fail": error(False, missing="fail", **gone),
    "one": [error(check, settings={"net.ipv4.tcp_rmem": "16777216"}) for check in (True, False)],
    "big": error(True, settings={"net.ipv4.tcp_rmem": "0 1 99999999999"}),
    "pair": error(True, settings={"net.ipv4.tcp_timestamps": "0", "net.ipv4.tcp_tw_reuse": "1"}),
    "nofile": error(True, nofile=10**9),
    "untouched": snapshot() == before,
    "other": sysctl.read("net.ipv4.tcp_syn_retries"),
    "absent": tune.run(options(state="absent"), check=False)["changed"],
    "foreign_file_back": [Path(sysctl_plan.FILE).read_text(), oct(os.stat(sysctl_plan.FILE).st_mode)],
    "fin": sysctl.read("net.ipv4.tcp_fin_timeout"),
}))
""",
    )
    assert out["first"][0] is True and "removed in Linux 4.12" in out["first"][1]["net.ipv4.tcp_tw_recycle"]
    assert out["second"] is False
    assert "tcp_tw_recycle" not in out["own"] and "tcp_syn_retries" not in out["own"]
    assert "removed in Linux 4.12" in out["fail"]
    assert all("has 1 part, it takes 3 numbers" in one for one in out["one"])
    assert "out of range" in out["big"]
    assert "needs time stamps" in out["pair"]
    assert "above fs.nr_open" in out["nofile"]
    assert out["untouched"]
    assert out["other"] == "6", "a key that nobody asked for was changed"
    assert out["absent"] is True
    assert out["foreign_file_back"] == ["net.ipv4.tcp_fin_timeout=\t60\nnet.ipv4.tcp_syn_retries = 3\n", "0o100640"]
    assert out["fin"] == "60"


def test_explicit_beats_the_profile_and_what_is_no_longer_wanted_returns(ns) -> None:
    out = run(
        ns,
        """
tune.run(options(profile="inference", settings={"net.ipv4.tcp_fin_timeout": "20", "net.ipv4.tcp_syn_retries": "4"}), check=False)
one = [sysctl.read("net.ipv4.tcp_fin_timeout"), sysctl.read("net.ipv4.tcp_syn_retries"), sysctl.read("net.core.somaxconn")]
only = options(settings={"net.ipv4.tcp_syn_retries": "4"})
check = tune.run(only, check=True)
real = tune.run(only, check=False)
two = [sysctl.read("net.ipv4.tcp_fin_timeout"), sysctl.read("net.ipv4.tcp_syn_retries"), sysctl.read("net.core.somaxconn")]
live = sorted(entry.target.name for entry in journal.Journal(FOLDER).live.values())
print(json.dumps([one, two, live, check["changes"] == real["changes"], tune.run(only, check=False)["changed"]]))
""",
    )
    assert out == [
        ["20", "4", "65535"],
        ["60", "4", "4096"],
        ["/etc/sysctl.d/zz-netops-fleet.conf", "net.ipv4.tcp_syn_retries"],
        True,
        False,
    ]


def test_a_foreign_file_that_wins_at_boot_is_named(ns) -> None:
    out = run(
        ns,
        """
Path("/etc/sysctl.d/zzz-vendor.conf").write_text("# vendor\\nnet.core.somaxconn = 128\\n")
Path("/etc/sysctl.d/10-old.conf").write_text("net.ipv4.tcp_fin_timeout = 90\\n")
first = tune.run(options(profile="inference"), check=False)
items = {item["key"]: item for item in first["plan"]}
again = tune.run(options(profile="inference"), check=False)
boots = [items[key]["boot"] for key in ("net.core.somaxconn", "net.ipv4.tcp_fin_timeout")]
print(json.dumps([first["warnings"], *boots, again["changed"], again["warnings"]]))
""",
    )
    warnings, boot, ours, changed, again = out
    assert len(warnings) == 1 and "zzz-vendor.conf line 2 sets 128, not 65535" in warnings[0]
    assert (boot["file"], boot["value"]) == ("/etc/sysctl.d/zzz-vendor.conf", "128")
    assert ours["file"] == "/etc/sysctl.d/zz-netops-fleet.conf"
    assert changed is False and again == warnings


def test_what_a_value_pulls_along_comes_back(ns) -> None:
    """ip_forward resets forwarding of every link: the way back restores each."""
    ns.run(["ip", "link", "add", "va", "type", "veth", "peer", "name", "vb"])
    out = run(
        ns,
        """
for name in ("net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding", "net.ipv4.conf.default.forwarding"):
    sysctl.write(name, "0")
sysctl.write("net.ipv4.conf.va.forwarding", "1")
before = snapshot()
tune.run(options(settings={"net.ipv4.ip_forward": "1"}), check=False)
during = [sysctl.read(f"net.ipv4.conf.{link}.forwarding") for link in ("va", "vb", "all")]
again = tune.run(options(settings={"net.ipv4.ip_forward": "1"}), check=False)["changed"]
tune.run(options(state="absent"), check=False)
after = snapshot()
print(json.dumps([during, again, [pair for pair in zip(before[0], after[0]) if pair[0] != pair[1]], before == after]))
""",
    )
    assert out == [["1", "1", "1"], False, [], True]


def test_a_value_that_does_not_take_is_taken_back_as_a_whole(ns) -> None:
    """A key without rules that the kernel refuses: everything that was written before it returns."""
    out = run(
        ns,
        """
before = snapshot()
try:
    tune.run(options(settings={"net.ipv4.tcp_fin_timeout": "25", "net.ipv4.tcp_reordering": "-1"}), check=False)
    told = None
except tune.TuneError as error:
    told = str(error)
print(json.dumps([told, snapshot() == before, list(journal.Journal(FOLDER).live)]))
""",
    )
    assert "is taken back" in out[0] and "net.ipv4.tcp_reordering" in out[0]
    assert out[1] is True and out[2] == []


def test_what_somebody_else_changed_since_is_left_alone(ns) -> None:
    out = run(
        ns,
        """
tune.run(options(settings={"net.ipv4.tcp_fin_timeout": "25", "net.ipv4.tcp_syn_retries": "4"}), check=False)
sysctl.write("net.ipv4.tcp_fin_timeout", "33")
back = tune.run(options(state="absent"), check=False)
one = [sysctl.read("net.ipv4.tcp_fin_timeout"), sysctl.read("net.ipv4.tcp_syn_retries")]
forced = tune.run(options(state="absent", force=True), check=False)
two = [sysctl.read("net.ipv4.tcp_fin_timeout"), sysctl.read("net.ipv4.tcp_syn_retries")]
print(json.dumps([back["warnings"], one, forced["warnings"], two]))
""",
    )
    assert len(out[0]) == 1 and "net.ipv4.tcp_fin_timeout" in out[0][0]
    assert out[1] == ["33", "6"]
    assert out[2] == [] and out[3] == ["60", "6"]


def test_sockets_that_keep_an_old_backlog_are_listed(ns) -> None:
    server = (
        "import socket, time\n"
        "a = socket.create_server(('127.0.0.1', 8001), backlog=100000)\n"
        "b = socket.create_server(('127.0.0.1', 8002), backlog=511)\n"
        "print('ready'); time.sleep(600)\n"
    )
    process = ns.start_python(server)
    out = run(
        ns,
        """
done = tune.run(options(profile="inference", nofile=1 << 20), check=False)
listed = subprocess.run(["ss", "-Hltn"], capture_output=True, text=True).stdout.split("\\n")
print(json.dumps([done["restart"], done["old_backlogs"], done["old_limits"], [line.split()[2:4] for line in listed if line]]))
""",
    )
    restart, backlogs, old, listed = out
    by_port = {one["port"]: one for one in backlogs}
    # ss shows a listener's backlog as its Send-Q: the witness.
    assert sorted(listed) == [["4096", "127.0.0.1:8001"], ["511", "127.0.0.1:8002"]]
    assert (by_port[8001]["backlog"], by_port[8002]["backlog"]) == (4096, 511)
    assert by_port[8001]["text"].endswith("to get backlog 65535: it listens with 4096 on port 8001")
    assert "own backlog" in by_port[8002]["text"]
    assert {one["pid"] for one in backlogs} == {process.pid}
    assert [one["pid"] for one in old] == [process.pid] and f"pid {process.pid} runs with" in old[0]["text"]
    assert len(restart) == 3


def test_what_the_kernel_rounds_is_taken_back_with_the_value_it_would_keep(ns) -> None:
    """Of milliseconds it keeps ticks; with a thousand ticks a second there is nothing to round."""
    found = ns.python_json(
        PRELUDE
        + """
name = "net.ipv4.icmp_ratelimit"
was = sysctl.read(name)
sysctl.write(name, "499")
kept = sysctl.read(name)
sysctl.write(name, was)
said = None
try:
    tune.run(options(settings={name: "499"}), check=False)
except tune.TuneError as error:
    said = str(error)
print(json.dumps([was, kept, said, sysctl.read(name)]))
"""
    )
    was, kept, said, now = found
    if kept == "499":
        assert said is None and now == "499"
    else:
        assert f"is {kept}, wanted 499" in said and f"set it to {kept})" in said and now == was


def test_two_changes_at_once_are_refused_with_owner_and_age(ns) -> None:
    out = run(
        ns,
        """
os.mkdir(FOLDER, 0o700)
with lock.Lock(FOLDER, "somebody"):
    child = os.fork()
    if child == 0:
        try:
            tune.run(options(settings={"net.ipv4.tcp_fin_timeout": "25"}), check=False)
            Path("/run/told").write_text("ran")
        except lock.Busy as error:
            Path("/run/told").write_text(str(error))
        os._exit(0)
    os.waitpid(child, 0)
after = tune.run(options(settings={"net.ipv4.tcp_fin_timeout": "25"}), check=False)["changed"]
print(json.dumps([Path("/run/told").read_text(), os.getpid(), after]))
""",
    )
    assert f"somebody (pid {out[1]})" in out[0] and " s now" in out[0]
    assert out[2] is True


@pytest.mark.alone  # a test beside this one may have the kernel load a module, or use one
def test_reading_a_plan_changes_nothing(ns) -> None:
    modules = ns.run(["sh", "-c", "cat /proc/modules 2>/dev/null || true"]).stdout
    out = run(
        ns,
        """
before = snapshot()
for profile in ("inference", "training", "gateway", "storage", "own"):
    far = [{"name": "far", "rtt_ms": 50.0, "mbit": 10000}]
    tune.run(options(state="planned", profile=profile, paths=far, connections=60000), check=False)
print(json.dumps([before == snapshot(), os.path.exists(FOLDER)]))
""",
    )
    assert out == [True, False]
    assert ns.run(["sh", "-c", "cat /proc/modules 2>/dev/null || true"]).stdout == modules


# --- hosts that are not like the others


def test_a_host_without_sysctl_d_gets_the_folder_and_loses_it_again(ns) -> None:
    out = run(
        ns,
        """
os.makedirs("/run/etc/systemd")
subprocess.run(["mount", "--bind", "/run/etc", "/etc"], check=True)
given = dict(settings={"net.ipv4.tcp_fin_timeout": "25"})
first = tune.run(options(**given), check=False)
kinds = [change["kind"] for change in first["changes"]]
there = [os.listdir("/etc/sysctl.d"), oct(os.stat("/etc/sysctl.d").st_mode)]
second = tune.run(options(**given), check=False)["changed"]
# Not persistent any more: file and folder go in one run.
third = tune.run(options(**given, persist=False), check=False)["changed"]
fourth = tune.run(options(**given, persist=False), check=False)["changed"]
gone = os.listdir("/etc")
tune.run(options(**given), check=False)
tune.run(options(state="absent"), check=False)
print(json.dumps([kinds, there, second, third, fourth, gone, os.listdir("/etc"), sysctl.read("net.ipv4.tcp_fin_timeout")]))
""",
    )
    assert out == [
        ["dir", "file", "sysctl"], [["zz-netops-fleet.conf"], "0o40755"], False, True, False, ["systemd"], ["systemd"], "60",
    ]  # fmt: skip


def test_a_read_only_etc_is_told_before_anything_is_changed(ns) -> None:
    out = run(
        ns,
        """
subprocess.run(["mount", "-o", "remount,ro", "/etc/sysctl.d"], check=True)
given = dict(settings={"net.ipv4.tcp_fin_timeout": "25"})
said = []
for check in (True, False):
    try:
        tune.run(options(**given), check=check)
    except tune.TuneError as error:
        said.append(str(error))
untouched = [sysctl.read("net.ipv4.tcp_fin_timeout"), os.path.exists(FOLDER + "/journal.jsonl")]
kernel_only = tune.run(options(**given, persist=False), check=False)["changed"]
again = tune.run(options(**given, persist=False), check=False)["changed"]
print(json.dumps([said, untouched, kernel_only, again, sysctl.read("net.ipv4.tcp_fin_timeout")]))
""",
    )
    assert len(out[0]) == 2 and all("read-only here. To change only the kernel, set persist: false" in line for line in out[0])
    assert out[1:] == [["60", False], True, False, "25"]


def test_a_container_with_read_only_parameters_is_left_as_it_is(ns) -> None:
    """/proc/sys read-only, as in a container without privileges: every key that would change is skipped with the reason."""
    out = run(
        ns,
        """
subprocess.run(["mount", "--bind", "/proc/sys", "/proc/sys"], check=True)
subprocess.run(["mount", "-o", "remount,bind,ro", "/proc/sys"], check=True)
first = tune.run(options(profile="inference", persist=False), check=False)
try:
    tune.run(options(settings={"net.core.somaxconn": "65535"}, missing="fail"), check=False)
    refused = None
except tune.TuneError as error:
    refused = str(error)
print(json.dumps([first["changed"], first["skipped_keys"]["net.core.somaxconn"], refused]))
""",
    )
    assert out[0] is False
    assert out[1] == "net.core.somaxconn: /proc/sys is mounted read-only here"
    assert "Nothing was changed" in out[2] and "mounted read-only" in out[2]


def test_parameters_of_a_link_with_a_dot_in_its_name_that_then_vanishes(ns) -> None:
    """IPv4 and IPv6; systemd-sysctl itself reads the file back; with the link gone the run and the way back still work."""
    out = run(
        ns,
        """
subprocess.run(["ip", "link", "add", "va.100", "type", "veth", "peer", "name", "vb"], check=True)
file4, file6 = "/proc/sys/net/ipv4/conf/va.100/rp_filter", "/proc/sys/net/ipv6/conf/va.100/accept_ra"
def now():
    return [Path(path).read_text().strip() for path in (file4, file6)]
given = dict(settings=tune._settings({"net/ipv4/conf/va.100/rp_filter": 2, "net.ipv6.conf.va/100.accept_ra": 0}))
first = tune.run(options(**given), check=False)["changed"]
applied = now()
Path(file4).write_text("0")
subprocess.run(["/usr/lib/systemd/systemd-sysctl"], check=True)
at_boot = now()
second = tune.run(options(**given), check=False)["changed"]
subprocess.run(["ip", "link", "del", "va.100"], check=True)
gone = tune.run(options(**given), check=False)
again = tune.run(options(**given), check=False)["changed"]
tune.run(options(state="absent"), check=False)
left = [len(journal.Journal(FOLDER).live), os.listdir("/etc/sysctl.d")]
print(json.dumps([first, applied, at_boot, second, sorted(gone["skipped_keys"]), again, *left]))
""",
    )
    assert out[:4] == [True, ["2", "0"], ["2", "0"], False]
    assert out[4] == ["net.ipv4.conf.va/100.rp_filter", "net.ipv6.conf.va/100.accept_ra"]
    assert out[5:] == [False, 0, []]


def test_what_another_key_still_needs_is_not_given_back(ns) -> None:
    out = run(
        ns,
        """
stamps, reuse = "net.ipv4.tcp_timestamps", "net.ipv4.tcp_tw_reuse"
sysctl.write(stamps, "0")
sysctl.write(reuse, "0")
tune.run(options(settings={stamps: "1", reuse: "1"}), check=False)
told = []
for check in (True, False):
    try:
        tune.run(options(settings={reuse: "1"}), check=check)
    except tune.TuneError as error:
        told.append(str(error))
kept = [sysctl.read(stamps), sysctl.read(reuse)]
tune.run(options(), check=False)
print(json.dumps([told, kept, sysctl.read(stamps), sysctl.read(reuse)]))
""",
    )
    told, kept, *back = out
    assert len(told) == 2 and told[0] == told[1]
    assert "needs time stamps" in told[0] and "tcp_timestamps is wanted no longer and returns to 0" in told[0]
    assert kept == ["1", "1"] and back == ["0", "0"]


def test_a_rollout_that_only_gives_back_is_taken_back(ns) -> None:
    """Nothing is wanted any more, all is at its original: the gate of the rollout still finds what was there before."""
    out = run(
        ns,
        """
from ansible_collections.netops.fleet.plugins.module_utils._safety import act
before = snapshot()
tune.run(options(settings={"net.ipv4.tcp_fin_timeout": "25", "net.ipv4.ip_forward": "1"}), check=False)
between, mark = snapshot(), journal.Journal(FOLDER).mark()
os.environ[journal.RUN] = "tune-1"
tune.run(options(persist=False), check=False)
del os.environ[journal.RUN]
released = snapshot() == before
given = {"owner": None, "change": None, "since": mark, "run": "tune-1", "force": False}
act.back(given, False, FOLDER)
taken_back = unlike(snapshot(), between)
tune.run(options(state="absent"), check=False)
print(json.dumps([released, taken_back, unlike(snapshot(), before), os.path.exists(FOLDER + "/journal.jsonl")]))
""",
    )
    assert out == [True, [], [], False]


FULL = """
os.mkdir(FOLDER, 0o700)
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "none", FOLDER], check=True)
FIN = "net.ipv4.tcp_fin_timeout"
def fill():
    # Not a byte is free then, nor is one in the journal's last page.
    with open(FOLDER + "/journal.jsonl", "ab") as file:
        file.write(b"\\n" * (-os.path.getsize(FOLDER + "/journal.jsonl") % os.sysconf("SC_PAGE_SIZE")))
    with open(FOLDER + "/fill", "ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
def attempt(**given):
    try:
        return tune.run(options(persist=False, **given), check=False)["changed"]
    except Exception as error:
        return f"{type(error).__name__}: {error}"
def free():
    os.unlink(FOLDER + "/fill")
"""


def test_a_disk_that_fills_up_in_the_middle_leaves_the_host_as_it_was(ns) -> None:
    """The values are written, the journal's last lines are not: the originals are known, so they return, and that is told."""
    out = run(
        ns,
        FULL
        + """
attempt(settings={FIN: "25"})
real, filled = tune._left, []
def left(*given):
    fill()
    return real(*given)
tune._left = left
told = attempt(settings={FIN: "26", "net.ipv4.ip_forward": "1"}, deadman=3600)
now = [sysctl.read(FIN), sysctl.read("net.ipv4.ip_forward")]
tune._left = real
again = attempt(settings={FIN: "27"})
kept = sysctl.read(FIN)
command = subprocess.run([sys.executable, FOLDER + "/journal.pyz", "rollback"], capture_output=True, text=True)
back = sysctl.read(FIN)
free()
problems = journal.Journal(FOLDER).problems
later = subprocess.run([sys.executable, FOLDER + "/journal.pyz", "rollback"], capture_output=True, text=True)
shown = [deadman.armed(FOLDER), os.path.exists(FOLDER + "/journal.jsonl")]
print(json.dumps([told, now, again, kept, command.returncode, command.stdout, back, problems, later.returncode, shown]))
""",
    )
    told, now, again, kept, code, said, back, problems, later, shown = out
    assert told.startswith("ChangeError: It did not take and is taken back: ") and "No space left on device" in told
    assert "what was taken back is not noted in it" in told and now == ["25", "0"]
    assert again.startswith("JournalError: ") and "No space left" in again and kept == "25"
    # The way back needs no space but to say so.
    assert back == "60" and code == 1 and "failed: file /var/lib/netops.fleet/journal.jsonl what was taken back" in said
    assert problems == [] and later == 0 and shown == [None, False]


def test_a_disk_that_fills_up_before_a_file_is_written_leaves_the_host_as_it_was(ns) -> None:
    out = run(
        ns,
        FULL
        + """
subprocess.run(["mount", "--bind", FOLDER, "/etc/sysctl.d"], check=True)
before = sysctl.read("net.core.somaxconn")
begin = journal.Journal.begin
def full(*given, **more):
    change = begin(*given, **more)
    fill()
    return change
journal.Journal.begin = full
try:
    told = str(tune.run(options(profile="inference"), check=False)["changed"])
except tune.TuneError as error:
    told = str(error)
print(json.dumps([told, before == sysctl.read("net.core.somaxconn"), sysctl.read("net.ipv4.tcp_fin_timeout")]))
""",
    )
    assert "It did not take and is taken back: file /etc/sysctl.d/zz-netops-fleet.conf" in out[0] and "No space left" in out[0]
    assert out[1:] == [True, "60"]


#: Runs modules as Ansible does: their answers, in the order of what was asked. Defines tell().
_MODULES = """
import contextlib, importlib, io
from ansible.module_utils import basic
def tell(module, **given):
    basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = json.dumps({"ANSIBLE_MODULE_ARGS": given}).encode(), "legacy"
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        importlib.import_module(f"ansible_collections.netops.fleet.plugins.modules.{module}").main()
    return json.loads(out.getvalue())
fin = lambda: subprocess.run(["sysctl", "-n", "net.ipv4.tcp_fin_timeout"], capture_output=True, text=True).stdout.strip()
"""


@pytest.mark.parametrize("module", ["sysctl_tuning", "irq_affinity", "nic_settings", "huge_pages", "service_placement"])
def test_a_journal_that_cannot_be_written_is_told_by_each_module(ns, module: str) -> None:
    out = run(
        ns,
        _MODULES
        + f"""
os.mkdir(FOLDER, 0o700)
subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,mode=700", "none", FOLDER], check=True)
before = fin()
given = {{"settings": {{"net.ipv4.tcp_fin_timeout": int(before) + 1}}, "persist": False}}
print(json.dumps([tell({module!r}, **(given if {module!r} == "sysctl_tuning" else {{}})), fin() == before]))
""",
    )
    answer, same = out
    assert same and answer["failed"] and "exception" not in answer
    assert answer["msg"].startswith("Nothing was changed. ") and "Read-only file system" in answer["msg"]


def test_a_journal_s_command_that_cannot_be_made_stops_the_change_before_its_first_write(ns) -> None:
    answer, same = run(
        ns,
        _MODULES
        + """
from ansible_collections.netops.fleet.plugins.module_utils._safety import portable
portable._source = lambda name: None
before = fin()
given = {"settings": {"net.ipv4.tcp_fin_timeout": int(before) + 1}, "persist": False}
print(json.dumps([tell("sysctl_tuning", **given), fin() == before]))
""",
    )
    assert same and answer["failed"] and "exception" not in answer
    assert answer["msg"].startswith("Nothing was changed. ") and "cannot be found" in answer["msg"]
