"""One signed call, from cron: logs in, or takes the token that a worker has left in the store.

    PERMATA_TOKEN_STORE=file:///run/permata python cron_script.py 701075323

Ends as soon as it is done. Exit codes for cron: 75 if it may succeed later, 1 if it will not.
"""

from __future__ import annotations

import os
import sys

import requests

from permata_auth import LoginHandler, PermataAuth, PermataAuthError

BALANCE_URL = os.environ.get(
    "BALANCE_URL", "https://bank.invalid/apiservice/InquiryServices/BalanceInfo/inq"
)
TEMPORARY, PERMANENT = 75, 1  # 75 is EX_TEMPFAIL of sysexits.h


def main(account: str) -> int:
    try:
        reply = ask(account)
    except PermataAuthError as error:
        print(error, file=sys.stderr)
        return TEMPORARY if error.retryable else PERMANENT
    except requests.RequestException as error:
        print(f"no answer from the bank: {type(error).__name__}", file=sys.stderr)
        return TEMPORARY if may_pass(error) else PERMANENT
    except ImportError as error:  # the store needs a package: it says which
        print(error, file=sys.stderr)
        return PERMANENT
    sys.stdout.buffer.write(reply.content + b"\n")
    if reply.ok:
        return 0
    print(f"the bank answered with HTTP {reply.status_code}", file=sys.stderr)
    return TEMPORARY if reply.status_code == 429 or reply.status_code >= 500 else PERMANENT


def ask(account: str) -> requests.Response:
    inquiry = {"BalInqRq": {"InqInfo": {"AccountNumber": account}}}
    # No refresh in the background: nobody will use it.
    with LoginHandler.from_env(background=False) as handler:
        return requests.post(BALANCE_URL, json=inquiry, auth=PermataAuth(handler), timeout=(5, 30))


def may_pass(error: requests.RequestException) -> bool:
    """Tell whether a later try may succeed: not if the URL or the certificate is wrong."""
    passing = (
        requests.ConnectionError,
        requests.Timeout,
        requests.exceptions.ChunkedEncodingError,
    )
    return isinstance(error, passing) and not isinstance(error, requests.exceptions.SSLError)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print("usage: cron_script.py ACCOUNT", file=sys.stderr)
        raise SystemExit(PERMANENT)
    raise SystemExit(main(sys.argv[1]))
