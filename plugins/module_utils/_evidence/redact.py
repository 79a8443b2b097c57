# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Text of other programs without what may be a secret in it. Rather too much is taken out than too little."""

from __future__ import annotations

import re
from functools import lru_cache

_HIDDEN = "***"
_WORDS = (
    r"pass(?:word|wd|[-_ ]?phrase|code)?|pwd|secret|token|api[-_ ]?key|auth(?:orization|enticator)?|cookie|credentials?"
    r"|private[-_ ]?key|access[-_ ]key|session|signature|psk"
)
#: Words that a secret follows also without a sign between: "password hunter2 rejected".
_SPOKEN = r"pass(?:word|wd|[-_ ]?phrase|code)|secret(?:[-_ ](?:access[-_ ])?key)?|token|api[-_ ]?key|access[-_ ]key|psk"
#: What may stand between such a word and the secret. All of these are among the harmless words, too.
_LINKS = "is|was|are|now|set|reset|changed|updated|to|as|of|be|equals|value|string|used|given|provided|supplied|entered|sent"
#: What follows such a word in ordinary sentences, and is no secret.
_ORDINARY = """
a an the this that these your my its their our any no not none nor and or but if as at by for from in into of on to via with
without within per when while until after before because then than which who is was are be been being has have had must should
shall may might can could cannot can't won't will would does doesn't did didn't do don't only also already still never now
again yet
auth authenticate authenticated authenticating authentication authenticator authenticators authorization authorized unauthorized
failed failure failures fails failing rejected rejecting accepted denied refused invalid invalidated valid incorrect wrong bad
missing mismatch mismatched mismatches match matches matched found unknown unsupported supported deprecated disabled enabled
required requires require need needed needs expired expires expiry expiration expire expiring expected unexpected
prompt prompts prompting prompted change changes changed changing reset resets set unset empty blank too long short weak lacks
file files path directory policy policies rotation rotated manager management store storage vault based hash hashes hashed hashing
field fields parameter parameters option options value values string strings name names id ids type types format length size
protected provided supplied given used using use uses entered sent received returned presented request requests requested response
error errors warning check checks checked checking verification verified verify validation validated validate lookup review
successful successfully succeeded success ok equals update updated updates renew renewed renewal renewing refresh refreshed
refreshing issued issuer revoked created creating deleted removed added adding generated generating generation generate encrypted
encryption decrypted decryption decrypt loaded loading read reading written stored saved cached cache fetch fetched retrieved
unavailable obtained available exists exist gone ignored skipped attempt attempts retry retries exchange endpoint server service
client agent account accounts access database provider plugin plugins controller operator user users username login logins logon
key keys password passwords passphrase secret secrets token tokens bucket buckets count limit limits mode data backend source
helper
"""
_HARMLESS = rf"[(\[<]*(?:[\"'](?=\w+[\"']))?(?:{'|'.join(_ORDINARY.split())})[.,:;!?)\]\"'>]*(?:\s|\Z)"
#: A value that is quoted (perhaps within a quoted text, or cut before its end), or up to white space. A comma or semicolon ends
#: one only at the end of a word: within one it may be part of the secret.
_QUOTED = (
    r"(?:\\+\".*?(?:\\+\"|\Z)|\"(?:\\.|[^\"\\])*(?:\"|\Z)|'(?:\\.|[^'\\])*(?:'|\Z))"
    r"(?:[^\s,;:}\])<>\"'\\]\S*)?"  # what is glued to its end: the quotes were a part of it
)
_VALUE = rf"(?:{_QUOTED}|(?:[^\s,;]|[,;](?!\s|\Z))+)"
#: More words of a value of several, up to what is said about it, or the next name=value.
_MORE = rf"(?:[^\S\n]+(?!{_HARMLESS}|[\w.-]+=)\S+)*"
#: What binds a name to a value; the name may be quoted, or coloured, of which the number is left.
_SIGN = r"(?:\\*[\"'\]]|\s\[[\d;]*m)*\s*(?:[:=]+>?|->|>)\s*"
_RULES = (
    (r"-----BEGIN [^-]+-----.*", _HIDDEN),
    # Up to the last @, of a name without a password the last one before the host: a password may have @ and / in it, but what
    # looks like a port and a path is one.
    (r"\b([a-z][a-z0-9+.-]*://)(?:[^\s/?#:@\[]*:(?!\d{1,5}[/?#])\S*|[^\s/?#]*)@", rf"\1{_HIDDEN}@"),
    (r"\b[\w.%+-]+:\S+(@(?:tcp|tcp6|unix)\()", rf"{_HIDDEN}\1"),
    (r"([?&][^=\s&]+=)[^&\s\"']+", rf"\1{_HIDDEN}"),
    (r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}", _HIDDEN),
    # Of these headers the rest of the line.
    (r"\b(authorization\\*[\"']?\s*[:=]\s*)[^\n]+", rf"\1{_HIDDEN}"),
    (r"\b((?:set-)?cookie\\*[\"']?\s*:\s*)[^\n]+", rf"\1{_HIDDEN}"),
    (rf"\b(Bearer|Basic|Digest|Negotiate)\s+(?!{_HARMLESS})\S+", rf"\1 {_HIDDEN}"),
    (rf"((?<![\w-])--?[\w-]{{0,40}}(?:{_WORDS})[\w-]{{0,40}}\s+){_VALUE}", rf"\1{_HIDDEN}"),
    (rf"(\b(?:sshpass|(?:mysql|mariadb|mongo)[\w-]*)\s(?:[^\n|]*?\s)?-p\s*){_VALUE}", rf"\1{_HIDDEN}"),
    (rf"(\bcurl\s(?:[^\n|]*?\s)?(?:-u|--user)[\s=]*){_VALUE}", rf"\1{_HIDDEN}"),
    (rf"(pass[-_ ]?phrase[\w.-]{{0,40}}{_SIGN})(?:{_QUOTED}|[^\n]*?(?=\s+[\w.-]+=|\n|\Z))", rf"\1{_HIDDEN}"),
    # A word that names a secret, perhaps with more around it (db_password_file), what binds it to a value, and the value.
    (rf"((?:{_WORDS})[\w.-]{{0,40}}{_SIGN}){_VALUE}", rf"\1{_HIDDEN}"),
    # The same in a sentence: "the secret key is: a b c", "password changed to x", "passphrase a b c".
    (
        rf"((?:{_WORDS}|{_SPOKEN})\b[\"']?(?:\s+(?:{_LINKS})\b)+)(\s*:+\s*|\s+(?!{_HARMLESS}))(?:{_QUOTED}|{_VALUE}{_MORE})",
        rf"\1\2{_HIDDEN}",
    ),
    (rf"(pass[-_ ]?phrase\b[\"']?\s+)(?!{_HARMLESS})(?:{_QUOTED}|{_VALUE}{_MORE})", rf"\1{_HIDDEN}"),
    (
        rf"((?:{_SPOKEN})\s+(?:for|of)\s+(?:user\s+)?\S+?(?::|\s+is)\s+)(?!{_HARMLESS}){_VALUE}",
        rf"\1{_HIDDEN}",
    ),
    # A single sign is none: "unexpected token < in JSON".
    (rf"((?:{_SPOKEN})\b[\"']?\s+)(?!{_HARMLESS}|[^\w\s](?:\s|\Z)){_VALUE}", rf"\1{_HIDDEN}"),
    (r"\beyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?", _HIDDEN),
    # Keys and digests: long, of one alphabet, with a digit among them, which long words lack.
    (r"\b(?=[A-Za-z+/_=-]*[0-9])[A-Za-z0-9+/_=-]{24,}", _HIDDEN),
)


@lru_cache(maxsize=None)
def _rules() -> tuple[tuple[re.Pattern[str], str], ...]:
    """Made at first use: that takes a tenth of a second, and most hosts have nothing to redact."""
    return tuple((re.compile(pattern, re.IGNORECASE | re.DOTALL), instead) for pattern, instead in _RULES)


def redact(text: str, limit: int = 240) -> str:
    """One line of at most ``limit`` characters."""
    text = _plain(text, 4 * limit)
    for pattern, instead in _rules():
        text = pattern.sub(instead, text)
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def _plain(text: str, most: int) -> str:
    """Printable text and line ends. Of a text that is cut, the last word goes: half of a secret is not known for one."""
    cut = text[:most]
    if len(text) > most and not text[most].isspace() and not cut[-1].isspace():
        cut = cut[: len(cut) - len(cut.split()[-1])] or cut
    return "".join(one if one.isprintable() or one == "\n" else " " for one in cut)
