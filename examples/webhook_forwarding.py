"""Forward webhooks from any web server: give it the raw body and headers, write its content.

    python webhook_forwarding.py

Without ``PERMATA_TOKEN_URL`` in the environment it runs against a bank on this machine.
"""

from __future__ import annotations

import hmac
import os

from permata_auth import CallbackStatusClient, LoginHandler, WebhookProcessor

if "PERMATA_TOKEN_URL" not in os.environ:  # not in production
    from permata_auth.sandbox import Sandbox

    os.environ |= Sandbox().start().environment()

BODIES = [b'{"xid": "123", "error": {"code": 500}}', b'{"xid": "124"}', b"not json"]
SECRET = "example-app-secret"


def main() -> None:
    url = os.environ["PERMATA_CALLBACK_STATUS_URL"]
    with (
        LoginHandler.from_env() as handler,
        CallbackStatusClient(handler, url) as client,
    ):
        processor = WebhookProcessor(client, app_secrets=[SECRET], verify_token="example")
        for body in BODIES:  # as the provider would sign and send them
            signature = "sha256=" + hmac.digest(SECRET.encode(), body, "sha256").hex()
            answer = processor.process(body, {"X-Hub-Signature-256": signature})
            print(answer.http_status, answer.kind, answer.forwarded, answer.body)
        query = "hub.mode=subscribe&hub.verify_token=example&hub.challenge=5"
        print(processor.verify(query).content)  # the provider's GET, by which it knows the URL


if __name__ == "__main__":
    main()
