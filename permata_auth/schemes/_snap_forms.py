"""The string to sign of a SNAP call, piece by piece, and the wrong forms that others have made."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import attrs

from . import _snap_signing as signing
from .canonical import CANONICALIZERS, canonical
from .explained import Explanation, Form, SignedCall, other_timestamps, rewritten, shown_bytes
from .jakarta import timestamp as now

if TYPE_CHECKING:
    from .snap import SnapCredentials

#: Makes the bytes of the signature of a message.
_Sign = Callable[[bytes], bytes]


@attrs.frozen(kw_only=True)
class _Parts:
    """The parts of a string to sign, in their order; None is left out."""

    method: str
    path: str
    token: str | None = attrs.field(repr=False)
    hash: str | None
    timestamp: str

    @property
    def message(self) -> bytes:
        parts = (self.method, self.path, self.token, self.hash, self.timestamp)
        return ":".join(part for part in parts if part is not None).encode()


def explain(
    credentials: SnapCredentials, signers: Mapping[str, _Sign], call: SignedCall
) -> Explanation:
    """Explain the signature of a call.

    Args:
        credentials: Their settings decide.
        signers: Make the signature of a message, by the kind of it.
        call: The call.
    """
    rule = call.canonicalizer or credentials.canonicalizer
    payload = canonical(call.body, rule)
    kind, carries_token = credentials.transaction_signature, credentials.needs_token
    parts = _Parts(
        method=call.method.upper(),
        path=signing.signed_path(call.url, credentials.signed_prefix, credentials.sign_query),
        token=call.token if carries_token else None,
        hash=signing.body_hash(payload),
        timestamp=call.timestamp or now(form=credentials.timestamp_form),
    )
    masked = attrs.evolve(parts, token=call.shown if carries_token else None)
    rows = {
        "Request": f"{call.method} {call.url}",
        "Signature": f"{kind}, in {credentials.signature_encoding}",
        "Signed path": parts.path,
        "Canonicalizer": rule,
        "Timestamp": parts.timestamp,
        "Payload": shown_bytes(payload),
        "Body hash": str(parts.hash),
        "String to sign": masked.message.decode(),
    }
    is_known = call.token is not None or not carries_token
    return Explanation(
        rows=rows,
        signature=signers[kind](parts.message) if is_known else None,
        encoding=credentials.signature_encoding,
        wrong=lambda: _wrong(credentials, signers, call, parts),
    )


def _wrong(
    credentials: SnapCredentials, signers: Mapping[str, _Sign], call: SignedCall, parts: _Parts
) -> Iterator[Form]:
    """Yield the known wrong forms, each with one mistake."""
    kind = credentials.transaction_signature
    for name, changed in _changes(parts, call):
        yield name, signers[kind](changed.message)
    login = signing.token_message(credentials.client_id, parts.timestamp)
    for signer, words in (("asymmetric", "private key"), ("symmetric", "client secret")):
        if signer not in signers:
            continue
        yield f"the string of a login, signed with the {words}", signers[signer](login)
        if signer != kind:
            own = attrs.evolve(parts, token=call.token if signer == "symmetric" else None)
            yield f"the {signer} signature", signers[signer](own.message)
            yield f"the string above, signed with the {words}", signers[signer](parts.message)
    if kind == "symmetric":
        yield from _wrong_hmacs(str(credentials.client_secret), parts.message)


def _changes(parts: _Parts, call: SignedCall) -> Iterator[tuple[str, _Parts]]:
    """Yield the strings to sign that have one part wrong."""
    changes: dict[str, dict[str, Any]] = {
        "hash": dict(_hashes(call.body)),
        "path": _paths(parts.path, call.url),
        "timestamp": other_timestamps(parts.timestamp),
        "method": {"the method in lower case": parts.method.lower()},
    }
    if parts.token is not None:
        changes["token"] = {
            "Bearer before the token": f"Bearer {parts.token}",
            "no token": None,
            "an empty token": "",
        }
    for part, wrong in changes.items():
        for name, text in wrong.items():
            yield name, attrs.evolve(parts, **{part: text})


def _hashes(body: bytes) -> Iterator[tuple[str, str | None]]:
    small = CANONICALIZERS["minify"](body)
    digest = hashlib.sha256(small)
    yield "a hash in upper case", digest.hexdigest().upper()
    yield "a hash in base64", base64.b64encode(digest.digest()).decode()
    yield "a hash by SHA-512", hashlib.sha512(small).hexdigest()
    yield "no hash", None
    yield "an empty hash", ""
    yield "the body in place of its hash", small.decode(errors="replace")
    for name, canonicalize in CANONICALIZERS.items():
        yield f"the body's hash after {name}", signing.body_hash(canonicalize(body))
    yield "a line feed after the minified body", signing.body_hash(small + b"\n")
    for name, text in rewritten(body).items():
        yield name, signing.body_hash(text)


def _paths(path: str, url: str) -> dict[str, str]:
    sent = url.partition("#")[0]
    bare, _, query = path.partition("?")
    return {
        "the host in the path": sent,
        "the host without its scheme in the path": sent.partition("://")[2],
        "a slash after the path": f"{path}/",
        "no slash before the path": path.removeprefix("/"),
        "the path without its query": signing.signed_path(url, None, False),
        "the whole path with its query": signing.signed_path(url),
        "the path from its version on": signing.signed_path(url, "/"),
        "the query sorted": f"{bare}?{'&'.join(sorted(query.split('&')))}",
        "the path and query decoded": unquote(path),
    }


def _wrong_hmacs(secret: str, message: bytes) -> Iterator[Form]:
    key = secret.encode()
    yield "an HMAC by SHA-256", hmac.digest(key, message, "sha256")
    yield "a line feed after the client secret", hmac.digest(key + b"\n", message, "sha512")
    spaced = secret.replace("+", " ").encode()
    yield "a + of the client secret as a space", hmac.digest(spaced, message, "sha512")
    decoders: dict[str, Callable[[str], bytes]] = {
        "base64": functools.partial(base64.b64decode, validate=True),
        "hex": bytes.fromhex,
    }
    for name, decode in decoders.items():
        with suppress(ValueError):
            key = decode(secret)
            yield f"the client secret decoded from {name}", hmac.digest(key, message, "sha512")
