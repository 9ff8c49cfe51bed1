"""Tokens sealed for a store that others can read or write: encrypted and authenticated."""

from __future__ import annotations

import base64
import math
import os
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .._settings import require_members
from ..tokens import AccessToken
from . import _document
from .base import KeySource

_NONCE_BYTES = 12


class Seal:
    """AES-256-GCM with a key derived from credentials.

    A process without the credentials learns nothing from a sealed token but its length, and can
    neither make one nor move one to another key.

    Args:
        credentials: The keys are derived from their secrets: a
            :class:`~permata_auth.stores.base.KeySource`.
    """

    def __init__(self, credentials: Any) -> None:
        require_members(KeySource, "credentials", credentials)
        self._cipher = AESGCM(credentials.derive_key("token store"))
        #: A name for the secrets, which reveals none of them. Part of each entry's name, as a token
        #: that was sealed with other secrets cannot be read.
        self.name = credentials.derive_key("token store name").hex()[:16]

    def seal(self, key: str, token: AccessToken) -> str:
        """Return ``token`` as ASCII text.

        Args:
            key: The key that the text can be unsealed for.
            token: The token.
        """
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, _document.dump(key, token), key.encode())
        return base64.b64encode(nonce + sealed).decode()

    def unseal(
        self, key: str, text: str | bytes, *, time_to_live: float = math.inf
    ) -> AccessToken | None:
        """Return the token, or None if it has expired. Raises ValueError for any foreign text.

        Args:
            key: The key that the text was sealed for.
            text: The sealed text.
            time_to_live: The seconds that the store will keep the text, by its own clock.
        """
        try:
            data = base64.b64decode(text, validate=True)
            plain = self._cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], key.encode())
        except (InvalidTag, ValueError):
            raise ValueError("it was not sealed with these credentials") from None
        return _document.parse(key, plain, time_to_live=time_to_live)
