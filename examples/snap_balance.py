"""Ask for a balance in the national standard, SNAP BI; every call is signed on its way.

    python snap_balance.py 7001234567

Without ``PERMATA_SNAP_TOKEN_URL`` in the environment it runs against a bank on this machine.
"""

from __future__ import annotations

import os
import sys
import uuid

import requests

from permata_auth import LoginHandler, PermataAuth, SnapCredentials

if "PERMATA_SNAP_TOKEN_URL" not in os.environ:  # not in production
    from permata_auth.sandbox import Sandbox

    os.environ |= Sandbox().start().environment("snap")


def main(account: str) -> None:
    base = os.environ["PERMATA_SNAP_TOKEN_URL"].removesuffix("/access-token/b2b")
    inquiry = {"partnerReferenceNo": uuid.uuid4().hex, "accountNo": account}
    with LoginHandler(SnapCredentials.from_env()) as handler, requests.Session() as session:
        session.auth = PermataAuth(handler)
        response = session.post(f"{base}/balance-inquiry", json=inquiry, timeout=30)
    outcome = SnapCredentials.outcome(response.status_code, response.content)
    # The bank's support asks for this id.
    print(outcome, response.request.headers["X-EXTERNAL-ID"])
    if outcome == "success":
        print(response.json()["accountInfos"][0]["availableBalance"])


if __name__ == "__main__":
    main(*sys.argv[1:] or ["7001234567"])
