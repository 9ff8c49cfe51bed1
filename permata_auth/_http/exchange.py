"""One request and its response."""

from __future__ import annotations

import email.utils
import json
import math
import re
from collections.abc import Mapping
from datetime import timezone
from typing import Any

import attrs
import requests
import urllib3
from requests.structures import CaseInsensitiveDict
from requests.utils import default_user_agent

from .. import _clock
from .._version import __version__
from ..exceptions import ConfigurationError
from .adapter import TransportAdapter
from .deadlines import bounded_by
from .errors import Route, interim_response, proxy_refusal, translate
from .sessions import one_request

MAX_RESPONSE_BYTES = 1024 * 1024
_CHUNK_BYTES = 16 * 1024
#: Sockets count the milliseconds of a wait in 31 bits.
_MAX_WAIT_SECS = 2_000_000.0
_MIN_WAIT_SECS = 0.001
_USER_AGENT = f"permata-auth/{__version__}"


@attrs.frozen(kw_only=True)
class Response:
    """A response, read to its end or to :data:`MAX_RESPONSE_BYTES`.

    Args:
        status_code: The HTTP status.
        headers: The headers, by names in any case.
        body: The body as received, cut where ``is_complete`` is false.
        is_complete: Whether the body is within :data:`MAX_RESPONSE_BYTES`.
    """

    status_code: int
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)
    is_complete: bool

    @property
    def retry_after(self) -> float | None:
        """The seconds that ``Retry-After`` asks for (RFC 9110 section 10.2.3), or None."""
        text = self.headers.get("Retry-After", "").strip()
        if re.fullmatch(r"[0-9]+", text):
            return min(float(text), _MAX_WAIT_SECS)
        when = http_date(text)
        if when is None:
            return None
        # Measured by the server's own clock where it shows it, so that ours may be off.
        now = http_date(self.headers.get("Date", "")) or _clock.wall()
        return max(when - now, 0.0)


def exchange(
    session: requests.Session,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    body: bytes,
    timeout: tuple[float, float],
    deadline: float,
    setting: str = "the URL",
) -> Response:
    """Send one request and read its response; no redirect, no retry, no cookie, no ``.netrc``.

    Blocks until ``deadline`` at the longest, apart from the look-up of the host's name, if the
    session comes from :func:`new_session`; with any other session each single wait for a byte is
    bounded by ``timeout`` instead. Raises errors of our tree, which keep neither the request nor
    the response.

    Args:
        session: Gives its headers, cookies, proxies, CA bundle, client certificate and adapters;
            its hooks, ``auth`` and ``params`` take no part, as they would change or follow the
            request.
        method: The HTTP method.
        url: The URL, with its query.
        headers: Sent unchanged; they go before those of the session.
        body: Sent unchanged; empty for none.
        timeout: Connecting, and waiting for one byte of the response, in seconds.
        deadline: The end of everything, on :data:`permata_auth._clock.now`.
        setting: The setting that an operator corrects where the URL is the cause; errors name it.
    """
    left = min(max(deadline - _clock.now(), _MIN_WAIT_SECS), _MAX_WAIT_SECS)
    allowed = (min(timeout[0], left), min(timeout[1], left))
    settings: Any = {}
    try:
        with bounded_by(deadline):
            request = _request(session, method, url, headers, body)
            settings = session.merge_environment_settings(request.url or url, {}, True, None, None)
            adapter = session.get_adapter(request.url or url)
            if isinstance(adapter, TransportAdapter):  # so that errors name its proxy
                settings = adapter.applied(settings)
            with one_request(session).send(
                request, timeout=allowed, allow_redirects=False, **settings
            ) as received:
                response = _read_response(received)
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        failed = translate(error, Route.of(url, settings, (*allowed, left), setting))
    else:
        return _final(response, Route.of(url, settings, (*allowed, left), setting))
    # Raised out here, so that it is chained to nothing: exceptions of requests hold the request.
    raise failed


def _final(response: Response, route: Route) -> Response:
    if response.status_code < 200:
        raise interim_response(response.status_code, route)
    if _is_from_proxy(response, route):
        raise proxy_refusal(response.status_code, route)
    return response


def connect_and_read(timeout: object) -> tuple[float, float]:
    """Return a timeout as a pair, or raise ConfigurationError.

    Args:
        timeout: Seconds, or (connect, read), as for requests.
    """
    pair = timeout if isinstance(timeout, tuple) else (timeout, timeout)
    if len(pair) != 2 or not all(
        isinstance(each, int | float) and not isinstance(each, bool) and 0 < each < math.inf
        for each in pair
    ):
        raise ConfigurationError("timeout must be seconds above zero, or (connect, read)")
    return pair


def _request(
    session: requests.Session, method: str, url: str, headers: Mapping[str, str], body: bytes
) -> requests.PreparedRequest:
    merged: CaseInsensitiveDict[Any] = CaseInsensitiveDict(session.headers)
    if merged.get("User-Agent") in (None, default_user_agent()):
        merged["User-Agent"] = _USER_AGENT
    merged.update(headers)
    return requests.Request(
        method,
        url,
        headers={name: value for name, value in merged.items() if value is not None},
        data=body,
        auth=_as_it_is,
        cookies=session.cookies,
        hooks={"response": _hide_from_session},
    ).prepare()


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Do nothing, as an ``auth``: with none, requests would put a ``.netrc`` entry in its place."""
    return request


def _hide_from_session(response: requests.Response, **_how_sent: Any) -> None:
    """Remove the headers that a session acts on: it keeps cookies and looks at redirects."""
    response.headers.pop("Location", None)
    message = getattr(getattr(response.raw, "_original_response", None), "msg", None)
    # A load balancer's cookie would bind every later attempt to a node that is dead.
    if message is not None and "Set-Cookie" in message:
        del message["Set-Cookie"]


def _read_response(received: requests.Response) -> Response:
    if received.status_code < 200:
        received.raw.close()  # the final response is still to come on this connection
        body = bytearray()
    else:
        received.raw.enforce_content_length = True  # urllib3 1 would take half a body for a whole
        body = bytearray()
        for chunk in received.iter_content(_CHUNK_BYTES):
            body += chunk
            if len(body) > MAX_RESPONSE_BYTES:
                break
    return Response(
        status_code=received.status_code,
        headers=received.headers,
        body=bytes(body[:MAX_RESPONSE_BYTES]),
        is_complete=len(body) <= MAX_RESPONSE_BYTES,
    )


def _is_from_proxy(response: Response, route: Route) -> bool:
    """Tell whether a response is a proxy's refusal: each 407 is, and a 403 without JSON."""
    if response.status_code != 403 or not route.is_forwarded:
        return response.status_code == 407
    try:
        json.loads(response.body)
    except (ValueError, RecursionError):
        return True
    return False


def http_date(text: str) -> float | None:
    """Return the POSIX seconds of an HTTP date (RFC 9110 section 5.6.7), None for other text.

    Args:
        text: The value of a header.
    """
    try:
        when = email.utils.parsedate_to_datetime(text)
        # Without a zone in it (asctime's form) it is still UTC.
        return when.replace(tzinfo=when.tzinfo or timezone.utc).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
