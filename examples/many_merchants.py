"""Many merchants in one process: a handler for each, and one session for all of them.

    MERCHANTS="TOKO_A TOKO_B" TOKO_A_TOKEN_URL=… TOKO_A_API_KEY=… … python many_merchants.py

The shared session keeps one pool of connections for all logins and calls; with a session of its
own, each merchant would keep connections of its own open. A name for each handler tells its log
records, events and errors apart. Without ``MERCHANTS`` in the environment it runs against a bank
on this machine.
"""

from __future__ import annotations

import os
from urllib.parse import urljoin

import requests
from requests.adapters import HTTPAdapter

from permata_auth import LoginClient, LoginHandler, PermataAuth, PermataCredentials

if "MERCHANTS" not in os.environ:  # not in production
    from permata_auth.sandbox import Sandbox

    os.environ["MERCHANTS"] = "TOKO_A TOKO_B"
    for name, value in Sandbox().start().environment().items():
        for merchant in os.environ["MERCHANTS"].split():
            os.environ[name.replace("PERMATA", merchant)] = value

session = requests.Session()
session.mount("https://", HTTPAdapter(pool_maxsize=32))  # as many as threads that call at once


def new_handler(merchant: str) -> LoginHandler:
    credentials = PermataCredentials.from_env(prefix=f"{merchant}_")
    client = LoginClient(credentials, session=session)
    return LoginHandler(credentials, client=client, name=merchant)


def main() -> None:
    handlers = {name: new_handler(name) for name in os.environ["MERCHANTS"].split()}
    for name, handler in handlers.items():
        token_url = os.environ[f"{name}_TOKEN_URL"]
        url = urljoin(token_url, "/apiservice/InquiryServices/BalanceInfo/inq")
        inquiry = {"BalInqRq": {"InqInfo": {"AccountNumber": "701075323"}}}
        reply = session.post(url, json=inquiry, auth=PermataAuth(handler), timeout=(5, 30))
        print(name, reply.status_code, reply.json()["StatusCode"], handler.info().logins, "logins")
    for handler in handlers.values():
        handler.shutdown()


if __name__ == "__main__":
    main()
