"""The wrong forms in which the bank can call a merchant, one small function each.

====================  =============================================================================
missing               ``header``: left out
repeated              ``header``: sent twice
header                ``name, value``: sent so, beside a signature over the right one
method                ``method="GET"``: signed and sent
path                  ``path="/v1.0/nowhere"``: signed and sent, in place of the service's
body                  ``raw``: these bytes or this text, signed and sent
large                 ``bytes=65_537``: a JSON object of this size, signed and sent
grant_type            ``value="password"``: of a token request; None: left out
timestamp             ``value``: this text, signed and sent
stale                 ``seconds=301.0``: a timestamp so old, signed and sent; below 0: a future one
client                ``client_key="example-stranger"``: of a token request, signed and sent
token                 ``value=None``: this token, signed and sent; None: ours, one letter changed
expired_token         ours, used after its ``expiresIn`` has passed; blocks so long, 60 s at most
duplicate             ``is_replay=False``: a second call with the same X-EXTERNAL-ID, signed anew or
                      the same byte for byte; the second response is returned
signature             ``form``: a wrong signature, or its wrong text; see ``SIGNATURES``
====================  =============================================================================
"""

from __future__ import annotations

import base64
import hashlib
import inspect
import json
import math
import textwrap
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar

import attrs

from ..checks import CANONICALIZERS
from .checks import read_timestamp
from .draft import Draft, Headers

_T = TypeVar("_T")


def _unchanged(value: _T) -> _T:
    return value


@attrs.frozen(kw_only=True)
class Wrong:
    """The fault of a request, at the stage where it goes wrong."""

    drafted: Callable[[Draft], Draft] = _unchanged  #: signed and sent
    signed: Callable[[Draft], Draft] = _unchanged  #: signed, and not sent
    text: Callable[[str], str] = _unchanged  #: the signature's text
    headers: Callable[[Headers], Headers] = _unchanged  #: sent, and not signed
    is_repeated: bool = False
    is_replayed: bool = False
    is_late: bool = False

    @property
    def spoils_signature(self) -> bool:
        """Whether the signature alone is wrong."""
        return self.signed is not _unchanged or self.text is not _unchanged


def missing(*, header: str) -> Wrong:
    """Leave a header out.

    Args:
        header: Its name, in any case.
    """
    return Wrong(
        headers=lambda pairs: tuple(pair for pair in pairs if pair[0].lower() != header.lower())
    )


def repeated(*, header: str) -> Wrong:
    """Send a header twice."""

    def twice(pairs: Headers) -> Headers:
        return (*pairs, *(pair for pair in pairs if pair[0].lower() == header.lower()))

    return Wrong(headers=twice)


def header(*, name: str, value: str) -> Wrong:
    """Send this header, in place of the one that there is.

    Args:
        name: The header's.
        value: Its value.
    """
    without = missing(header=name).headers
    return Wrong(headers=lambda pairs: (*without(pairs), (name, value)))


def method(*, method: str = "GET") -> Wrong:
    """Use another method.

    Args:
        method: The HTTP method.
    """
    return Wrong(drafted=lambda draft: attrs.evolve(draft, method=method))


def path(*, path: str = "/v1.0/nowhere") -> Wrong:
    """Ask for another path.

    Args:
        path: With its query.
    """
    return Wrong(drafted=lambda draft: attrs.evolve(draft, target=path))


def body(*, raw: str | bytes) -> Wrong:
    """Send another body: no JSON, no object, duplicate keys, another encoding.

    Args:
        raw: Text is sent as UTF-8.
    """
    octets = raw.encode() if isinstance(raw, str) else raw
    return Wrong(drafted=lambda draft: attrs.evolve(draft, body=octets))


def large(*, bytes: int = 65_537) -> Wrong:  # noqa: A002 - the plainest name
    """Send a body of this size.

    Args:
        bytes: One more than receivers take by default.
    """
    return body(raw='{"x":"' + "x" * (bytes - 8) + '"}')


def grant_type(*, value: str | None = "password") -> Wrong:
    """Ask for a token by another grant, or by none.

    Args:
        value: The grant; None leaves it out.
    """
    return body(raw=json.dumps({} if value is None else {"grantType": value}))


def timestamp(*, value: str) -> Wrong:
    """Sign and send this timestamp.

    Args:
        value: Any ASCII.
    """
    return Wrong(drafted=lambda draft: attrs.evolve(draft, timestamp=value))


def stale(*, seconds: float = 301.0) -> Wrong:
    """Sign and send a timestamp that is so old.

    Args:
        seconds: One more than receivers allow by default; below 0 for the future.
    """
    if not math.isfinite(seconds):
        raise ValueError("seconds must be finite")

    def older(draft: Draft) -> Draft:
        moment = _moment(draft) - timedelta(seconds=seconds)
        return attrs.evolve(draft, timestamp=moment.isoformat(timespec="seconds"))

    return Wrong(drafted=older)


def _moment(draft: Draft) -> datetime:
    moment = read_timestamp(draft.timestamp, "any")
    assert moment is not None
    return moment


def client(*, client_key: str = "example-stranger") -> Wrong:
    """Ask for a token as another client.

    Args:
        client_key: X-CLIENT-KEY.
    """
    return Wrong(drafted=lambda draft: attrs.evolve(draft, client_key=client_key))


def token(*, value: str | None = None) -> Wrong:
    """Call with another token, as if it were ours.

    Args:
        value: The token; None: ours, one letter changed.
    """

    def other(draft: Draft) -> Draft:
        ours = draft.token or ""
        middle = len(ours) // 2  # the last letter of base64 may have bits that count for nothing
        changed = ours[:middle] + ("A" if ours[middle : middle + 1] != "A" else "B")
        return attrs.evolve(draft, token=changed + ours[middle + 1 :] if value is None else value)

    return Wrong(drafted=other)


def expired_token() -> Wrong:
    """Call with our token once its time is over."""
    return Wrong(is_late=True)


def duplicate(*, is_replay: bool = False) -> Wrong:
    """Call twice with one X-EXTERNAL-ID.

    Args:
        is_replay: Whether the second call is the same byte for byte, or signed anew.
    """
    return Wrong(is_repeated=True, is_replayed=is_replay)


def _hashed(make: Callable[[bytes], str]) -> Wrong:
    return Wrong(signed=lambda draft: attrs.evolve(draft, body_hash=make(draft.body)))


def _minified(body: bytes) -> bytes:
    return CANONICALIZERS["minify"](body)


def _sha(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _rewritten(**arguments: Any) -> Wrong:
    """Sign the hash of a body that was parsed and written anew."""
    return _hashed(lambda body: _sha(json.dumps(json.loads(body), **arguments).encode()))


def _changed(**change: Callable[[Draft], Any]) -> Wrong:
    """Sign a draft of which one field is another."""
    return Wrong(
        signed=lambda draft: attrs.evolve(
            draft, **{name: make(draft) for name, make in change.items()}
        )
    )


def _spaced(draft: Draft) -> Draft:
    return attrs.evolve(draft, body=b" " + draft.body)


def _other_kind(draft: Draft) -> str:
    return "symmetric" if draft.kind == "asymmetric" else "asymmetric"


def _as_utc(draft: Draft) -> str:
    return f"{_moment(draft).astimezone(timezone.utc):%Y-%m-%dT%H:%M:%SZ}"


def _as_hex(text: str) -> str:
    return base64.b64decode(text).hex()


#: Wrong signatures by name: a wrong string was signed, with a wrong key, or written wrongly.
SIGNATURES: dict[str, Wrong] = {
    "upper_hash": _hashed(lambda body: _sha(_minified(body)).upper()),
    "base64_hash": _hashed(
        lambda body: base64.b64encode(hashlib.sha256(_minified(body)).digest()).decode()
    ),
    "sha512_hash": _hashed(lambda body: hashlib.sha512(_minified(body)).hexdigest()),
    "newline_hash": _hashed(lambda body: _sha(_minified(body) + b"\n")),
    "strip_all_hash": _hashed(lambda body: _sha(CANONICALIZERS["strip_all"](body))),
    "raw_hash": attrs.evolve(_hashed(_sha), drafted=_spaced),
    "no_hash": _hashed(lambda body: ""),
    "other_body": _hashed(lambda body: _sha(body + b"{}")),
    "sorted_keys": _rewritten(sort_keys=True, separators=(",", ":")),
    "default_separators": _rewritten(),
    "bearer_in_token": _changed(token=lambda draft: f"Bearer {draft.token}"),
    "no_token": _changed(token=lambda draft: None),
    "host_in_path": _changed(target=lambda draft: f"https://merchant.invalid{draft.target}"),
    "trailing_slash": _changed(target=lambda draft: f"{draft.target}/"),
    "lower_method": _changed(method=lambda draft: draft.method.lower()),
    "milliseconds": _changed(timestamp=lambda draft: f"{draft.timestamp[:19]}.000+07:00"),
    "utc": _changed(timestamp=_as_utc),
    "other_timestamp": _changed(timestamp=lambda draft: "2025-09-11T15:24:18+07:00"),
    "other_client": _changed(client_key=lambda draft: "example-stranger"),
    "other_secret": _changed(secret=lambda draft: "example-other-secret"),
    "other_key": _changed(signer=lambda draft: "merchant"),
    "other_kind": _changed(kind=_other_kind),
    "hex": Wrong(text=_as_hex),
    "line_breaks": Wrong(text=lambda text: "\t".join(textwrap.wrap(text, 64))),
    "lower_case": Wrong(text=str.lower),
    "truncated": Wrong(text=lambda text: text[:-8]),
    "no_padding": Wrong(text=lambda text: text.rstrip("=")),
    "not_base64": Wrong(text=lambda text: "****"),
    "trailing_text": Wrong(text=lambda text: f"{text}****"),
}


def signature(*, form: str) -> Wrong:
    """Sign wrongly, or write the signature wrongly.

    Args:
        form: One of :data:`SIGNATURES`.
    """
    if form not in SIGNATURES:
        raise ValueError(f"unknown form {form!r}; known: {', '.join(SIGNATURES)}")
    return SIGNATURES[form]


FORMS: dict[str, Callable[..., Wrong]] = {
    "missing": missing,
    "repeated": repeated,
    "header": header,
    "method": method,
    "path": path,
    "body": body,
    "large": large,
    "grant_type": grant_type,
    "timestamp": timestamp,
    "stale": stale,
    "client": client,
    "token": token,
    "expired_token": expired_token,
    "duplicate": duplicate,
    "signature": signature,
}


def build(fault: str | None, arguments: Mapping[str, Any]) -> Wrong:
    """Return the wrong form of a fault; raise ValueError for a name or an argument unknown.

    Args:
        fault: One of :data:`FORMS`, or None for a right request.
        arguments: Those of the fault.
    """
    if fault is None:
        if arguments:
            raise ValueError(f"arguments of no fault: {', '.join(arguments)}")
        return Wrong()
    if fault not in FORMS:
        raise ValueError(f"unknown fault {fault!r}; known: {', '.join(FORMS)}")
    try:
        inspect.signature(FORMS[fault]).bind(**arguments)
    except TypeError as error:
        raise ValueError(f"fault {fault!r}: {error}") from None
    return FORMS[fault](**arguments)
