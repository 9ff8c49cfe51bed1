"""Seven checks of the way from this machine to a signed call; each failure names the person to ask.

The command ``permata-auth doctor`` and those of the frameworks print them.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

import attrs
from requests.utils import get_environ_proxies

from . import _clock
from ._bank import is_temporary, unavailable
from ._http import exchange, http_date
from ._settings import url_problem
from .exceptions import (
    ClockError,
    ConfigurationError,
    PermataAuthError,
    SignatureError,
    TokenStoreError,
    TransportError,
)
from .login import LoginClient, RetryPolicy
from .schemes.base import Scheme, is_signature_rejected, is_timestamp_rejected
from .schemes.setting_names import SettingNames, setting_names
from .stores.base import TokenStore, bound
from .tokens import AccessToken
from .transport import Transport, session_by

_TIMEOUT = (5.0, 10.0)
_MAX_EXCHANGE_SECS = 20.0
#: The most that a clock may be off. The bank's own limit is not known; it has refused seven hours.
_MAX_SKEW_SECS = 30.0
_PROBE_LIFE_SECS = 60.0
_TEMPORARY_FAILURE = 75  # EX_TEMPFAIL of sysexits.h


class _Skipped(Exception):  # noqa: N818 - no error: there is nothing to check
    pass


@attrs.frozen
class Finding:
    """The outcome of one check, as one line of text.

    Args:
        name: The check's name.
        verdict: ``ok``, ``FAIL``, or ``-`` for a check that is passed over.
        sentence: The finding; after a failure also the remedy.
    """

    name: str
    verdict: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.verdict:<5} {self.name:<14} {self.sentence}"


class Examination:
    """The checks, with the results of earlier ones that later ones need.

    Args:
        credentials: Reads the credentials; called once, by the first check.
        store: Makes the token store, or returns None where there is none; called by the last.
        url: The URL for a signed call with an empty JSON object; empty: no signed call is made.
        origins: Tells where each setting came from that the first of these has read.
        transport: Says how to connect; called once, by the first check. None: as requests does.
    """

    def __init__(
        self,
        credentials: Callable[[], Scheme],
        store: Callable[[], TokenStore | None],
        url: str,
        *,
        origins: Callable[[], Mapping[str, str]] = dict,
        transport: Callable[[], Transport | None] = lambda: None,
    ) -> None:
        self._read_credentials = credentials
        self._make_store = store
        self._url = url
        self._origins = origins
        self._read_transport = transport
        self._transport: Transport | None = None
        self._credentials: Any | None = None
        self._token: AccessToken | None = None
        self._skew: float | None = None
        self._has_answered = False
        self._failures: list[bool] = []  # of each: whether waiting may help

    def run(self) -> Iterator[Finding]:
        """Make the checks one after the other; yield each outcome as soon as it is there."""
        for name, check in {
            "configuration": self._check_configuration,
            "name": self._check_name,
            "connection": self._check_connection,
            "clock": self._check_clock,
            "login": self._check_login,
            "signature": self._check_signature,
            "store": self._check_store,
        }.items():
            yield Finding(name, *self._outcome(check))

    @property
    def exit_code(self) -> int:
        """0 if all is well, 75 if waiting may help, 1 if it will not."""
        if not self._failures:
            return 0
        return _TEMPORARY_FAILURE if all(self._failures) else 1

    def _outcome(self, check: Callable[[], str]) -> tuple[str, str]:
        try:
            return "ok", check()
        except _Skipped as reason:
            return "-", str(reason)
        except PermataAuthError as error:
            self._failures.append(error.retryable)
            return "FAIL", str(error)
        except ImportError as error:  # of a store's extra, whose text is the pip command
            self._failures.append(False)
            return "FAIL", str(error)

    def _check_configuration(self) -> str:
        credentials = self._read_credentials()
        if self._url:
            is_open = getattr(credentials, "allow_insecure_http", False)
            problem = url_problem(self._url, allow_insecure_http=is_open)
            if problem is not None:
                raise ConfigurationError(f"the URL for signed calls {problem}")
        transport = self._transport = self._read_transport()
        self._credentials = credentials
        proxy = f", through the proxy {transport.proxy}" if transport and transport.proxy else ""
        expires_at = transport and transport.expires_at
        until = f", client certificate until {expires_at:%Y-%m-%d %H:%M} UTC" if expires_at else ""
        places: dict[str, list[str]] = {}
        for name, place in self._origins().items():
            places.setdefault(place, []).append(name)
        found = [f"; {', '.join(names)} from {place}" for place, names in places.items()]
        return f"complete, for {self._endpoint.hostname}{proxy}{until}{''.join(found)}"

    def _check_name(self) -> str:
        host = self._endpoint.hostname
        self._require_direct()
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise TransportError(
                f"{host} is not known here; check {self._names.token_url}, or this machine's DNS"
            ) from None
        return f"{host} is {', '.join(sorted({str(each[4][0]) for each in found}))}"

    def _check_connection(self) -> str:
        """Ask for the server's front page, which needs no credentials."""
        endpoint = self._endpoint
        with session_by(self._transport, 1) as session:
            began = _clock.now()
            response = exchange(
                session,
                "HEAD",
                f"{endpoint.scheme}://{endpoint.netloc}/",
                headers={},
                body=b"",
                timeout=_TIMEOUT,
                deadline=began + _MAX_EXCHANGE_SECS,
            )
        took = _clock.now() - began
        self._has_answered = True
        date = http_date(response.headers.get("Date", ""))
        if date is not None:
            # It was written at some time of the exchange, and tells whole seconds.
            self._skew = _clock.wall() - took / 2 - (date + 0.5)
        how = "by TLS, with a certificate that is trusted" if endpoint.scheme == "https" else "open"
        return f"answered in {took * 1000:.0f} ms, {how}"

    def _check_clock(self) -> str:
        self._require_answer()
        if self._skew is None:
            raise _Skipped("the server does not show its clock")
        if abs(self._skew) > _MAX_SKEW_SECS:
            raise ClockError(
                f"this machine's clock is {abs(self._skew):.0f} s "
                f"{'ahead of' if self._skew > 0 else 'behind'} the server's; "
                "its operator corrects it and lets NTP keep it"
            )
        return f"within {abs(self._skew) + 0.5:.0f} s of the server's"

    def _check_login(self) -> str:
        credentials = self._known()
        self._require_answer()
        retry = RetryPolicy(attempts=1, timeout=_MAX_EXCHANGE_SECS)
        # Without a correction, which would hide a clock that is to be mended.
        with LoginClient(
            credentials,
            retry=retry,
            timeout=_TIMEOUT,
            transport=self._transport,
            clock_correction=False,
        ) as client:
            self._token = client.login()
        left = self._token.expires_in()
        return f"token {self._token.fingerprint}, which lives for {left:.0f} s"

    def _check_signature(self) -> str:
        credentials = self._known()
        if self._token is None:
            raise _Skipped("needs a token")
        if not self._url:
            raise _Skipped("give --url or PERMATA_CALLBACK_STATUS_URL to make a signed call")
        body = b"{}"
        headers = credentials.sign(self._token.value, "POST", self._url, body)
        with session_by(self._transport, 1) as session:
            response = exchange(
                session,
                "POST",
                self._url,
                headers={**headers, "Content-Type": "application/json"},
                body=body,
                timeout=_TIMEOUT,
                deadline=_clock.now() + _MAX_EXCHANGE_SECS,
            )
        return self._judge(response.status_code, response.body)

    def _judge(self, status: int, body: bytes) -> str:
        if self._known().is_token_rejected(status, body):
            raise SignatureError("the bank rejects a token it has just issued; ask the bank")
        if is_signature_rejected(self._known(), status, body):
            raise SignatureError(
                f"the bank does not accept the signature; check {self._names.signature}"
            )
        if is_timestamp_rejected(self._known(), status, body):
            raise ClockError("the bank does not accept the timestamp; check this machine's clock")
        if is_temporary(status):
            raise unavailable(status)
        if status in (401, 403):
            raise SignatureError(
                f"the bank answered HTTP {status}; check {self._names.caller}, "
                "and ask the bank whether this client may use that URL"
            )
        return f"accepted, the signed call was answered with HTTP {status}"

    def _check_store(self) -> str:
        credentials = self._known()
        made = self._make_store()
        if made is None:
            raise _Skipped("PERMATA_TOKEN_STORE is not set: each process has a token of its own")
        store = bound(made, credentials)
        key = f"{credentials.key}-doctor"
        expires = _clock.at(_clock.now() + _PROBE_LIFE_SECS)
        probe = AccessToken(value="doctor", expires_at=expires)
        with store.lock(key):
            store.save(key, probe)
            read = store.load(key)
            store.discard(key, probe)
        if read is None or read.value != probe.value:
            raise TokenStoreError("what is written is not what is read; its operator looks into it")
        if self._token is not None:  # newer than theirs, which it may have replaced at the bank
            store.save(credentials.key, self._token)
        return f"{store!r} can be read, written and locked"

    def _known(self) -> Any:
        if self._credentials is None:
            raise _Skipped("needs a configuration")
        return self._credentials

    @property
    def _names(self) -> SettingNames:
        return setting_names(self._known())

    @property
    def _endpoint(self) -> SplitResult:
        return urlsplit(str(self._known().token_url))

    def _require_direct(self) -> None:
        if self._transport is not None and self._transport.proxy is not None:
            raise _Skipped(f"left to the proxy {self._transport.proxy}")
        if get_environ_proxies(self._known().token_url, no_proxy=None).get(self._endpoint.scheme):
            raise _Skipped("left to the proxy that the environment names")

    def _require_answer(self) -> None:
        if not self._has_answered:
            raise _Skipped("needs a connection")
