"""Access tokens for the bank: they carry their own expiry, so that no worker has to store them."""

from __future__ import annotations

import base64
import hmac
import re
import secrets
import struct
from collections.abc import Iterable

from .. import _clock

_RANDOM_BYTES = 16
_HEAD = struct.Struct(">Q16s")  # the expiry in POSIX microseconds, random bytes
_TOKEN = re.compile(r"[A-Za-z0-9_-]{75}")  # the head, and a MAC of 32 bytes


def derived_key(secret: bytes, client_key: str) -> bytes:
    """Return the key that signs tokens, for this purpose and client alone (HKDF-SHA256, RFC 5869).

    Args:
        secret: A client secret, or a key that is kept for tokens.
        client_key: The X-CLIENT-KEY of the bank.
    """
    extracted = hmac.digest(b"permata-auth", secret, "sha256")
    info = f"snap inbound token\n{client_key}".encode()
    return hmac.digest(extracted, info + b"\x01", "sha256")


class Keys:
    """The keys of one client's tokens, derived again when the secrets change. Thread-safe.

    Args:
        client_key: The X-CLIENT-KEY of the bank.
    """

    def __init__(self, client_key: str) -> None:
        self._client_key = client_key
        self._last: tuple[tuple[bytes, ...], tuple[bytes, ...]] = ((), ())

    def of(self, secrets: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Return one key for each secret, in their order."""
        last = self._last
        if last[0] is not secrets:
            # One assignment: another thread sees the old pair or the new one.
            last = (secrets, tuple(derived_key(each, self._client_key) for each in secrets))
            self._last = last
        return last[1]


def issue(key: bytes, life_secs: float) -> str:
    """Return a new token: 75 characters of URL-safe base64, of which 128 bits are random.

    Args:
        key: As :func:`derived_key` returns it.
        life_secs: How long it lives.
    """
    expiry = round((_clock.wall() + life_secs) * 1_000_000)
    head = _HEAD.pack(expiry, secrets.token_bytes(_RANDOM_BYTES))
    token = base64.urlsafe_b64encode(head + hmac.digest(key, head, "sha256"))
    return token.rstrip(b"=").decode()


def is_valid(token: str, keys: Iterable[bytes]) -> bool:
    """Tell whether a token was issued with one of the keys, and lives.

    Args:
        token: As it was received, printable ASCII.
        keys: The current one, and those before it.
    """
    if not _TOKEN.fullmatch(token):
        return False
    data = base64.urlsafe_b64decode(f"{token}=")
    head, mac = data[: _HEAD.size], data[_HEAD.size :]
    # All of them, so that the time taken does not tell which one matched.
    matches = [hmac.compare_digest(hmac.digest(key, head, "sha256"), mac) for key in keys]
    return any(matches) and _clock.wall() * 1_000_000 < _HEAD.unpack(head)[0]
