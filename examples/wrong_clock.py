"""A machine whose clock is ten minutes slow: the bank refuses one timestamp, and no call fails.

    python wrong_clock.py

It runs against a bank on this machine, whose clock is ten minutes ahead.
"""

from __future__ import annotations

import logging

import requests

from permata_auth import LoginHandler, PermataAuth
from permata_auth.sandbox import Sandbox


def main() -> None:
    logging.basicConfig(format="%(message)s")
    with (
        Sandbox(clock_skew=600) as bank,
        LoginHandler(bank.credentials()) as handler,
        requests.Session() as session,
    ):
        session.auth = PermataAuth(handler)
        url = f"{bank.url}/apiservice/InquiryServices/BalanceInfo/inq"
        for _ in range(3):
            print(session.post(url, json={}, timeout=(5, 30)).status_code)
        print("timestamps refused:", bank.login_attempts - bank.logins)
        print(f"corrected by {handler.info().clock_offset:.0f} s")  # for your monitoring


if __name__ == "__main__":
    main()
