"""The credentials that the bank has given out, and how it changes them."""

from __future__ import annotations

import base64

import attrs

API_KEY = "example-api-key"
CLIENT_ID = "example-client-id"
CLIENT_SECRET = "example-client-secret"
STATIC_KEY = "example-static-key"

_is_text = attrs.validators.instance_of(str)


@attrs.frozen(kw_only=True)
class KeySet:
    """The credentials of one client. A request has to fit one whole set."""

    api_key: str = attrs.field(default=API_KEY, validator=_is_text, repr=False)
    client_id: str = attrs.field(default=CLIENT_ID, validator=_is_text, repr=False)
    client_secret: str = attrs.field(default=CLIENT_SECRET, validator=_is_text, repr=False)
    static_key: str = attrs.field(default=STATIC_KEY, validator=_is_text, repr=False)

    @property
    def basic(self) -> str:
        """The user-pass of HTTP Basic authentication."""
        return base64.b64encode(f"{self.client_id}:{self.client_secret}".encode()).decode()
