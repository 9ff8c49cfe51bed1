"""The receiver: its settings, and the functions of its services."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from .._settings import Seconds, Unpicklable
from ..events import Event, EventHooks
from ..exceptions import ConfigurationError
from .answering import Answering
from .checks import SnapCall
from .external_ids import ExternalIds
from .inbound import Inbound
from .services import Inquiry, Payment, Raw, Result, Service
from .settings import DEFAULTS, examine, read
from .virtual_accounts import VaBill, VaInquiry, VaPayment, VaReceipt

_Function = TypeVar("_Function", bound=Callable[..., Any])


class SnapReceiver(Answering, Unpicklable):
    """Issue tokens to the bank, verify its requests, and answer them. Thread-safe.

    ::

        receiver = SnapReceiver.from_env()
        receiver.on_payment(book)
        response = receiver.process(method, path, headers, body)

    Every request is verified over its raw bytes and the path as it was received, before anything
    in it is read. Raises one ConfigurationError that names all that is wrong and shows no value,
    and ImportError without the extra ``snap``.

    Keys and secrets may be a list, for while they change, or a function that returns one: it is
    called for every request, and where it fails the last good ones stay in use.

    Args:
        client_key: The X-CLIENT-KEY of the bank.
        bank_public_keys: The bank's RSA keys: PEM text (several blocks in one, too), keys that
            cryptography has loaded, a list of them, or a function. All are tried.
        client_secrets: The secrets that the bank signs calls with, the current one first: a text
            or bytes, a list, or a function. May be empty for asymmetric signatures alone.
        external_ids: The store of seen requests. None for this process's memory: with several
            workers, each would take a replayed request once.
        token_key: The key that signs issued tokens, at least 16 bytes; several are taken as
            ``client_secrets`` are. None derives it from each of the client secrets.
        max_skew_secs: How far X-TIMESTAMP may be from this machine's clock, 60 to 3600 s. 300 by
            default, between the values that banks are known to use.
        time_limit_secs: How long a function may take before the bank is answered with 504. 8 s by
            default, since a bank is known to wait for 10.
        token_ttl_secs: How long a token lives, in seconds; 900 by default, as in the standard.
        signed_prefix: The text that the bank signs before the version segment of the path, where
            a proxy changes it: ``/`` for nothing, or a path. None by default: the path as received.
        partner_id: The X-PARTNER-ID that is expected; None takes any, since it is signed by nobody.
        channel_id: The CHANNEL-ID that is expected; None takes any.
        duplicates: The answer to a repeated X-EXTERNAL-ID: ``conflict`` (409, as the
            standard says), or ``replay``, the first answer again where the body is the same.
        signature: Of calls, as registered with the bank: ``symmetric`` (with a token) by default,
            or ``asymmetric`` (without).
        signature_encoding: ``base64`` (default) or ``hex``; no other is accepted.
        canonicalizer: The part of a body that is signed: ``minify`` (default), ``strip_all`` or
            ``raw``.
        allow_short_key: Take keys of the bank below 2048 bits. False by default.
        token_path: Of the token endpoint, below the version.
        on_event: Called with an :class:`InboundCallAnswered` for each request.
    """

    _why_unpicklable = "it holds secrets; build it in each process"

    def __init__(
        self,
        *,
        client_key: str,
        bank_public_keys: Any,
        client_secrets: Any,
        external_ids: ExternalIds | Any = None,
        token_key: Any = None,
        max_skew_secs: Seconds = 300.0,
        time_limit_secs: Seconds = 8.0,
        token_ttl_secs: Seconds = 900.0,
        signed_prefix: str | None = None,
        partner_id: str | None = None,
        channel_id: str | None = None,
        duplicates: str = "conflict",
        signature: str = "symmetric",
        signature_encoding: str = "base64",
        canonicalizer: str = "minify",
        allow_short_key: bool = False,
        token_path: str = "/access-token/b2b",  # noqa: S107 - a path
        on_event: Callable[[Event], object] | None = None,
    ) -> None:
        values = locals()
        rules, error = examine({name: values[name] for name in DEFAULTS}, {})
        del values, client_secrets, token_key  # error reports show the locals of a frame
        if rules is None:
            raise error or ConfigurationError("nothing is set")
        super().__init__(rules, _path(token_path), EventHooks("snap", on_event))

    @classmethod
    def from_env(
        cls,
        environ: Mapping[str, str] | None = None,
        *,
        prefix: str = "PERMATA_SNAP_",
        external_ids: ExternalIds | None = None,
        on_event: Callable[[Event], object] | None = None,
    ) -> SnapReceiver:
        """Read ``PERMATA_SNAP_INBOUND_CLIENT_KEY`` and so on.

        ``…INBOUND_CLIENT_KEY``, ``…INBOUND_CLIENT_SECRET`` and ``…_PREVIOUS`` while it changes,
        ``…BANK_PUBLIC_KEY``,
        ``…INBOUND_EXTERNAL_IDS`` (the URL of a Redis), ``…INBOUND_TOKEN_KEY``, ``…_TOKEN_TTL``,
        ``…_MAX_SKEW``, ``…_TIME_LIMIT``, ``…_SIGNED_PREFIX``, ``…_PARTNER_ID``, ``…_CHANNEL_ID``,
        ``…_DUPLICATES``, ``…_SIGNATURE``; and ``…SIGNATURE_ENCODING``, ``…CANONICALIZER``,
        ``…ALLOW_SHORT_KEY``. Blank is unset. The value of each may be in a file, which ``…_FILE``
        names, or in the folders of secrets of :mod:`permata_auth.credentials`; keys and secrets are
        read again when theirs changes. Raises one ConfigurationError that names every
        variable that is missing or wrong, and shows no value.

        Args:
            environ: Where the variables are; by default this process's environment.
            prefix: Of their names.
            external_ids: In place of the variable, for ids that are kept elsewhere.
            on_event: As of the class.
        """
        values, _, error = read(os.environ if environ is None else environ, prefix, external_ids)
        del environ, _  # error reports show the locals of a frame
        if error is not None:
            del values
            raise error
        return cls(**values, on_event=on_event)

    def __repr__(self) -> str:
        return f"<SnapReceiver of {len(self._services)} services>"

    def on(
        self, path: str, service: int, function: Callable[[SnapCall], Result]
    ) -> Callable[[SnapCall], Result]:
        """Call ``function`` for a service; return it. Neither fields nor repetitions are checked.

        Args:
            path: Below the version, such as ``/qr/qr-mpm-notify``.
            service: The service's code, such as 52, for response codes.
            function: Called with a :class:`SnapCall`, on a thread of its own. It returns a dict
                or a :class:`SnapAnswer`, or raises a :class:`SnapRefusal`; any other exception
                is answered with 500.
        """
        if isinstance(service, bool) or not isinstance(service, int) or not 0 <= service <= 99:
            raise ConfigurationError("service must be the two digits of its code, as an int")
        self._add(path, Raw(service, _callable(function)))
        return function

    def on_inquiry(
        self,
        function: Callable[[VaInquiry], VaBill | Result],
        *,
        path: str = "/transfer-va/inquiry",
    ) -> Callable[[VaInquiry], VaBill | Result]:
        """Call ``function`` for inquiries of virtual accounts (24); return it.

        Args:
            function: Called with a :class:`VaInquiry`, on a thread of its own. It returns a
                :class:`VaBill`, a dict of members of ``virtualAccountData``, or an answer as of
                :meth:`on`. Unknown numbers: ``raise SnapRefusal("12", "Bill not found")``.
            path: Below the version.
        """
        self._add(path, Inquiry(_callable(function)))
        return function

    def on_payment(
        self,
        function: Callable[[VaPayment], VaReceipt | Result],
        *,
        path: str = "/transfer-va/payment",
    ) -> Callable[[VaPayment], VaReceipt | Result]:
        """Call ``function`` for payments of virtual accounts (25), once for each; return it.

        Args:
            function: Called with a :class:`VaPayment`, on a thread of its own. It returns a
                :class:`VaReceipt`, or as of :meth:`on_inquiry`.
            path: Below the version.
        """
        self._add(path, Payment(_callable(function)))
        return function

    def _add(self, path: str, service: Service) -> None:
        path = _path(path)
        if path == self._token_path or path in self._services:
            raise ConfigurationError("path has a service already")
        # One assignment: a request in another thread sees the old services or the new ones.
        self._services = {**self._services, path: service}


def _path(path: object) -> str:
    request = Inbound(method="", path=str(path), headers={}, body=b"")
    if not isinstance(path, str) or request.route() != path:
        raise ConfigurationError("path must begin with / and stand below the version")
    return path


def _callable(function: _Function) -> _Function:
    if not callable(function):
        raise ConfigurationError("function must be callable")
    return function
