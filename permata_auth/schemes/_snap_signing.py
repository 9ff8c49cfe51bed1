"""SNAP's strings to sign, signatures and their verification: the same in both directions.

The rules are those of the national standard (Standar Nasional Open API Pembayaran, technical
and security standards), and of banks where it is silent.
"""

from __future__ import annotations

import binascii
import functools
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

#: How the bytes of a signature are written in its header.
ENCODINGS = ("base64", "hex")

_ORIGIN_AND_PATH = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?(?://[^/?#]*)?([^?#]*)(\?[^#]*)?")
_VERSION = re.compile(r"/v[0-9]+(?:\.[0-9]+)*(?=/|$)")


def token_message(client_id: str, timestamp: str) -> bytes:
    """Return the string to sign of a token request.

    Args:
        client_id: ``X-CLIENT-KEY``.
        timestamp: The very text of ``X-TIMESTAMP``.
    """
    return f"{client_id}|{timestamp}".encode()


def body_hash(canonical: bytes) -> str:
    """Return the hash that stands for a body: of nothing where there is none.

    Args:
        canonical: The body, after the canonicaliser.
    """
    return hashlib.sha256(canonical).hexdigest()


def call_message(
    method: str, path: str, token: str | None, canonical: bytes, timestamp: str
) -> bytes:
    """Return the string to sign of a call.

    Args:
        method: In any case; signed in upper case.
        path: As :func:`signed_path` returns it.
        token: The access token without ``Bearer``; None for the asymmetric signature.
        canonical: The body, after the canonicaliser.
        timestamp: The very text of ``X-TIMESTAMP``.
    """
    bearer = "" if token is None else f"{token}:"
    return f"{method.upper()}:{path}:{bearer}{body_hash(canonical)}:{timestamp}".encode()


@functools.lru_cache(maxsize=64)  # a program calls few URLs, over and over
def signed_path(url: str, signed_prefix: str | None = None, sign_query: bool = True) -> str:
    """Return the part of a URL that is signed, byte for byte as it is sent.

    Args:
        url: Absolute, or a path as it was received.
        signed_prefix: None for the path as it is. Else this text (``/`` alone is none at all) and
            the path from its version segment (``/v1.0``) on; a path without one stays as it is.
        sign_query: Whether the query is a part of it.
    """
    path, query = _ORIGIN_AND_PATH.match(url).groups()  # type: ignore[union-attr]  # as any text does
    if signed_prefix is not None:
        version = _VERSION.search(path)
        if version is not None:
            path = signed_prefix.rstrip("/") + path[version.start() :]
    return f"{path or '/'}{(query or '') if sign_query else ''}"


def symmetric_signature(client_secret: bytes, message: bytes) -> bytes:
    """Return the HMAC-SHA512, by the client secret as it is.

    Args:
        client_secret: The key.
        message: The string to sign.
    """
    return hmac.digest(client_secret, message, "sha512")


class SymmetricSigner:
    """Makes the signatures of one client secret: HMAC, with the key's share of it done once.

    By RFC 2104 section 2, since ``hmac`` has no way of keying once that costs less. Thread-safe.

    Args:
        client_secret: The key, as it is.
        algorithm: A hash function; SHA-512 by default, as the standard signs calls.
    """

    def __init__(
        self, client_secret: bytes, algorithm: Callable[[bytes], Any] = hashlib.sha512
    ) -> None:
        block = algorithm(b"").block_size
        key = client_secret
        if len(key) > block:
            key = algorithm(key).digest()
        key = key.ljust(block, b"\0")
        self._inner = algorithm(bytes(byte ^ 0x36 for byte in key))
        self._outer = algorithm(bytes(byte ^ 0x5C for byte in key))

    def signature(self, message: bytes) -> bytes:
        """Return the same as :func:`symmetric_signature`."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        signature: bytes = outer.digest()
        return signature


def asymmetric_signature(key: RSAPrivateKey, message: bytes) -> bytes:
    """Return the RSA signature: PKCS#1 v1.5 with SHA-256.

    Args:
        key: The private key.
        message: The string to sign.
    """
    return key.sign(message, *_rsa_sha256()[1:])


@functools.cache
def _rsa_sha256() -> tuple[Any, ...]:
    """Return the error of a wrong signature, the padding and the hash: imported when first used."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - needs an extra
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import padding  # noqa: PLC0415

    return InvalidSignature, padding.PKCS1v15(), hashes.SHA256()


def encoded(signature: bytes, encoding: str) -> str:
    """Return a signature as its header holds it.

    Args:
        signature: The bytes.
        encoding: ``base64`` (without line breaks) or ``hex``.
    """
    if encoding == "hex":
        return signature.hex()
    return binascii.b2a_base64(signature, newline=False).decode()


def decoded(signature: str, encoding: str) -> bytes | None:
    """Return the bytes of a signature as it was received; None for any other text.

    Strict, since a lenient decoder skips characters outside of base64, and so takes many texts for
    one.

    Args:
        signature: The text of the header.
        encoding: As in :func:`encoded`.
    """
    if encoding == "hex":
        return bytes.fromhex(signature) if re.fullmatch("([0-9a-fA-F]{2})+", signature) else None
    try:
        found = binascii.a2b_base64(signature)
    except ValueError:
        return None
    # The decoder skips characters that are no base64, and the last character may hold bits that
    # count for nothing: a text is taken only if encoding the bytes again gives the same text.
    return found if encoded(found, encoding) == signature else None


def is_symmetric_signature(
    signature: bytes, message: bytes, signers: Iterable[SymmetricSigner]
) -> bool:
    """Tell whether a signature was made by one of the signers, in a time that does not say which.

    Args:
        signature: As :func:`decoded` returns it.
        message: The string to sign.
        signers: Of the current secret, and while it changes of the one before.
    """
    is_one = False
    for signer in signers:
        is_one |= hmac.compare_digest(signer.signature(message), signature)
    return is_one


def is_asymmetric_signature(signature: bytes, message: bytes, keys: Iterable[RSAPublicKey]) -> bool:
    """Tell whether a signature was made with the private half of one of the keys.

    Args:
        signature: As :func:`decoded` returns it.
        message: The string to sign.
        keys: The public halves.
    """
    invalid_signature, *how = _rsa_sha256()
    for key in keys:
        try:
            key.verify(signature, message, *how)
        except invalid_signature:
            continue
        return True
    return False
