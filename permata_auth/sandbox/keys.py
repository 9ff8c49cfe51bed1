"""The credentials that the bank has given out, and how it changes them."""

from __future__ import annotations

import base64
import functools

import attrs
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from .snap.keys import private_pem

API_KEY = "example-api-key"
CLIENT_ID = "example-client-id"
CLIENT_SECRET = "example-client-secret"
STATIC_KEY = "example-static-key"

_is_text = attrs.validators.instance_of(str)


@functools.lru_cache(maxsize=16)
def _public_key(private_key: str) -> rsa.RSAPublicKey:
    key = serialization.load_pem_private_key(private_key.encode(), None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError("private_key must be an RSA key")
    return key.public_key()


def _is_key(keys: KeySet, attribute: attrs.Attribute[str], value: str) -> None:
    if value != private_pem("merchant"):  # which is known to be one, and takes long to load
        _public_key(value)


@attrs.frozen(kw_only=True)
class KeySet:
    """The credentials of one client. A request has to fit one whole set."""

    api_key: str = attrs.field(default=API_KEY, validator=_is_text, repr=False)
    client_id: str = attrs.field(default=CLIENT_ID, validator=_is_text, repr=False)
    client_secret: str = attrs.field(default=CLIENT_SECRET, validator=_is_text, repr=False)
    static_key: str = attrs.field(default=STATIC_KEY, validator=_is_text, repr=False)
    #: PEM of the merchant's key on the SNAP side, which looks at its public half alone.
    private_key: str = attrs.field(
        factory=lambda: private_pem("merchant"), validator=[_is_text, _is_key], repr=False
    )

    @property
    def public_key(self) -> rsa.RSAPublicKey:
        """The public half of :attr:`private_key`, as the merchant has registered it."""
        return _public_key(self.private_key)

    @property
    def basic(self) -> str:
        """The user-pass of HTTP Basic authentication."""
        return base64.b64encode(f"{self.client_id}:{self.client_secret}".encode()).decode()
