"""The errors of an exchange and their remedies: rules in order, the most specific first.

An exception of requests holds the request, so it is never chained to an error of ours. Our error
names the server, the step that failed, and the cause's class and reason, in words of its own.
"""

from __future__ import annotations

import errno
import http.client
import re
import ssl
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import attrs
import requests
import urllib3
from requests.utils import select_proxy
from urllib3.exceptions import InvalidHeader, LocationParseError
from urllib3.util import ssl_match_hostname

from .._bank import is_temporary
from ..exceptions import (
    CertificateError,
    ConfigurationError,
    PermataAuthError,
    RequestTimeoutError,
    TransportError,
)
from .causes import CONNECTING, RESOLVING, reason_of, step_of, walk

_PORTS = {"http": 80, "https": 443}
_PROXY_SETTINGS = "HTTPS_PROXY, HTTP_PROXY or the session's proxies"
_BUNDLE_SETTINGS = "REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE or the session's verify"


@attrs.frozen(kw_only=True)
class Route:
    """The way of a request, as far as errors may show it.

    Args:
        server: ``host:port`` of the server.
        proxy: ``host:port`` of the proxy, or None.
        is_forwarded: Whether the proxy reads the request and sends it on, with no tunnel.
        files: The CA bundle and client certificate that are set.
        allowed: The seconds for connecting, for reading and for everything in all.
        setting: The setting that an operator corrects where the URL is the cause.
    """

    server: str
    proxy: str | None
    is_forwarded: bool
    files: str
    allowed: tuple[float, float, float]
    setting: str

    @classmethod
    def of(
        cls,
        url: str,
        settings: Mapping[str, Any],
        allowed: tuple[float, float, float],
        setting: str,
    ) -> Route:
        """Describe the way of a request.

        Args:
            url: The request's URL.
            settings: ``proxies``, ``verify`` and ``cert``, as requests merges them.
            allowed: The field of this name.
            setting: The field of this name.
        """
        proxy = select_proxy(url, settings.get("proxies") or {}) if host_and_port(url) else None
        named = {"verify": settings.get("verify"), "cert": settings.get("cert")}
        return cls(
            server=host_and_port(url) or "of an invalid URL",
            proxy=host_and_port(proxy if "://" in proxy else f"http://{proxy}") if proxy else None,
            is_forwarded=bool(proxy) and url.startswith("http:"),
            files=", ".join(f"{k}={v!r}" for k, v in named.items() if not isinstance(v, bool) and v)
            or "none is set",
            allowed=allowed,
            setting=setting,
        )


def host_and_port(url: str) -> str | None:
    """Return ``host:port``, the part of a URL that may be shown; None for an invalid one.

    Args:
        url: The URL.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None
    if not parts.hostname:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{port}" if port else host


@attrs.frozen(kw_only=True)
class _Failure:
    raised: Exception
    causes: tuple[BaseException, ...]
    step: str
    reason: str
    route: Route

    def has(self, *kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in self.causes)

    @property
    def tls_reasons(self) -> str:
        found = [cause for cause in self.causes if isinstance(cause, ssl.SSLError)]
        return " ".join(str(each.reason or each.strerror) for each in found).replace(" ", "_")

    @property
    def is_of_proxy(self) -> bool:
        return self.has(requests.exceptions.ProxyError, urllib3.exceptions.ProxyError)

    @property
    def peer(self) -> str:
        if not self.is_of_proxy:
            return f"the server {self.route.server}"
        return f"the proxy {self.route.proxy or 'of the session'}"


_Rule = Callable[[_Failure], PermataAuthError | None]


def translate(raised: Exception, route: Route) -> PermataAuthError:
    """Return our error for an exception of requests, in words that quote nothing of the request.

    Args:
        raised: The exception.
        route: The way of the request.
    """
    causes = tuple(walk(raised))
    failure = _Failure(
        raised=raised,
        causes=causes,
        step=step_of(causes),
        reason=reason_of(causes[-1]),
        route=route,
    )
    return next(error for rule in _RULES if (error := rule(failure)) is not None)


def proxy_refusal(status_code: int, route: Route) -> TransportError:
    """Return the error for a proxy that responds instead of passing the request on.

    Args:
        status_code: The HTTP status of the proxy's response.
        route: The way of the request.
    """
    said = (
        f"the proxy refused (HTTP {status_code}): {route.proxy or 'a proxy on the way'} does not "
        f"pass requests on to {route.server}"
    )
    if is_temporary(status_code):
        return TransportError(f"{said}; wait, or ask its operator why it cannot connect")
    advice = "ask its operator to allow this host and port"
    if status_code == 407:
        advice = (
            f"correct the user and password in its URL ({_PROXY_SETTINGS}), or ask its operator"
        )
    return _permanent(f"{said}; {advice}")


def interim_response(status_code: int, route: Route) -> TransportError:
    """Return the error for an interim response that was handed out in place of the final one.

    Args:
        status_code: The HTTP status of the interim response.
        route: The way of the request.
    """
    return TransportError(
        f"no response from {route.server}: the session handed out an interim response "
        f"(HTTP {status_code}); wait, or leave session= out: connections of ours skip these"
    )


# The rules.


def _ours(failure: _Failure) -> PermataAuthError | None:
    ours = failure.raised
    return ours.with_traceback(None) if isinstance(ours, PermataAuthError) else None


def _refused_by_proxy(failure: _Failure) -> PermataAuthError | None:
    for cause in failure.causes:
        found = re.match(r"Tunnel connection failed: (\d{3})\b", str(cause))
        if found and isinstance(cause, OSError):
            return proxy_refusal(int(found[1]), failure.route)
        if type(cause).__name__ == "SOCKS5AuthError":  # of PySocks, which may not be installed
            return _permanent(
                f"the proxy refused (SOCKS5AuthError): {failure.route.proxy} does not pass "
                f"requests on to {failure.route.server}; correct the user and password in its "
                f"URL ({_PROXY_SETTINGS})"
            )
    return None


_EXHAUSTED = {
    errno.EMFILE: "this process has too many open files; raise its limit (ulimit -n), or close",
    errno.ENFILE: "this machine has too many open files; raise its limit, or close some",
    errno.EADDRNOTAVAIL: "this machine has no local address or port left; use fewer connections",
    errno.ENOBUFS: "this machine has no network buffers left; use fewer connections",
    errno.ENOMEM: "this machine has no memory left; use less of it",
}
_FORBIDDEN = (errno.EACCES, errno.EPERM)


def _denied_by_this_machine(failure: _Failure) -> PermataAuthError | None:
    numbers = [cause.errno for cause in failure.causes if isinstance(cause, OSError)]
    advice = next((_EXHAUSTED[number] for number in numbers if number in _EXHAUSTED), None)
    if advice is None and failure.step == CONNECTING and any(n in _FORBIDDEN for n in numbers):
        advice = "a firewall or policy of this machine forbids it; its operator can allow it"
    if advice is None:
        return None
    return TransportError(f"{_no_response(failure)}; {advice}")


def _too_late(failure: _Failure) -> PermataAuthError | None:
    # Not urllib3's own TimeoutError: a refused connection is one of its kind.
    late = (requests.Timeout, TimeoutError, urllib3.exceptions.ReadTimeoutError)
    if not failure.has(*late):
        return None
    connect, read, total = failure.route.allowed
    return RequestTimeoutError(
        f"no complete response from {failure.peer} in the time allowed: {failure.step} took too "
        f"long (connect {connect:.3g} s, read {read:.3g} s, {total:.3g} s in all); wait, or allow "
        "more (timeout=, RetryPolicy(timeout=...))"
    )


def _certificate(failure: _Failure) -> PermataAuthError | None:
    for cause in failure.causes:
        # urllib3 1 compares the host's name by itself, and has an error of its own for that.
        if isinstance(cause, ssl.SSLCertVerificationError | ssl_match_hostname.CertificateError):
            reason = getattr(cause, "verify_message", "it is for another host")
            return CertificateError(
                f"no response from {failure.peer}: its certificate was refused "
                f"({reason}); "
                "check the URL, the CA bundle and this machine's clock "
                f"({failure.route.setting}; {_BUNDLE_SETTINGS})"
            )
    return None


def _client_certificate_wanted(failure: _Failure) -> PermataAuthError | None:
    wanted = r"ALERT_(\w*CERT|UNKNOWN_CA|ACCESS_DENIED|HANDSHAKE_FAILURE)"
    if not re.search(wanted, failure.tls_reasons):
        return None
    return ConfigurationError(
        f"{failure.peer} refused this client at {failure.step} ({failure.reason}): it wants a "
        f"client certificate, or another than the one that is set ({failure.route.files}); "
        "set the one that the bank knows"
    )


def _no_common_tls(failure: _Failure) -> PermataAuthError | None:
    if re.search("WRONG_VERSION|HTTP_REQUEST|UNKNOWN_PROTOCOL|RECORD_LAYER", failure.tls_reasons):
        setting = _PROXY_SETTINGS if failure.is_of_proxy else failure.route.setting
        advice = f"that port does not speak TLS; correct scheme and port of {setting}"
    elif re.search("ALERT_PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL|NO_PROTOCOLS", failure.tls_reasons):
        advice = "it shares no version of TLS with this machine's OpenSSL; update the older one"
    else:
        return None
    return ConfigurationError(f"{_no_response(failure)}: {advice}")


_FILE_REASONS = "NO_CERTIFICATE_OR_CRL|PEM|KEY_VALUES_MISMATCH|NO_START_LINE|BAD_DECRYPT|ASN1"


def _unusable_files(failure: _Failure) -> PermataAuthError | None:
    # requests raises a bare OSError for a wrong path, urllib3 the error of OpenSSL.
    is_bare = isinstance(failure.raised, OSError) and not isinstance(
        failure.raised, requests.RequestException
    )
    paths = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
    if not (is_bare or failure.has(*paths) or re.search(_FILE_REASONS, failure.tls_reasons)):
        return None
    return ConfigurationError(
        f"the request to {failure.route.server} cannot be sent ({failure.reason}); check the CA "
        f"bundle and client certificate that are set ({failure.route.files}; {_BUNDLE_SETTINGS})"
    )


def _invalid(failure: _Failure) -> PermataAuthError | None:
    is_of_response = failure.has(InvalidHeader) or type(failure.raised) is ValueError
    invalid = (
        requests.exceptions.InvalidURL,
        requests.exceptions.InvalidSchema,  # a SOCKS proxy, without the extra that requests needs
        requests.exceptions.InvalidHeader,
        requests.exceptions.MissingSchema,
        LocationParseError,
        UnicodeError,  # a host that cannot be written in the way of RFC 3490
    )
    if is_of_response or not failure.has(*invalid):
        return None
    return ConfigurationError(
        f"requests cannot send to the server {failure.route.server} "
        f"({type(failure.raised).__name__}); correct {failure.route.setting}, a header or the "
        f"proxy's URL ({_PROXY_SETTINGS}; SOCKS needs requests[socks])"
    )


def _unknown_name(failure: _Failure) -> PermataAuthError | None:
    if failure.step != RESOLVING:
        return None
    setting = _PROXY_SETTINGS if failure.is_of_proxy else failure.route.setting
    return TransportError(
        f"{_no_response(failure)}; check the host in {setting} and this machine's DNS, or wait"
    )


def _no_http(failure: _Failure) -> PermataAuthError | None:
    cause = failure.causes[-1]
    no_http = (http.client.BadStatusLine, http.client.LineTooLong, http.client.UnknownProtocol)
    if not isinstance(cause, no_http) or isinstance(cause, http.client.RemoteDisconnected):
        return None
    what = "is no HTTP"
    if _TLS_ALERT in str(cause):
        what = "is TLS, which wants https:// in the URL"
    return TransportError(
        f"{_no_response(failure)}: what came {what}; "
        f"wait, or correct scheme and port of {failure.route.setting}"
    )


def _unreachable(failure: _Failure) -> PermataAuthError:
    advice = "wait, or check the network between here and the bank"
    if failure.is_of_proxy:
        advice = f"wait, or check the proxy that is set ({_PROXY_SETTINGS})"
    return TransportError(f"{_no_response(failure)}; {advice}")


#: The first bytes of a TLS alert.
_TLS_ALERT = "\x15\x03"

_RULES: tuple[_Rule, ...] = (
    _ours,
    _refused_by_proxy,
    _denied_by_this_machine,
    _too_late,
    _certificate,
    _client_certificate_wanted,
    _no_common_tls,
    _unusable_files,
    _invalid,
    _unknown_name,
    _no_http,
    _unreachable,
)


def _no_response(failure: _Failure) -> str:
    return f"no complete response from {failure.peer}: {failure.step} failed ({failure.reason})"


def _permanent(message: str) -> TransportError:
    error = TransportError(message)
    error.retryable = False
    return error
