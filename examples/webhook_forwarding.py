"""Forward webhooks from any web server: give it the raw body and headers, answer what it says.

    python webhook_forwarding.py

Without ``PERMATA_TOKEN_URL`` in the environment it runs against a bank on this machine.
"""

from __future__ import annotations

import hashlib
import hmac
import os

from permata_auth import CallbackStatusClient, LoginHandler, PermataCredentials, WebhookProcessor

if "PERMATA_TOKEN_URL" not in os.environ:  # not in production
    from permata_auth.sandbox import Sandbox

    os.environ |= Sandbox().start().environment()

RECEIPT = b'{"xid": "123", "error": {"code": 500, "message": "no such number"}}'
BODIES = [RECEIPT, b'{"xid": "124", "hello": "world"}', b"not json"]
SECRET = "example-app-secret"


def main() -> None:
    url = os.environ["PERMATA_CALLBACK_STATUS_URL"]
    with (
        LoginHandler(PermataCredentials.from_env()) as handler,
        CallbackStatusClient(handler, url) as client,
    ):
        processor = WebhookProcessor(client, app_secrets=[SECRET])
        for body in BODIES:  # as the provider would sign and send them
            signature = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
            answer = processor.process(body, {"X-Hub-Signature-256": signature})
            print(answer.http_status, answer.kind, answer.forwarded, answer.body)


if __name__ == "__main__":
    main()
