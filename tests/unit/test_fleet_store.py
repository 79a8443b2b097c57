# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run's folder is written and read back within bounds; nothing in it is believed."""

from __future__ import annotations

import gzip
import json
import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import schema, store
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet.text import MAX_NAME, clean, safe_name
from tests.unit import evidence_samples as samples

ROOT = Path(__file__).resolve().parents[2]


def read(folder: Path, host: str) -> store.Stored:
    return store.read_file(str(folder / (safe_name(host) + store.SUFFIX)), host)


@pytest.mark.parametrize("host", ["../x", "..", "", ".hidden", "-rf", "gpu-01", "käse\n", "a" * 300, "名" * 120, "a/b", "\ud800"])
def test_a_name_is_one_file_of_the_folder(host: str, tmp_path: Path) -> None:
    name = samples.put(tmp_path, host, samples.packed(samples.sealed(samples.host(1))))
    assert re.fullmatch(r"[A-Za-z0-9_%~][A-Za-z0-9_.%~-]*\.evidence\.gz", name)
    assert os.listdir(tmp_path) == [name]
    assert len(name) <= MAX_NAME + len(store.SUFFIX)
    back = read(tmp_path, host)
    assert (back.host, back.status) == (host, "ok")


@given(st.text(max_size=400), st.text(max_size=400))
def test_different_hosts_have_different_files(one: str, other: str) -> None:
    assert (safe_name(one) == safe_name(other)) == (one == other)


@given(st.text(st.characters(), max_size=200))
def test_cleaned_text_obeys_nobody(text: str) -> None:
    shown = clean(text, 5000)
    assert "\n" not in shown
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", shown)
    shown.encode("utf-8")


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    evidence = samples.sealed(samples.host(1))
    name = samples.put(tmp_path, "gpu-01", samples.packed(evidence), clock=(-0.1, 0.2))
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    back = read(tmp_path, "gpu-01")
    assert back.evidence == evidence
    assert back.envelope["clock"] == {"low": -0.1, "high": 0.2}
    head, line = gzip.decompress((tmp_path / name).read_bytes()).split(b"\n", 1)
    assert json.loads(head)["host"] == "gpu-01", "another gzip reader sees two lines"
    assert json.loads(line) == evidence


@pytest.mark.parametrize(
    ("received", "said"),
    [
        (b"", "cut off"),
        (b"plain text, no gzip", "not gzip"),
        (samples.packed({"schema": 1})[:-9], "cut off"),
        (gzip.compress(b"{not json", mtime=0), ""),
        (gzip.compress(b'{"schema": NaN}', mtime=0), "NaN"),
        (gzip.compress(b"[" * 100_000, mtime=0), ""),
        (gzip.compress(b"\xff\xfe", mtime=0), "utf-8"),
        (samples.packed({"schema": 1}) + gzip.compress(b"more", mtime=0), "behind its end"),
        (samples.packed(["schema"]), "must be a mapping"),
        (samples.packed({"schema": 2}), "reads 1"),
    ],
)
def test_what_is_no_evidence_is_invalid(tmp_path: Path, received: bytes, said: str) -> None:
    samples.put(tmp_path, "gpu-01", received)
    back = read(tmp_path, "gpu-01")
    assert (back.status, back.evidence) == ("invalid", None)
    assert said in back.reason


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ("peers_skipped", 5, "skipped peers that are no names"),
        ("peers_skipped", [{}], "skipped peers that are no names"),
        ("clock", {"low": "x", "high": 1}, "clock bounds"),
        ("groups", "gpu-nodes", "without groups"),
        ("status", "fine", "without a known status"),
    ],
)
def test_an_envelope_is_not_believed_either(tmp_path: Path, part: str, value: Any, said: str) -> None:
    name = samples.put(tmp_path, "gpu-01", samples.packed(samples.sealed(samples.host(1))))
    file = tmp_path / name
    envelope = store.read_head(str(file))
    file.write_bytes(gzip.compress(json.dumps({**envelope, part: value}).encode() + b"\n"))
    back = read(tmp_path, "gpu-01")
    assert (back.status, back.evidence) == ("invalid", None)
    assert said in back.reason


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MAX_EVIDENCE", 1 << 20)
    samples.put(tmp_path, "gpu-01", gzip.compress(b" " * (8 << 20)))
    assert "unpacks to more than 1048576 bytes" in read(tmp_path, "gpu-01").reason


def test_links_pipes_and_foreign_files_are_refused(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    name = samples.put(outside, "gpu-01", samples.packed(samples.sealed(samples.host(1))))
    run = tmp_path / "run"
    run.mkdir()
    (run / name).symlink_to(outside / name)
    assert read(run, "gpu-01").status == "invalid"
    os.mkfifo(run / f"gpu-02{store.SUFFIX}")
    assert "not a regular file" in read(run, "gpu-02").reason
    (outside / name).rename(run / f"gpu-03{store.SUFFIX}")
    assert "names another host" in read(run, "gpu-03").reason
    assert read(run, "gpu-04").status == schema.NO_ANSWER


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("findings",), {}, "findings: is a mapping, must be a list"),
        (("findings", 0, "severity"), "fatal", "critical, warning, info"),
        (("findings", 0, "fix"), "nft flush", "must be a list"),
        (("findings", 0, "summary"), "x" * 20_000, "20000 characters"),
        (("objects",), {"sysctl a": 1}, "objects.sysctl a"),
        (("objects",), {"k" * 2000: "v"}, "under a key"),
        (("coverage", 0, "status"), "fine", "ok, partial, failed, skipped"),
        (("sections", "hooks"), [1], "sections.hooks[0]"),
        (("sections", "sockets"), [], "must be a mapping"),
        (("answer", "verdict"), "fine", "blocked, open, unknown"),
        (("host",), {"hostname": ["x"]}, "host.hostname"),
        (("target",), {"proto": "tcp"}, "lacks port"),
        (("schema",), True, "reads 1"),
    ],
)
def test_the_schema_names_what_is_wrong(path: tuple[Any, ...], value: Any, said: str) -> None:
    evidence = samples.broken_fleet()["gpu-02"]
    assert schema.validate(evidence) == []
    place: Any = evidence
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert said in "; ".join(schema.validate(evidence))


def test_a_run_is_a_folder_of_its_own(tmp_path: Path) -> None:
    output = tmp_path / "out"
    first, one = store.make_run(str(output), samples.STARTED)
    second, two = store.make_run(str(output), samples.STARTED)
    assert re.fullmatch(r"\d{8}T\d{6}Z", one)
    assert two == f"{one}-2"
    assert stat.S_IMODE(os.stat(first).st_mode) == 0o700
    assert (output / "latest").resolve() == Path(second)
    assert (output / ".gitignore").read_text(encoding="utf-8") == "*\n"


def test_a_folder_named_latest_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "latest").mkdir()
    with pytest.raises(store.StoreError, match="must be a symbolic link or absent"):
        store.make_run(str(tmp_path), samples.STARTED)
    assert not (tmp_path / "latest").is_symlink()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 1, "hosts": {"a": "b"}, "id": "x", "started": 1}', '{"schema": 9}'])
def test_a_run_file_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text, encoding="utf-8")
    with pytest.raises(store.StoreError):
        store.read_run(str(tmp_path))


def test_files_of_other_slices_belong_to_the_run(tmp_path: Path) -> None:
    run = samples.run(tmp_path, {"gpu-01": samples.sealed(samples.host(1))})
    samples.put(tmp_path, "gpu-02", samples.packed(samples.sealed(samples.host(2))), groups=("other",))
    assert store.names(store.read_run(run.folder)) == {"gpu-01": ["gpu-nodes"], "gpu-02": ["other"]}


def test_the_version_is_the_collections() -> None:
    assert f"\nversion: {store.COLLECTION}\n" in (ROOT / "galaxy.yml").read_text(encoding="utf-8")
