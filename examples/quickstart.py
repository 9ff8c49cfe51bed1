"""The smallest use: one handler for the program, and a session that signs by itself.

    python quickstart.py

Without ``PERMATA_TOKEN_URL`` in the environment it runs against a bank on this machine.
"""

from __future__ import annotations

import os
from urllib.parse import urljoin

import requests

from permata_auth import LoginHandler, PermataAuth

if "PERMATA_TOKEN_URL" not in os.environ:  # not in production
    from permata_auth.sandbox import Sandbox

    os.environ |= Sandbox().start().environment()


def main() -> None:
    url = urljoin(os.environ["PERMATA_TOKEN_URL"], "/apiservice/InquiryServices/BalanceInfo/inq")
    with LoginHandler.from_env() as handler, requests.Session() as session:
        session.auth = PermataAuth(handler)
        inquiry = {"BalInqRq": {"InqInfo": {"AccountNumber": "701075323"}}}
        print(session.post(url, json=inquiry, timeout=(5, 30)).json())
        print(handler.info())


if __name__ == "__main__":
    main()
