"""Second opinions, written from the protocol's text and sharing no code with the product."""

from __future__ import annotations

import base64
import calendar
import re
from typing import Any

DEEPEST = 100  #: nesting beyond which the product may say either that it is JSON or that it is not


class NotJSON(Exception):
    """The text is no JSON of RFC 8259, or says the same key twice."""


class TooDeep(Exception):
    """The text may be JSON, nested deeper than :data:`DEEPEST`."""


_SPACE = " \t\n\r"
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "/": "/"}
_WORDS = {"t": ("true", True), "f": ("false", False), "n": ("null", None)}


def parse(data: bytes) -> Any:
    """Parse JSON strictly: UTF-8 without a mark, no key twice, nothing that RFC 8259 lacks."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise NotJSON from None
    value, at = _value(text, _skip(text, 0), 0)
    if _skip(text, at) != len(text):
        raise NotJSON
    return value


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def _value(text: str, at: int, depth: int) -> tuple[Any, int]:
    if depth > DEEPEST:
        raise TooDeep
    first = text[at : at + 1]
    if first == "{":
        return _object(text, at + 1, depth)
    if first == "[":
        return _array(text, at + 1, depth)
    if first == '"':
        return _string(text, at + 1)
    if first in _WORDS:
        word, value = _WORDS[first]
        if text.startswith(word, at):
            return value, at + len(word)
        raise NotJSON
    number = _NUMBER.match(text, at)
    if number is None:
        raise NotJSON
    is_whole = number[1] is None and number[2] is None
    if is_whole and len(number[0]) > 4000:
        raise TooDeep  # Python reads no longer ones, other parsers do
    return (int if is_whole else float)(number[0]), number.end()


def _object(text: str, at: int, depth: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    at = _skip(text, at)
    if text[at : at + 1] == "}":
        return found, at + 1
    while True:
        if text[at : at + 1] != '"':
            raise NotJSON
        key, at = _string(text, at + 1)
        at = _skip(text, at)
        if key in found or text[at : at + 1] != ":":
            raise NotJSON
        found[key], at = _value(text, _skip(text, at + 1), depth + 1)
        at = _skip(text, at)
        if text[at : at + 1] == "}":
            return found, at + 1
        if text[at : at + 1] != ",":
            raise NotJSON
        at = _skip(text, at + 1)


def _array(text: str, at: int, depth: int) -> tuple[list[Any], int]:
    found: list[Any] = []
    at = _skip(text, at)
    if text[at : at + 1] == "]":
        return found, at + 1
    while True:
        item, at = _value(text, at, depth + 1)
        found.append(item)
        at = _skip(text, at)
        if text[at : at + 1] == "]":
            return found, at + 1
        if text[at : at + 1] != ",":
            raise NotJSON
        at = _skip(text, at + 1)


def _string(text: str, at: int) -> tuple[str, int]:
    parts: list[str] = []
    while True:
        plain = _PLAIN.match(text, at)
        assert plain is not None
        parts.append(plain[0])
        at = plain.end()
        if text[at : at + 1] == '"':
            return "".join(parts), at + 1
        if text[at : at + 1] != "\\":
            raise NotJSON
        character, at = _escape(text, at + 1)
        parts.append(character)


def _escape(text: str, at: int) -> tuple[str, int]:
    kind = text[at : at + 1]
    if kind in _ESCAPES:
        return _ESCAPES[kind], at + 1
    if kind != "u":
        raise NotJSON
    code = _four_digits(text, at + 1)
    if 0xD800 <= code < 0xDC00 and text[at + 5 : at + 7] == "\\u":
        low = _four_digits(text, at + 7)
        if 0xDC00 <= low < 0xE000:
            return chr(0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)), at + 11
    return chr(code), at + 5


def _four_digits(text: str, at: int) -> int:
    digits = text[at : at + 4]
    if not re.fullmatch(r"[0-9a-fA-F]{4}", digits):
        raise NotJSON
    return int(digits, 16)


def classify(payload: dict[str, Any]) -> str:
    """Classify a webhook (PROTOCOL section 3)."""
    if "error" in payload or any("statuses" in value for value in _values(payload)):
        return "delivery_receipt"
    for value in _values(payload.get("data")):
        for message in _list(value.get("messages")):
            if _dict(_dict(message).get("interactive")).get("type") == "nfm_reply":
                return "inbound_flow"
    return "ignored"


def _values(node: Any) -> list[dict[str, Any]]:
    return [
        _dict(_dict(change).get("value"))
        for entry in _list(_dict(node).get("entry"))
        for change in _list(_dict(entry).get("changes"))
    ]


def _dict(node: Any) -> dict[str, Any]:
    return node if isinstance(node, dict) else {}


def _list(node: Any) -> list[Any]:
    return node if isinstance(node, list) else []


def given_id(payload: dict[str, Any]) -> str | None:
    """Return the id that a webhook brings along, if it has one that may stand in a log."""
    for name in ("xid", "id"):
        text = payload.get(name)
        if isinstance(text, str) and 1 <= len(text) <= 200 and all(c.isprintable() for c in text):
            return text
    return None


def lifetime(expires_in: Any) -> float | None:
    """Return the seconds of an ``expires_in``, None if unsaid; raise ValueError if wrong."""
    if expires_in is None:
        return None
    if isinstance(expires_in, str):
        if expires_in.strip()[:1] == "-" or not any(each.isdecimal() for each in expires_in):
            raise ValueError
        if "_" in expires_in or "-" in expires_in or expires_in.strip()[:1] == ".":
            raise ValueError
        expires_in = float(expires_in)
    if expires_in is True or expires_in is False or not isinstance(expires_in, (int, float)):
        raise ValueError
    if expires_in <= 0:
        raise ValueError
    ten_years = 10 * 365.25 * 24 * 60 * 60
    return ten_years if expires_in > ten_years else float(expires_in)


def is_token(text: Any) -> bool:
    """Tell whether this may follow ``Bearer`` in a header."""
    return isinstance(text, str) and text != "" and all(33 <= ord(c) <= 126 for c in text)


def strip_all(body: bytes) -> bytes:
    """Drop every byte of white space."""
    kept = bytearray()
    for byte in body:
        if byte not in (0x20, 0x09, 0x0A, 0x0D, 0x0B, 0x0C):
            kept.append(byte)
    return bytes(kept)


def minify(body: bytes) -> bytes:
    """Drop JSON's white space where it is outside strings, byte by byte."""
    kept = bytearray()
    is_inside = is_escaped = False
    for byte in body:
        if is_inside:
            kept.append(byte)
            if is_escaped:
                is_escaped = False
            elif byte == 0x5C:
                is_escaped = True
            elif byte == 0x22:
                is_inside = False
        elif byte not in (0x20, 0x09, 0x0A, 0x0D):
            kept.append(byte)
            is_inside = byte == 0x22
    return bytes(kept)


_DATE = re.compile(
    r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), ([0-9]{2}) (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) "
    r"([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT"
)
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


def http_date(text: str) -> float | None:
    """Return the POSIX seconds of an IMF-fixdate (RFC 9110 section 5.6.7); None for all else.

    None for a year below 100 too: mail programs took it for one of a century nearer to them, and
    versions of Python differ in which of the two they read.
    """
    match = _DATE.fullmatch(text)
    if match is None:
        return None
    day, year, hour, minute, second = (int(match[i]) for i in (2, 4, 5, 6, 7))
    month = _MONTHS.index(match[3]) + 1
    if year < 100 or hour > 23 or minute > 59 or second > 59 or day < 1:
        return None
    if day > calendar.monthrange(year, month)[1]:
        return None
    return float(calendar.timegm((year, month, day, hour, minute, second)))


def is_same_base64(text: str, other: str) -> bool:
    """Tell whether two texts are the same bytes in base64, where both are base64 at all."""
    try:
        return base64.b64decode(text, validate=True) == base64.b64decode(other, validate=True)
    except ValueError:
        return False
