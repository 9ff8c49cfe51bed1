"""asyncio: calls on threads, so that a login never stops the event loop.

    python asyncio_calls.py

``get_token()`` returns at once while a token lives, but the first call and a call after an outage
wait for a login: in a coroutine, always by ``asyncio.to_thread``. Without ``PERMATA_TOKEN_URL`` in
the environment it runs against a bank on this machine.
"""

from __future__ import annotations

import asyncio
import os
from urllib.parse import urljoin

import requests

from permata_auth import LoginHandler, PermataAuth, PermataCredentials

if "PERMATA_TOKEN_URL" not in os.environ:  # not in production
    from permata_auth.sandbox import Sandbox

    os.environ |= Sandbox().start().environment()

URL = urljoin(os.environ["PERMATA_TOKEN_URL"], "/apiservice/InquiryServices/BalanceInfo/inq")


async def balance(session: requests.Session, account: str) -> requests.Response:
    inquiry = {"BalInqRq": {"InqInfo": {"AccountNumber": account}}}
    return await asyncio.to_thread(session.post, URL, json=inquiry, timeout=(5, 30))


async def main() -> None:
    with LoginHandler(PermataCredentials.from_env()) as handler, requests.Session() as session:
        session.auth = PermataAuth(handler)
        calls = [balance(session, f"70107532{digit}") for digit in range(4)]
        for response in await asyncio.gather(*calls):
            print(response.status_code, response.json()["StatusCode"])
        token = await asyncio.to_thread(handler.get_access_token)  # the token alone
        print(handler.info().logins, "logins, token", token.fingerprint)


if __name__ == "__main__":
    asyncio.run(main())
