"""A request of the bank to a merchant: its string to sign, signature and headers."""

from __future__ import annotations

import attrs
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from .checks import SnapRules, hmac_sha512, string_to_sign
from .keys import Owner, private_key

#: How this bank names itself to a merchant, and the secret that they share.
CLIENT_KEY = "example-bank"
CLIENT_SECRET = "example-bank-secret"
PARTNER_ID = "example-bank-partner"
CHANNEL_ID = "95221"

Headers = tuple[tuple[str, str], ...]


@attrs.frozen(kw_only=True)
class Draft:
    """A request before it is signed. A token request has no ``external_id`` and no ``token``.

    ``body_hash`` None stands for the right one. ``kind`` is the signature's.
    """

    method: str
    target: str
    body: bytes = attrs.field(repr=False)
    timestamp: str
    kind: str
    is_token_request: bool = False
    external_id: str | None = None
    token: str | None = attrs.field(default=None, repr=False)
    body_hash: str | None = None
    client_key: str = CLIENT_KEY
    secret: str = attrs.field(default=CLIENT_SECRET, repr=False)
    signer: Owner = "bank"

    def message(self, rules: SnapRules) -> bytes:
        """Return the string to sign."""
        if self.is_token_request:
            return f"{self.client_key}|{self.timestamp}".encode("latin-1")
        body_hash = rules.body_hash(self.body) if self.body_hash is None else self.body_hash
        path = rules.signed_path(self.target)
        parts = (self.method, path, self.token, body_hash, self.timestamp)
        return string_to_sign([part for part in parts if part is not None])

    def signature(self, rules: SnapRules) -> str:
        """Sign, and return the text for the header."""
        message = self.message(rules)
        if self.kind == "symmetric":
            return rules.write_signature(hmac_sha512(self.secret, message))
        key = private_key(self.signer)
        return rules.write_signature(key.sign(message, padding.PKCS1v15(), hashes.SHA256()))

    def headers(self, signature: str) -> Headers:
        """Return the headers that go out with this signature."""
        common = (
            ("Content-Type", "application/json"),
            ("X-TIMESTAMP", self.timestamp),
            ("X-SIGNATURE", signature),
        )
        if self.is_token_request:
            return (*common, ("X-CLIENT-KEY", self.client_key))
        bearer = (("Authorization", f"Bearer {self.token}"),) if self.token is not None else ()
        return (
            *common,
            *bearer,
            ("X-PARTNER-ID", PARTNER_ID),
            ("X-EXTERNAL-ID", self.external_id or ""),
            ("CHANNEL-ID", CHANNEL_ID),
        )
