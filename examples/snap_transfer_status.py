"""Make one SNAP transfer: where its fate is unknown, ask for its status; never send it again."""

import os
import sys
from typing import Any

import requests

from permata_auth import LoginHandler, PermataAuth, SnapCredentials

if "PERMATA_SNAP_TOKEN_URL" not in os.environ:  # not in production
    from permata_auth.sandbox import Sandbox

    os.environ |= Sandbox().start().environment("snap")


def call(session: requests.Session, path: str, document: dict[str, Any]) -> str:
    base = os.environ["PERMATA_SNAP_TOKEN_URL"].removesuffix("/access-token/b2b")
    try:
        response = session.post(base + path, json=document, timeout=30)
    except requests.RequestException:  # sent, perhaps, and done, perhaps
        return "unknown"
    return SnapCredentials.outcome(response.status_code, response.content)


def main(reference: str) -> None:
    transfer = {"partnerReferenceNo": reference, "amount": {"value": "10000.00", "currency": "IDR"}}
    transfer |= {"sourceAccountNo": "7001234567", "beneficiaryAccountNo": "7007654321"}
    with LoginHandler(SnapCredentials.from_env()) as handler, requests.Session() as session:
        session.auth = PermataAuth(handler)
        print("transfer:", outcome := call(session, "/transfer-intrabank", transfer))
        for _ in range(3 if outcome in ("unknown", "pending", "duplicate_request") else 0):
            question = {"originalPartnerReferenceNo": reference, "serviceCode": "17"}
            print("status:", outcome := call(session, "/transfer/status", question))
            if outcome != "unknown":
                break  # latestTransactionStatus says more; what stays unknown is for a person


# The reference is your own, stored before this runs.
main(*sys.argv[1:] or ["example-reference"])
