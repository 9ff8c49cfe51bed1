"""Webhooks of the provider, as the integrations take them in."""

from __future__ import annotations

import hashlib
import hmac
import json

SECRET = "example-app-secret"
VERIFY_TOKEN = "example-verify-token"
VERIFICATION = f"hub.mode=subscribe&hub.verify_token={VERIFY_TOKEN}&hub.challenge=1158201444"
RECEIPT = json.dumps({"xid": "123", "error": {"code": 500, "message": "Kerry  Fisher"}}).encode()


def signature(body: bytes) -> str:
    return "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()


def signed(body: bytes) -> dict[str, str]:
    return {"X-Hub-Signature-256": signature(body)}
