"""httpx: an auth class that signs each request, and sends it once more if its token is rejected.

    python httpx_client.py

Without ``PERMATA_TOKEN_URL`` in the environment it runs against a bank on this machine. Other
clients do the same with ``sign_request()`` and ``handler.note_response()``.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from urllib.parse import urljoin

import httpx

from permata_auth import LoginHandler, PermataCredentials, sign_request

if "PERMATA_TOKEN_URL" not in os.environ:  # not in production
    from permata_auth.sandbox import Sandbox

    os.environ |= Sandbox().start().environment()


class PermataHttpxAuth(httpx.Auth):
    requires_request_body = requires_response_body = True

    def __init__(self, handler: LoginHandler) -> None:
        self.handler = handler

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        for is_second in (False, True):
            signed = sign_request(self.handler, request.method, str(request.url), request.content)
            request.headers.update(signed)
            response = yield request
            token = signed["Authorization"].removeprefix("Bearer ")
            status, body = response.status_code, response.content
            if not self.handler.note_response(token, status, body, is_second=is_second):
                return


def main() -> None:
    url = urljoin(os.environ["PERMATA_TOKEN_URL"], "/apiservice/InquiryServices/BalanceInfo/inq")
    inquiry = {"BalInqRq": {"InqInfo": {"AccountNumber": "701075323"}}}
    with (
        LoginHandler(PermataCredentials.from_env()) as handler,
        httpx.Client(auth=PermataHttpxAuth(handler)) as client,
    ):
        response = client.post(url, json=inquiry)
        print(response.status_code, response.json())


if __name__ == "__main__":
    main()
