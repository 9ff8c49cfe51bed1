"""Authorise calls: an auth object for requests, and a plain function for every other client."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase
from requests.structures import CaseInsensitiveDict

from . import _clock
from ._clock_offset import Reading
from ._remedies import Remedies
from ._rotation import rotation_of
from ._settings import url_problem
from .exceptions import ConfigurationError, PermataAuthError, SignatureError
from .handler import LoginHandler
from .schemes import base
from .schemes.base import Scheme, needs_token


def sign_request(
    handler: LoginHandler,
    method: str,
    url: str,
    body: bytes = b"",
    *,
    canonicalizer: str | None = None,
) -> dict[str, str]:
    """Return the headers that authorise one call, signed now over exactly these bytes.

    For HTTP clients other than requests: send the headers at once, with ``body`` unchanged, and
    give the response to :meth:`LoginHandler.note_response`. Blocks only for a login, as
    :meth:`LoginHandler.get_token`, and raises its errors. Raises SignatureError for a body that is
    not bytes and a URL that no token may be sent to (plain http to another machine),
    ConfigurationError for a canonicaliser that does not exist.

    Args:
        handler: The source of the token; its credentials sign.
        method: The HTTP method, in the case in which it is sent.
        url: The URL as it is sent, with its query.
        body: The bytes that are sent; none by default, as for a GET.
        canonicalizer: The name of one, in place of the credentials' own. None by default, since
            the bank has one rule for all of a client's calls.
    """
    if not isinstance(body, bytes):
        raise SignatureError("only bytes can be signed; give the body exactly as it is sent")
    return _signed(
        handler, lambda: handler.credentials, method, url, body, canonicalizer=canonicalizer
    )


def _signed(
    handler: LoginHandler,
    signer: Callable[[], Scheme],
    method: str,
    url: str,
    body: bytes,
    *,
    canonicalizer: str | None,
) -> dict[str, str]:
    if not url.startswith("https://"):
        _refuse_insecure(handler, url)
    try:
        token = handler.get_token() if needs_token(handler.credentials) else ""
        return signer().sign(  # asked for now: a login may have brought other credentials
            token,
            method,
            url,
            body,
            canonicalizer=canonicalizer,
            **handler.clock.current.arguments,
        )
    except PermataAuthError as error:
        token = ""  # error reports show the locals of this frame, and the frames below it
        raise error.with_traceback(None) from None


def signed_names(handler: object, canonicalizer: str | None = None) -> tuple[str, ...]:
    """Return the names of the headers that ``handler`` signs with.

    Raises ConfigurationError for credentials that cannot sign.

    Args:
        handler: Any object; everything but a LoginHandler is refused.
        canonicalizer: As in :func:`sign_request`.
    """
    if not isinstance(handler, LoginHandler):
        raise ConfigurationError("handler must be a LoginHandler")
    return base.signed_names(handler.credentials, canonicalizer)


class PermataAuth(AuthBase):
    """Authorise every request of a session, or of one call (``auth=``). Thread-safe.

    Signs the bytes that are sent, when the request is prepared: a prepared request that waits for
    minutes is too old for the bank. Files opened in binary mode are read into memory; a generator
    or another stream is a SignatureError.

    A request is sent once more where its refusal can be mended: with a new token where the bank
    rejects the token, which is then dropped; with a right timestamp where it refuses that of a
    wrong clock; with credentials that have changed where it refuses the signature. Every other
    refusal goes to the caller. To tell them apart the body of a 400, 401 or 403 is read, also with
    ``stream=True``.
    A redirect within the origin is signed anew; one to another origin carries nothing that was
    added here. The prepared request itself stays as it is.

    Blocks for a login where one is needed, and raises as :func:`sign_request`.

    Args:
        handler: The source of tokens; its credentials sign.
        canonicalizer: As in :func:`sign_request`: the credentials' own by default.
    """

    def __init__(self, handler: LoginHandler, *, canonicalizer: str | None = None) -> None:
        self._signed_names = signed_names(handler, canonicalizer)
        self._handler = handler
        self._rotation = rotation_of(handler.credentials)
        self._needs_token = needs_token(handler.credentials)
        self._canonicalizer = canonicalizer

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        _settle_body(request)
        request.headers.update(self._sign(request))
        if self._on_response not in request.hooks["response"]:  # prepared a second time
            request.hooks["response"].append(self._on_response)
        return request

    def _sign(
        self, request: requests.PreparedRequest, remedies: Remedies | None = None
    ) -> dict[str, str]:
        # Noted before it is signed: where another thread corrects the clock in between, a refusal
        # then counts as one of the older offset, which is corrected already.
        vars(request)[_OFFSET] = self._handler.clock.current

        def signer() -> Scheme:
            chosen = remedies.signer() if remedies else self._rotation.current
            vars(request)[_SIGNER] = chosen
            return chosen

        return _signed(
            self._handler,
            signer,
            request.method or "GET",
            request.url or "",
            cast("bytes | None", request.body) or b"",
            canonicalizer=self._canonicalizer,
        )

    def _on_response(self, response: requests.Response, **how_sent: Any) -> requests.Response:
        request = response.request
        token = self._token_of(request)
        # Without a token: after a redirect to another origin, or out of a cache. Without this hook:
        # a request that was sent again.
        if token is None or self._on_response not in request.hooks["response"]:
            return response
        vars(request).pop("copy", None)  # left by a redirect when it was sent before
        remedies = Remedies(self._handler, vars(request).get(_SIGNER))
        while self._note(response, remedies):
            response = self._send_again(response, remedies, **how_sent)
        if response.is_redirect:
            # requests makes the next request from a copy of the one that it sent at first. That
            # request itself stays as it is: a caller that does not follow may send it again.
            following = self._following(request, response)
            request.copy = following.copy  # type: ignore[method-assign]
        return response

    def _token_of(self, request: requests.PreparedRequest) -> str | None:
        """Return the token that a request carries, empty where calls need none; None: unsigned."""
        return _bearer(request) if self._needs_token else ""

    def _note(self, response: requests.Response, remedies: Remedies) -> bool:
        request, status = response.request, response.status_code
        reading = Reading(
            url=request.url or "",
            headers=response.headers,
            took=response.elapsed.total_seconds(),
            used=vars(request).get(_OFFSET),
        )
        body = response.content if status in (400, 401, 403) else b""
        return remedies.apply(self._token_of(request) or "", status, body, reading)

    def _send_again(
        self, response: requests.Response, remedies: Remedies, **how_sent: Any
    ) -> requests.Response:
        response.close()
        again = _copy(response.request)
        self._leave(again)
        again.headers.update(self._sign(again, remedies))
        arguments = {name: how_sent[name] for name in _SENDING if name in how_sent}
        began = _clock.now()
        second: requests.Response = response.connection.send(again, **arguments)
        second.elapsed = timedelta(seconds=_clock.now() - began)
        second.history.append(response)
        return second

    def _following(
        self, request: requests.PreparedRequest, response: requests.Response
    ) -> requests.PreparedRequest:
        """Return the request that a redirect leads to, as far as it is authorised here."""
        redirects = requests.Session().resolve_redirects(response, request, yield_requests=True)
        target = cast("requests.PreparedRequest", next(redirects))
        following = _copy(request)
        if _origin(target.url) == _origin(request.url):
            following.headers.update(self._sign(target))
            following.headers = _AuthorisedHeaders(following.headers)
            return following
        for name in self._signed_names:
            following.headers.pop(name, None)
        self._leave(following)  # else a 401 of the other origin would bring a token there
        return following

    def _leave(self, request: requests.PreparedRequest) -> None:
        hooks = [hook for hook in request.hooks["response"] if hook != self._on_response]
        request.hooks = {**request.hooks, "response": hooks}


#: Where a request keeps the correction of its timestamp.
_OFFSET = "_permata_clock_offset"
#: Where it keeps the credentials that have signed it.
_SIGNER = "_permata_signer"
#: The arguments of an adapter; a session may give its hooks more.
_SENDING = ("stream", "timeout", "verify", "cert", "proxies")


class _AuthorisedHeaders(CaseInsensitiveDict[Any]):
    """Headers that keep their Authorization: requests puts that of a ``.netrc`` in its place."""

    def copy(self) -> CaseInsensitiveDict[Any]:
        return _AuthorisedHeaders(self)

    def __setitem__(self, name: str, value: Any) -> None:
        if name.lower() != "authorization" or name not in self:
            super().__setitem__(name, value)


def _copy(request: requests.PreparedRequest) -> requests.PreparedRequest:
    twin = request.copy()
    twin.headers = CaseInsensitiveDict(request.headers)
    return twin


def _bearer(request: requests.PreparedRequest) -> str | None:
    kind, _, token = str(request.headers.get("Authorization", "")).partition(" ")
    return token if kind == "Bearer" else None


def _refuse_insecure(handler: LoginHandler, url: str) -> None:
    is_allowed = getattr(handler.credentials, "allow_insecure_http", False)
    problem = url_problem(url.partition("#")[0], allow_insecure_http=is_allowed)
    if problem is not None:
        raise SignatureError(f"no token is sent to this URL: it {problem}")


def _origin(url: str | None) -> tuple[str, str]:
    # As they are written, so that no two ways of parsing a host can disagree: a port that is
    # spelled out in one of them alone counts as another origin.
    parts = urlsplit(url or "")
    return parts.scheme, parts.netloc.lower()


def _settle_body(request: requests.PreparedRequest) -> None:
    """Turn the body into the bytes that are both signed and sent, as often as need be."""
    request.body = _as_bytes(request.body) or None
    # There is no file left to rewind; requests has no public name for this.
    request._body_position = None  # noqa: SLF001
    request.headers.pop("Transfer-Encoding", None)
    request.prepare_content_length(request.body)


def _as_bytes(body: Any) -> bytes:
    if body is None:
        return b""
    if isinstance(body, str):
        return body.encode()
    if getattr(body, "seekable", bool)():
        body = body.read()
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    raise SignatureError(
        "a stream can be neither signed nor sent twice; "
        "give its bytes, or a file that is opened in binary mode"
    )
