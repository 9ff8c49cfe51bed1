"""Sign a call for an HTTP client other than requests; here for the standard library's.

    python signed_request.py

Without ``PERMATA_TOKEN_URL`` in the environment it runs against a bank on this machine.
"""

from __future__ import annotations

import json
import os
from urllib.parse import urljoin
from urllib.request import Request, urlopen

from permata_auth import LoginHandler, sign_request

if "PERMATA_TOKEN_URL" not in os.environ:  # not in production
    from permata_auth.sandbox import Sandbox

    os.environ |= Sandbox().start().environment()


def main() -> None:
    url = urljoin(os.environ["PERMATA_TOKEN_URL"], "/apiservice/InquiryServices/AccountInfo/inq")
    inquiry = {"AcctInqRq": {"InqInfo": {"AccountNumber": "701075323"}}}
    body = json.dumps(inquiry).encode()  # these very bytes are signed and sent
    with LoginHandler.from_env() as handler:
        signed = sign_request(handler, "POST", url, body)
        headers = {"Content-Type": "application/json", **signed}
        with urlopen(Request(url, body, headers), timeout=30) as reply:  # noqa: S310 - our own URL
            print(reply.status, json.load(reply))


if __name__ == "__main__":
    main()
