"""Webhooks of the provider, as the integrations take them in."""

from __future__ import annotations

import hashlib
import hmac
import json

SECRET = "example-app-secret"
RECEIPT = json.dumps({"xid": "123", "error": {"code": 500, "message": "Kerry  Fisher"}}).encode()


def signature(body: bytes) -> str:
    return "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
