"""Damage for good data, fast: every function takes a seeded generator and is repeatable."""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random
from typing import Any

MARKER = "zqxj7wvk"  #: part of everything that must not be shown

_SPLINTERS = [
    *(b'"', b"\\", b"'", b"{", b"}", b"[", b"]", b",", b":", b" ", b"\t", b"\n", b"\r", b"\r\n"),
    *(b"\x00", b"\x0b", b"\x0c", b"\x1f", b"\x7f", b"\x80", b"\xff", b"\xc0\x80", b"\xed\xa0\x80"),
    *(b"\xef\xbb\xbf", b"\xff\xfe", "é".encode(), "\u2028".encode(), "\U0001f600".encode()),
    *(b"\\u0000", b"\\ud800", b"\\udc00\\ud800", b"\\ud83d\\ude00", b"\\u000a", b"\\/", b"\\x"),
    *(b"null", b"true", b"NaN", b"Infinity", b"-Infinity", b"-0", b"1e999", b"1E-9", b"0x10"),
    *(b"9" * 30, b"9" * 5000, b"0.1", b"-1", b"[" * 40, b'{"a":' * 40, b"/**/", b"%0d%0a", b"%00"),
    *(b"\r\nX-Injected: 1", b"@", b"#", b"?", b"//", b"..", b":0", b"~", b"[::1]", b"%", b"\xa0"),
]
_ATOMS: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 900, 10800, 10**30, -(10**30), 0.5, -0.0, 1e300, 5e-324),
    *("", " ", "0", "900", "-1", "1e3", "٣", "x", "\n", "\r\n", "\x00", "é", "\ud800", "a b"),
    *([], {}, [[]], [{}], {"": None}, [None, 1, "x"]),
]


def pick(rng: Random, items: Sequence[Any]) -> Any:
    return items[int(rng.random() * len(items))]


def damaged(rng: Random, data: bytes, splinters: Sequence[bytes] = ()) -> bytes:
    """Return ``data`` after one to four random blows; now and then far larger than it was."""
    for _ in range(1 + int(rng.random() * 4)):
        at = int(rng.random() * (len(data) + 1))
        end = min(len(data), at + 1 + int(rng.random() ** 3 * 40))
        blow = int(rng.random() * 9)
        if blow == 0:
            data = data[:at] + data[end:]
        elif blow == 1:
            data = data[:at]
        elif blow == 2:
            data = data[:at] + bytes([int(rng.random() * 256)]) + data[at + 1 :]
        elif blow == 3:
            data = data[:at] + data[at:end] * 2 + data[end:]
        elif blow == 4 and splinters:
            data = data[:at] + pick(rng, splinters) + data[at:]
        elif blow == 5:
            start = int(rng.random() * (len(data) + 1))
            data = data[:at] + data[start : start + end - at] + data[at:]
        elif blow == 6 and rng.random() < 0.002:
            data = data[:at] + data[at:end] * 3000 + data[end:]
        elif blow == 7:
            data = data[:at] + data[end:] + data[at:end]
        else:
            data = data[:at] + pick(rng, _SPLINTERS) + data[at:]
    return data


def damaged_text(rng: Random, text: str, splinters: Sequence[bytes] = ()) -> str:
    """Return ``text`` after some blows; where they broke its UTF-8 it has lone surrogates."""
    return damaged(rng, text.encode(), splinters).decode(errors="surrogateescape")


def varied(rng: Random, value: Any, chance: float = 0.08) -> Any:
    """Return a JSON value with some of its parts replaced, dropped or doubled."""
    if rng.random() < chance:
        return pick(rng, _ATOMS)
    if isinstance(value, dict):
        return {
            _key(rng, key, chance): varied(rng, item, chance)
            for key, item in value.items()
            if rng.random() > chance / 2
        }
    if isinstance(value, list):
        items = [varied(rng, item, chance) for item in value if rng.random() > chance / 2]
        return items * 2 if rng.random() < chance / 2 else items
    return value


def _key(rng: Random, key: str, chance: float) -> str:
    return key if rng.random() > chance / 3 else pick(rng, ("", key.upper(), key + " ", "error"))


def document(rng: Random, seeds: Sequence[Any], splinters: Sequence[bytes] = ()) -> bytes:
    """Return the bytes of one of these JSON values: varied, written somehow, perhaps damaged."""
    value = varied(rng, pick(rng, seeds))
    indent = 1 if rng.random() < 0.1 else None
    text = json.dumps(value, ensure_ascii=rng.random() < 0.5, indent=indent)
    data = text.encode(errors="surrogatepass")
    return damaged(rng, data, splinters) if rng.random() < 0.5 else data
