# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemctl and journalctl print (systemd 252), what is said of it, and what is taken out of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import services
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._evidence import services as reader
from ansible_collections.netops.fleet.plugins.module_utils._evidence.redact import redact
from tests.unit.hosts import healthy


def block(unit: str, active: str = "active", sub: str = "running", load: str = "loaded", **more: Any) -> str:
    given = {"Id": unit, "LoadState": load, "ActiveState": active, "SubState": sub, "Result": "success", "NRestarts": 0, **more}
    return "\n".join(f"{key}={value}" for key, value in {**given, "StateChangeTimestampMonotonic": 40_000_000}.items()) + "\n"


def told(why: str, *blocks: str, errors: tuple[str, ...] = ()) -> list[tuple[str, str, str]]:
    found = reader.units("\n".join(blocks), {str(number): why for number, _one in enumerate(blocks)}, 100.0)
    for one in found:
        one["errors"] = [{"ago_s": 5.0, "text": text} for text in errors]
    return [(one.id, one.severity, one.summary) for one in services.find(Facts(healthy(services={"units": found})))]


def test_what_runs_is_silent() -> None:
    assert told("table", block("ssh.service"), block("networking.service", sub="exited"), errors=("kex failed",)) == []
    assert told("named", block("nginx.service"), block("model-server.socket", sub="listening")) == []


@pytest.mark.parametrize(
    ("why", "said", "severity"),
    [
        ("table", block("nginx.service", "failed", "failed", Result="exit-code"), "warning"),
        ("named", block("nginx.service", "failed", "failed", Result="exit-code"), "critical"),
        ("target", block("nginx.service", "activating", "auto-restart", NRestarts=7), "critical"),
        ("table", block("nginx.service", "activating", "auto-restart", NRestarts=1), None),  # once is no loop
        ("table", block("nginx.service", "inactive", "dead"), None),  # installed, not wanted
        ("named", block("nginx.service", "inactive", "dead"), "critical"),
        ("table", block("nginx.service", "inactive", "dead", "not-found"), None),
        ("named", block("nginx.service", "inactive", "dead", "not-found"), "warning"),
        ("table", block("nginx.service", "inactive", "dead", "masked"), None),
    ],
)
def test_what_does_not_run(why: str, said: str, severity: str | None) -> None:
    assert [(name, grade) for name, grade, _summary in told(why, said)] == ([("service-failed", severity)] if severity else [])


def test_errors_of_what_was_asked_for() -> None:
    found = told("named", block("nginx.service"), errors=("bind() to 0.0.0.0:80 failed (98: Address already in use)",))
    assert [(name, severity) for name, severity, _summary in found] == [("service-errors", "info")]
    assert "Address already in use" in found[0][2]


def test_two_names_of_one_unit() -> None:
    """Debian's sshd.service is ssh.service; asked for by either name it counts as asked for."""
    found = reader.units(
        block("ssh.service") + "\n" + block("ssh.service"), {"ssh.service": "table", "sshd.service": "named"}, 100.0
    )
    assert [(one["unit"], one["why"], one["changed_ago_s"]) for one in found] == [("ssh.service", "named", 60.0)]


def test_lines_of_the_journal() -> None:
    lines = [
        {"MESSAGE": "dial tcp: connection refused password=hunter2", "__REALTIME_TIMESTAMP": "95000000"},
        {"MESSAGE": list(b"bytes\x1b[31m\xff"), "__REALTIME_TIMESTAMP": "99000000"},
        {"MESSAGE": None, "__REALTIME_TIMESTAMP": "99000000"},
    ]
    found = reader.errors("\n".join([*map(json.dumps, lines), "{", "[]"]), 100.0)
    assert [(one["ago_s"], one["text"]) for one in found] == [
        (5.0, "dial tcp: connection refused password=***"),
        (1.0, "bytes [31m�"),
    ]


SECRETS = [
    "DB_PASSWORD=hunter2hunter2 rest",
    'login failed {"api_key": "hunter2hunter2"}',
    "secret: 'hunter2hunter2', next",
    "GET http://admin:hunter2hunter2@db.example.com/",
    "GET /v1/models?key=hunter2hunter2&x=1",
    "Authorization: Bearer hunter2hunter2",
    "mysqld --password hunter2hunter2",
    "using token hunter2hunter2hunter2hunter2",
    "jwt eyJhbGciOi.hunter2hunter2.sig",
    "-----BEGIN PRIVATE KEY-----\nhunter2hunter2\n-----END PRIVATE KEY-----",
    "the password is hunter2hunter2",
    "Authorization: Token hunter2hunter2",
    'curl: > Proxy-Authorization: AWS4 Credential=me, Signature="hunter2hunter2"',
    "Set-Cookie: a=b; other=hunter2hunter2",
    "Bearer token hunter2hunter2",
    "amqp://guest:p@hunter2hunter2@host/",
    "amqp://guest:p/hunter2hunter2@host/",
    "dsn root:hunter2hunter2@tcp(192.0.2.1:3306)/db",
    "sshpass -p hunter2hunter2 ssh x",
    "mysql -u root -phunter2hunter2 -h db",
    "curl -s -u admin:hunter2hunter2 http://db/",
    "mysqld --password 'a hunter2hunter2' x",
    "password hunter2hunter2 rejected",
    "password=> hunter2hunter2",
    "password = a,hunter2hunter2",
    "the password was changed to hunter2hunter2",
    "\x1b[1mpassword\x1b[0m=hunter2hunter2",
    "<password>hunter2hunter2</password>",
    '{"m": "{\\"password\\": \\"a hunter2hunter2\\"}"}',
    'secret: "a \\" hunter2hunter2"',
    "secret key is: correct horse hunter2hunter2",
    "passphrase=two hunter2hunter2",
    "passphrase: two, three hunter2hunter2",
    "passphrase two hunter2hunter2 rejected",
    "login with passwd 'my hunter2hunter2' ok",
    "API key hunter2hunter2 refused",
    "Password for user bob: hunter2hunter2",
]


@pytest.mark.parametrize("text", SECRETS)
def test_secrets_are_taken_out(text: str) -> None:
    assert "hunter2" not in redact(text) and "***" in redact(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("password hunter2 rejected for bob", "password *** rejected for bob"),
        ("the password is hunter2", "the password is ***"),
        ("passphrase=two words user=bob", "passphrase=*** user=bob"),
        ("amqp://guest:p@ss@host/vhost", "amqp://***@host/vhost"),
        ("key AKIAIOSFODNN7EXAMPLE used", "key *** used"),
        ("password=x, user=bob", "password=***, user=bob"),
        ("Bearer abc failed", "Bearer *** failed"),
    ],
)
def test_what_stands_around_a_secret_stays(text: str, said: str) -> None:
    assert redact(text) == said


@pytest.mark.parametrize("filler", ["x", "x ", "x=y, "])
@pytest.mark.parametrize("behind", range(3))
def test_a_secret_that_is_cut_is_not_shown(filler: str, behind: int) -> None:
    """Rules need to see what surrounds a secret; a line is cut before they do, and is shorter behind them."""
    hidden = "?a=" + "b" * 900 + " "
    text = hidden + filler * behind + "amqp://guest:" + "hunter2" * 20 + "@host"
    assert "hunter2" not in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "connect to 192.0.2.7:443 failed: Connection refused",
        "bind [2001:db8:0:0:0:0:0:7]:80: Address already in use (98)",
        "Failed to start model-server.service - Model server for inference.",
        "a-long-host-name-without-any-number.cluster.example: no such host",
        'FATAL: password authentication failed for user "bob"',
        "Failed password for root from 192.0.2.9 port 22 ssh2",
        "Failed password for invalid user admin from 192.0.2.9 port 22 ssh2",
        "sudo: a password is required",
        "token is expired, login again",
        "the secret was not found in the store",
        "Unexpected token < in JSON at position 0",
        "enter passphrase for /etc/ssl/key.pem",
        "Basic authentication failed",
        "password prompt timed out",
        "API key is required",
        "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh",
        "GET http://proxy:3128/@scope/package 404",
        "GET http://[2001:db8::1]:80/a@b 404",
        "pulled nginx:1.27@sha256 by bob@example.com",
    ],
)
def test_what_an_operator_needs_stays(text: str) -> None:
    assert redact(text) == text


_NAMED = ["password", "db_password", "passwd", "passphrase", "secret", "client_secret", "token", "api key", "api_key", "API-Key"]
_BINDING = [" ", "=", ": ", ":", " = ", " is ", " is: ", " was ", "=>", '="', "='", ': "', '": "', " changed to "]
_AROUND = ["worker 7 failed", "on node-3", "rejected by", "user=bob", "for host", "code 500", "(111)", ""]


@given(
    st.sampled_from(_AROUND),
    st.sampled_from(_NAMED),
    st.sampled_from(_BINDING),
    # A digit at its end: no such word stands in an ordinary sentence. No quote: it would end a quoted value.
    st.from_regex(r"\A[A-Za-z0-9!#$%&*+.,;:=?()<>{}|/@^_~-]{5,40}[0-9]\Z"),
    st.sampled_from(_AROUND),
)
def test_planted_secrets_never_survive(before: str, name: str, binding: str, secret: str, after: str) -> None:
    closing = binding[-1] if binding[-1] in "\"'" else ""
    assert secret not in redact(f"{before} {name}{binding}{secret}{closing} {after}")


@given(
    st.sampled_from(["amqp", "https", "postgresql+psycopg"]),
    # Not as a port and a path, which the standard reads it as.
    st.from_regex(r"\A(?!\d{1,5}/)[A-Za-z0-9!$&*+,;=:/@._~-]{5,40}[a-z]\Z"),
    st.sampled_from(["", "connect ", 'url="']),
)
def test_passwords_of_urls_never_survive(scheme: str, secret: str, before: str) -> None:
    said = redact(f"{before}{scheme}://guest:{secret}@db.example/vhost failed")
    assert secret not in said and said.endswith("***@db.example/vhost failed")


_PLAIN = ["connection refused", "to node-3", "port 8080", "after 30 s", "(111)", "user bob", "10.0.0.7:443", "status=failed"]


@given(st.lists(st.sampled_from(_PLAIN), min_size=1, max_size=12))
def test_lines_without_secrets_are_unchanged(words: list[str]) -> None:
    assert redact(" ".join(words)) == " ".join(words)


@given(st.text(max_size=2000))
def test_whatever_is_logged_is_one_short_line(text: str) -> None:
    said = redact(text)
    assert len(said) <= 240 and said.isprintable()
    reader.errors(text, 1.0)
    reader.units(text, {"x": "named"}, 1.0)
