"""httpx: an auth class that signs each request, and once more where that mends a refusal.

    python httpx_client.py

It runs against a bank on this machine without ``PERMATA_TOKEN_URL`` in the environment. Other
clients do the same with ``sign_request()`` and ``handler.note_response()``.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from urllib.parse import urljoin

import httpx

from permata_auth import LoginHandler, sign_request

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
            if not self.handler.note_response(
                signed["Authorization"].removeprefix("Bearer "),
                response.status_code,
                response.content,
                is_second=is_second,
                url=str(request.url),
                headers=response.headers,
                took=response.elapsed.total_seconds(),
            ):
                return


def main() -> None:
    url = urljoin(os.environ["PERMATA_TOKEN_URL"], "/apiservice/InquiryServices/BalanceInfo/inq")
    inquiry = {"BalInqRq": {"InqInfo": {"AccountNumber": "701075323"}}}
    with (
        LoginHandler.from_env() as handler,
        httpx.Client(auth=PermataHttpxAuth(handler)) as client,
    ):
        response = client.post(url, json=inquiry)
        print(response.status_code, response.json())


if __name__ == "__main__":
    main()
