"""Access tokens for the bank: they carry their own expiry, so that no worker has to store them."""

from __future__ import annotations

import functools
import hashlib
import hmac
import secrets

from .. import _clock
from ..schemes._snap_signing import SymmetricSigner

_RANDOM_BYTES = 16
_EXPIRY_CHARS = 16  # POSIX microseconds
_HEAD_CHARS = _EXPIRY_CHARS + 2 * _RANDOM_BYTES
_TOKEN_CHARS = _HEAD_CHARS + 64  # a MAC of 32 bytes


def derived_key(secret: bytes, client_key: str) -> SymmetricSigner:
    """Return the key that signs tokens, for this purpose and client alone (HKDF-SHA256, RFC 5869).

    Args:
        secret: A client secret, or a key that is kept for tokens.
        client_key: The X-CLIENT-KEY of the bank.
    """
    extracted = hmac.digest(b"permata-auth", secret, "sha256")
    info = f"snap inbound token\n{client_key}".encode()
    return SymmetricSigner(hmac.digest(extracted, info + b"\x01", "sha256"), hashlib.sha256)


def issue(key: SymmetricSigner, life_secs: float) -> str:
    """Return a new token: 112 hexadecimal digits, of which 128 bits are random.

    Args:
        key: As :func:`derived_key` returns it.
        life_secs: How long it lives.
    """
    expiry = round((_clock.wall() + life_secs) * 1_000_000)
    head = f"{expiry:016x}{secrets.token_hex(_RANDOM_BYTES)}"
    return head + key.signature(head.encode()).hex()


def is_valid(token: str, keys: tuple[SymmetricSigner, ...]) -> bool:
    """Tell whether a token was issued with one of the keys, and lives.

    Args:
        token: As it was received, any text.
        keys: The current one, and those before it.
    """
    # Other texts than ASCII are nothing that compare_digest() takes.
    is_readable = len(token) == _TOKEN_CHARS and token.isascii()
    return is_readable and _clock.wall() * 1_000_000 < _expiry(token, keys)


@functools.lru_cache(maxsize=64)  # the bank has one token for the calls of many minutes
def _expiry(token: str, keys: tuple[SymmetricSigner, ...]) -> int:
    """Return when a token ends, in POSIX microseconds; 0 for one that was not issued here."""
    head, mac = token[:_HEAD_CHARS], token[_HEAD_CHARS:]
    message = head.encode()
    # All of them, so that the time taken does not tell which one matched. No other text is read
    # than one that was written here.
    matches = [hmac.compare_digest(key.signature(message).hex(), mac) for key in keys]
    return int(head[:_EXPIRY_CHARS], 16) if any(matches) else 0
