"""Send one callback status to the bank and show its answer.

    python callback_status.py

Without ``PERMATA_TOKEN_URL`` in the environment it runs against a bank on this machine.
"""

from __future__ import annotations

import os

from permata_auth import CallbackStatusClient, LoginHandler, RetryPolicy

if "PERMATA_TOKEN_URL" not in os.environ:  # not in production
    from permata_auth.sandbox import Sandbox

    os.environ |= Sandbox().start().environment()


def main() -> None:
    url = os.environ["PERMATA_CALLBACK_STATUS_URL"]
    status = {"id": "wamid.example", "status": "delivered", "timestamp": "1677836780"}
    change = {"field": "messages", "value": {"statuses": [status]}}
    receipt = {"xid": "123", "entry": [{"id": "example", "changes": [change]}]}
    with (
        LoginHandler.from_env() as handler,
        CallbackStatusClient(handler, url, retry=RetryPolicy(attempts=5)) as client,
    ):
        answer = client.send(receipt, request_id="req-123")
        print(answer.http_status, answer.status_code, answer.status_desc)


if __name__ == "__main__":
    main()
