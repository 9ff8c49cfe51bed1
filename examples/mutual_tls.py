"""Show the bank a client certificate, in logins and calls; new files are picked up as they come.

    PERMATA_CLIENT_CERT=client.pem PERMATA_CLIENT_KEY=client-key.pem PERMATA_CA_BUNDLE=ca.pem \
    PERMATA_PROXY=http://user:password@proxy.example:3128 python mutual_tls.py

Without ``PERMATA_TOKEN_URL`` in the environment it runs against a bank on this machine.
"""

from __future__ import annotations

import os
from urllib.parse import urljoin

from permata_auth import LoginHandler, PermataAuth, PermataCredentials, Transport

if "PERMATA_TOKEN_URL" not in os.environ:  # not in production
    from permata_auth.sandbox import Sandbox

    os.environ |= Sandbox().start().environment()


def main() -> None:
    url = urljoin(os.environ["PERMATA_TOKEN_URL"], "/apiservice/InquiryServices/BalanceInfo/inq")
    inquiry = {"BalInqRq": {"InqInfo": {"AccountNumber": "701075323"}}}
    transport = Transport.from_env()
    with (
        LoginHandler(PermataCredentials.from_env(), transport=transport) as handler,
        transport.session() as session,
    ):
        session.auth = PermataAuth(handler)
        print(session.post(url, json=inquiry, timeout=30).json())


if __name__ == "__main__":
    main()
