# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Text of other programs without what may be a secret in it. Rather too much is taken out than too little."""

from __future__ import annotations

import re

_HIDDEN = "***"
_WORDS = (
    r"pass(?:word|wd|phrase|code)?|pwd|secret|token|api[-_ ]?key|auth(?:orization|enticator)?|cookie|credentials?"
    r"|private[-_ ]?key|session|signature|psk"
)
#: A value: quoted, or up to the next white space, comma or semicolon.
_VALUE = r"(\"[^\"]*\"|'[^']*'|[^\s,;]+)"
_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"-----BEGIN [^-]+-----.*", re.DOTALL), _HIDDEN),
    (re.compile(r"\b([a-z][a-z0-9+.-]*://)[^/\s@]+@", re.IGNORECASE), rf"\1{_HIDDEN}@"),
    (re.compile(r"([?&][^=\s&]+=)[^&\s\"']+"), rf"\1{_HIDDEN}"),
    (re.compile(r"\b(Bearer|Basic|Digest|Negotiate)\s+\S+", re.IGNORECASE), rf"\1 {_HIDDEN}"),
    # A word that names a secret, perhaps with more around it (db_password_file), what binds it to a value, and the value.
    (re.compile(rf"((?:{_WORDS})[\w.-]{{0,40}}[\"']?\s*(?:[:=]|\bis\b)\s*){_VALUE}", re.IGNORECASE), rf"\1{_HIDDEN}"),
    (re.compile(rf"(--?[\w-]{{0,40}}(?:{_WORDS})[\w-]{{0,40}}\s+)\S+", re.IGNORECASE), rf"\1{_HIDDEN}"),
    (re.compile(r"\beyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?"), _HIDDEN),
    # Keys and digests: long, of one alphabet, with a digit among them, which long words lack.
    (re.compile(r"\b(?=[A-Za-z+/_=-]*[0-9])[A-Za-z0-9+/_=-]{24,}"), _HIDDEN),
)


def redact(text: str, limit: int = 240) -> str:
    """One line of at most ``limit`` characters."""
    text = text[: 4 * limit]
    for pattern, instead in _RULES:
        text = pattern.sub(instead, text)
    line = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
