"""One signed call, from cron: logs in, or takes the token that a worker has left in the store.

    PERMATA_TOKEN_STORE=file:///run/permata python cron_script.py 701075323

Ends as soon as it is done. Exit codes for cron: 75 if it may succeed later, 1 if it will not.
"""

from __future__ import annotations

import os
import sys

import requests

from permata_auth import LoginHandler, PermataAuth, PermataAuthError, PermataCredentials
from permata_auth.stores import store_from_env

BALANCE_URL = os.environ.get(
    "BALANCE_URL", "https://bank.invalid/apiservice/InquiryServices/BalanceInfo/inq"
)


def main(account: str) -> int:
    credentials = PermataCredentials.from_env()
    # No refresh in the background: nobody will use it.
    with LoginHandler(credentials, store=store_from_env(), background=False) as handler:
        inquiry = {"BalInqRq": {"InqInfo": {"AccountNumber": account}}}
        try:
            reply = requests.post(
                BALANCE_URL, json=inquiry, auth=PermataAuth(handler), timeout=(5, 30)
            )
        except PermataAuthError as error:
            print(error, file=sys.stderr)
            return 75 if error.retryable else 1
    print(reply.text)
    return 0 if reply.ok else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
