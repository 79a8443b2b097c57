# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This plugin util is PRIVATE to the collection. It can change at any time.
"""Text and file names that came from elsewhere, made safe to show and to write."""

from __future__ import annotations

import hashlib
import re

#: What an operator's terminal or browser could take for something else than text: control characters, line and
#: paragraph separators, marks that change the direction of writing, invisible ones, halves of surrogate pairs.
_UNSAFE = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_NAME = re.compile(r"[^A-Za-z0-9_.-]")
#: Longest file name made here, without its ending; file systems allow 255 bytes.
MAX_NAME = 180


def clean(value: object, limit: int = 2000) -> str:
    """The text of ``value`` on one line, unsafe characters written as ``\\x1b``, at most ``limit`` characters long."""
    text = value if isinstance(value, str) else str(value)
    if len(text) > limit:
        text = text[: max(limit - 1, 0)] + "…"
    if text.isascii() and text.isprintable():
        return text
    return _UNSAFE.sub(_escape, text).replace("\t", " ")


def _escape(found: re.Match[str]) -> str:
    code = ord(found.group())
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def safe_name(host: str) -> str:
    """A file name for an inventory name: no path, not hidden, bounded, different for different hosts.

    Everything outside ``A-Za-z0-9_.-`` is percent-encoded, so is a dot or a dash at the start. A name that gets too
    long (or is empty) ends in ``~`` and a hash. The way back is the envelope in the file, not the name.
    """
    encoded = _NAME.sub(lambda found: "".join(f"%{byte:02X}" for byte in found.group().encode("utf-8", "surrogatepass")), host)
    if encoded[:1] in (".", "-"):
        encoded = f"%{ord(encoded[0]):02X}{encoded[1:]}"
    if encoded and len(encoded) <= MAX_NAME:
        return encoded
    digest = hashlib.sha256(host.encode("utf-8", "surrogatepass")).hexdigest()[:24]
    return f"{encoded[: MAX_NAME - 25]}~{digest}"
