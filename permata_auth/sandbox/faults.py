"""The faults that the sandbox can inject, one small function each.

A fault is built from its arguments and gives an *effect*: a function of the request and of the
honest answer. An effect that never asks for the answer replaces the bank's work (nothing is issued
or delivered); one that asks lets the bank do it and then spoils the reply.
"""

from __future__ import annotations

import inspect
import json as jsonlib
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from http.client import responses
from typing import Any

import attrs

from .errors import error_reply
from .messages import Inbound, Reply, Wire, bank_error, json_reply

Effect = Callable[[Inbound, Callable[[], Reply]], Reply]

_MIB = 2**20
_MISSING: Any = object()


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _check_seconds(name: str, value: float) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    _check(is_number and math.isfinite(value) and value >= 0, f"{name} must be seconds >= 0")


def _check_status(value: int) -> None:
    _check(isinstance(value, int) and 200 <= value <= 599, "status must be 200 to 599")


def _check_size(value: int) -> None:
    _check(isinstance(value, int) and value > 0, "bytes must be a positive int")


def _octets(value: Any) -> bytes:
    """Return bytes as they are, text as UTF-8, and anything else as JSON."""
    if isinstance(value, bytes):
        return value
    return (value if isinstance(value, str) else jsonlib.dumps(value)).encode()


def status(
    *,
    status: int = 503,
    retry_after: float | str | None = None,
    body: Any = None,
    content_type: str | None = None,
) -> Effect:
    """Answer with this status; without a body (text, bytes or JSON), in the bank's error shape.

    Args:
        status: 200 to 599.
        retry_after: The ``Retry-After`` header, seconds or a date; None for none.
        body: Text, bytes or JSON; None for the bank's error shape.
        content_type: By default that of the bank's errors.
    """
    _check_status(status)
    headers = () if retry_after is None else (("Retry-After", str(retry_after)),)

    def effect(request: Inbound, _: Callable[[], Reply]) -> Reply:
        reply = attrs.evolve(_error(request, status), headers=headers)
        if body is not None:
            reply = attrs.evolve(reply, body=_octets(body))
        return attrs.evolve(reply, content_type=content_type or reply.content_type)

    return effect


def _error(request: Inbound, status: int) -> Reply:
    if status in (204, 304):
        return Reply(status=status)
    return error_reply(request, status, responses.get(status, "Error"))


def clock() -> Effect:
    """Answer as the bank does when this machine's clock or zone is off."""

    def effect(request: Inbound, _: Callable[[], Reply]) -> Reply:
        if request.is_snap:
            return error_reply(request, 401, "Unauthorized. [Timestamp]")
        return bank_error(403, "Invalid Timestamp Value")

    return effect


def redirect(*, location: str, status: int = 307) -> Effect:
    """Send the caller elsewhere.

    Args:
        location: The ``Location`` header.
        status: 301, 302, 303, 307 or 308.
    """
    _check(status in (301, 302, 303, 307, 308), "status must be a redirect")
    _check(location.isprintable() and location.isascii(), "location must be plain ASCII")
    return lambda request, answer: Reply(status=status, headers=(("Location", location),))


def drop() -> Effect:
    """Close the connection in an orderly way without a byte."""
    return lambda request, answer: Reply(status=0, wire=Wire(pieces=lambda head, body: ()))


def reset(*, at: str = "start") -> Effect:
    """Reset the connection: before the work, or amid the headers or the body of its answer.

    Args:
        at: "start", "headers" or "body".
    """
    pieces: dict[str, Callable[[bytes, bytes], Iterable[bytes]]] = {
        "start": lambda head, body: (),
        "headers": lambda head, body: (head[: len(head) // 2],),
        "body": lambda head, body: (head + body[: len(body) // 2],),
    }
    _check(at in pieces, f"at must be one of {sorted(pieces)}")
    wire = Wire(pieces=pieces[at], reset=True)

    def effect(_: Inbound, answer: Callable[[], Reply]) -> Reply:
        reply = Reply(status=0) if at == "start" else answer()
        return attrs.evolve(reply, wire=wire)

    return effect


def slow(*, seconds: float) -> Effect:
    """Do the work, then wait before the first byte of the reply.

    Args:
        seconds: The wait.
    """
    _check_seconds("seconds", seconds)
    return lambda request, answer: attrs.evolve(answer(), delay=seconds)


def drip(*, interval: float = 0.1, part: str = "body") -> Effect:
    """Send the headers and the body, or the body only, one byte at a time.

    Args:
        interval: The seconds between two bytes.
        part: "body", or "headers" for both.
    """
    _check_seconds("interval", interval)
    _check(part in ("headers", "body"), "part must be 'headers' or 'body'")

    def pieces(head: bytes, body: bytes) -> Iterator[bytes]:
        at_once, dripped = (b"", head + body) if part == "headers" else (head, body)
        yield at_once
        for index in range(len(dripped)):
            yield dripped[index : index + 1]

    wire = Wire(pieces=pieces, interval=interval)
    return lambda request, answer: attrs.evolve(answer(), wire=wire)


def headers(*, fields: Mapping[str, str | None]) -> Effect:
    """Do the work, and put these headers in place of its own; None leaves one out.

    Args:
        fields: Values by name.
    """
    for name, value in fields.items():
        text = f"{name}{value or ''}"
        _check(text.isprintable() and text.isascii(), "headers must be plain ASCII")
    added = tuple(fields.items())

    def effect(_: Inbound, answer: Callable[[], Reply]) -> Reply:
        reply = answer()
        return attrs.evolve(reply, headers=(*reply.headers, *added))

    return effect


def truncated() -> Effect:
    """Announce the whole body, send half of it and close."""
    wire = Wire(pieces=lambda head, body: (head + body[: len(body) // 2],))
    return lambda request, answer: attrs.evolve(answer(), wire=wire)


def huge(*, bytes: int = 100 * _MIB) -> Effect:  # noqa: A002 - the plainest name
    """Stream a 200 of about this many bytes of valid JSON."""
    _check_size(bytes)
    return _stream(-(-bytes // 65536))


def _stream(count: int) -> Effect:
    prefix, filler, suffix = b'{"access_token":"', b"x" * 65536, b'"}'

    def pieces(head: bytes, body: bytes) -> Iterator[bytes]:
        yield head + prefix
        for _ in range(count):
            yield filler
        yield suffix

    length = str(len(prefix) + count * len(filler) + len(suffix))
    reply = Reply(status=200, headers=(("Content-Length", length),), wire=Wire(pieces=pieces))
    return lambda request, answer: reply


def gzip_bomb(*, bytes: int = 100 * _MIB) -> Effect:  # noqa: A002 - the plainest name
    """Answer with a small gzip body that unpacks to about this many bytes of JSON white space."""
    _check_size(bytes)
    packer = zlib.compressobj(wbits=31)
    member = packer.compress(b" " * _MIB) + packer.flush()
    # A gzip file may be a sequence of members, so a bomb of any size is cheap to make.
    body = member * -(-bytes // _MIB)
    reply = Reply(status=200, body=body, headers=(("Content-Encoding", "gzip"),))
    return lambda request, answer: reply


def html() -> Effect:
    """Answer 200 with the page of some proxy or portal."""
    page = b"<!doctype html><html><body><h1>Maintenance</h1></body></html>"
    return lambda request, answer: Reply(status=200, body=page, content_type="text/html")


def empty(*, status: int = 200) -> Effect:
    """Answer with a body of no bytes.

    Args:
        status: 200 to 599.
    """
    _check_status(status)
    return lambda request, answer: Reply(status=status)


def json(
    *,
    body: Any = _MISSING,
    raw: str | bytes | None = None,
    json_fields: Mapping[str, Any] | None = None,
    drop_fields: Iterable[str] = (),
    status: int = 200,
) -> Effect:
    """Answer with this JSON value, this raw text, or the honest reply with some fields changed.

    Args:
        body: A JSON value.
        raw: Text or bytes, sent as they are.
        json_fields: Put in place of the honest reply's.
        drop_fields: Left out of the honest reply.
        status: 200 to 599.
    """
    _check_status(status)
    _check(body is _MISSING or raw is None, "give body or raw, not both")
    dropped = frozenset([drop_fields] if isinstance(drop_fields, str) else drop_fields)
    changed = dict(json_fields or {})
    if raw is not None:
        return lambda request, answer: Reply(status=status, body=_octets(raw))
    if body is not _MISSING:
        return lambda request, answer: json_reply(status, body)
    _check(bool(dropped or changed), "give body, raw, json_fields or drop_fields")
    return _edit(lambda fields: _without(fields | changed, dropped), status=status)


def _without(fields: dict[str, Any], dropped: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in dropped}


def _edit(change: Callable[[dict[str, Any]], dict[str, Any]], *, status: int) -> Effect:
    """Change the fields of an honest 200; let a refusal through as it is."""

    def effect(_: Inbound, answer: Callable[[], Reply]) -> Reply:
        reply = answer()
        if reply.status != 200:
            return reply
        document = change(jsonlib.loads(reply.body))
        return attrs.evolve(reply, status=status, body=jsonlib.dumps(document).encode())

    return effect


def encoding(*, encoding: str = "latin-1", charset: str = "utf-8") -> Effect:
    """Send the honest reply, plus a field of non-ASCII text, in another encoding than declared.

    Args:
        encoding: The one used.
        charset: The one declared.
    """
    try:
        "é".encode(encoding)
    except (LookupError, UnicodeError):
        raise ValueError("encoding must be one that Python knows and that has an é") from None

    def effect(_: Inbound, answer: Callable[[], Reply]) -> Reply:
        reply = answer()
        document = {**jsonlib.loads(reply.body), "note": "é"}
        text = jsonlib.dumps(document, ensure_ascii=False)
        content_type = f"application/json; charset={charset}"
        return attrs.evolve(reply, body=text.encode(encoding), content_type=content_type)

    return effect


FAULTS: dict[str, Callable[..., Effect]] = {
    "status": status,
    "clock": clock,
    "redirect": redirect,
    "drop": drop,
    "reset": reset,
    "slow": slow,
    "drip": drip,
    "headers": headers,
    "truncated": truncated,
    "huge": huge,
    "gzip_bomb": gzip_bomb,
    "html": html,
    "empty": empty,
    "json": json,
    "wrong_type": json,
    "encoding": encoding,
}


def build(fault: str, arguments: Mapping[str, Any]) -> Effect:
    """Return the effect of a fault; raise ValueError for a name or an argument that is unknown.

    Args:
        fault: One of :data:`FAULTS`.
        arguments: Those of the fault.
    """
    _check(fault in FAULTS, f"unknown fault {fault!r}; known: {', '.join(FAULTS)}")
    builder = FAULTS[fault]
    try:
        inspect.signature(builder).bind(**arguments)
    except TypeError as error:
        raise ValueError(f"fault {fault!r}: {error}") from None
    return builder(**arguments)
