"""The bank as tests and programs use it: opened, closed, driven, asked for its records."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import attrs

from . import bank as rules
from .admin import administer
from .errors import error_reply
from .fault_book import FaultBook, Gate
from .listener import Listener, bound
from .messages import (
    ADMIN_PREFIX,
    CALLBACK_PATH,
    SNAP_PREFIX,
    SNAP_TOKEN_PATH,
    TOKEN_PATH,
    Inbound,
    Reply,
)
from .snap.bank import SnapBank, snap_arguments
from .snap.keys import one_line
from .tokens import is_bool

if TYPE_CHECKING:
    from typing_extensions import Self

    from permata_auth.schemes.classic import PermataCredentials
    from permata_auth.schemes.snap import SnapCredentials

_log = logging.getLogger("permata_auth.sandbox")

_BACKLOG = 1024


@attrs.define(kw_only=True, eq=False)
class Sandbox(SnapBank):
    """A bank on loopback, for tests and demonstrations.

    Use it as a context manager, or call :meth:`start` and :meth:`stop`. Every method may be called
    from any thread. A forked child that inherits the object can neither stop nor silence the bank;
    it asks for counters over the admin HTTP path.

    Args:
        host: The address to listen on; loopback, as the port gives control over the bank.
        port: 0 takes a free one.
        admin: Whether ``/__sandbox__/`` answers.
        log_requests: Log each request at INFO rather than DEBUG.
    """

    host: str = attrs.field(default="127.0.0.1")
    port: int = attrs.field(default=0)
    admin: bool = attrs.field(default=True, validator=is_bool)
    log_requests: bool = attrs.field(default=False, validator=is_bool)
    _faults: FaultBook = attrs.field(factory=FaultBook, init=False, repr=False)
    _address: tuple[str, int] | None = attrs.field(default=None, init=False, repr=False)
    _listener: Listener | None = attrs.field(default=None, init=False, repr=False)
    _reserved: socket.socket | None = attrs.field(default=None, init=False, repr=False)
    _owner: int = attrs.field(default=0, init=False, repr=False)
    _switching: threading.Lock = attrs.field(factory=threading.Lock, init=False, repr=False)
    _errors: list[Exception] = attrs.field(factory=list, init=False, repr=False)

    def start(self) -> Self:
        """Open the bank and return it; does nothing if it is open or down. Raises OSError."""
        with self._switching:
            if self._reserved is None:
                self._reserved = bound(self.host, self.port)
                self._address = self._reserved.getsockname()[:2]
                self._owner = os.getpid()
                self._listen()
        return self

    def stop(self) -> None:
        """Close the bank, drop all connections and release all gates; takes at most 5 seconds."""
        if os.getpid() != self._owner:
            return
        with self._switching:
            self._close()
            self._faults.clear()
            if self._reserved:
                self._reserved.close()
            self._reserved = None

    def go_down(self) -> None:
        """Refuse connections and drop the open ones until :meth:`come_up`; the port stays ours."""
        if os.getpid() != self._owner:
            return
        with self._switching:
            if self._reserved and self._listener:
                self._close()
                self._reserved.close()
                self._reserved = bound(*self._running_address())

    def come_up(self) -> None:
        """Listen again on the same port; does nothing if the bank is not down."""
        with self._switching:
            if self._reserved and os.getpid() == self._owner:
                self._listen()

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """Be down for the length of the with-block."""
        self.go_down()
        try:
            yield
        finally:
            self.come_up()

    def _listen(self) -> None:
        if self._listener is None and self._reserved:
            self._reserved.listen(_BACKLOG)
            self._listener = Listener(self._serve, self.now, self._reserved)

    def _close(self) -> None:
        listener, self._listener = self._listener, None
        if listener:
            # In this order: a request that a gate lets go finds the bank closed and is not judged.
            listener.halt()
            self._faults.release()
            listener.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
        if exc_info[0] is None:
            self.check()

    def check(self) -> None:
        """Raise the first error that happened inside the bank itself, once."""
        errors, self._errors = self._errors, []
        if errors:
            raise errors[0]

    def _running_address(self) -> tuple[str, int]:
        if self._address is None:
            raise RuntimeError("The sandbox has no address before it is started.")
        return self._address

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end; known from the first start on."""
        host, port = self._running_address()
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def token_url(self) -> str:
        """The URL of the token endpoint."""
        return self.url + TOKEN_PATH

    @property
    def callback_status_url(self) -> str:
        """The URL of the callback status endpoint."""
        return self.url + CALLBACK_PATH

    @property
    def admin_url(self) -> str:
        """The base URL of the admin path, with a slash at its end."""
        return self.url + ADMIN_PREFIX

    def credentials(self, **overrides: Any) -> PermataCredentials:
        """Return credentials that this bank accepts; overrides replace single arguments."""
        # The only thing taken from the client, and it signs nothing on this side.
        from permata_auth.schemes.classic import PermataCredentials  # noqa: PLC0415

        arguments: dict[str, Any] = {
            name.removeprefix("PERMATA_").lower(): value
            for name, value in self.environment().items()
            if name != "PERMATA_CALLBACK_STATUS_URL"
        }
        return PermataCredentials(**(arguments | overrides))

    def environment(self, scheme: str = "classic") -> dict[str, str]:
        """Return the environment variables that point a client at this bank.

        Args:
            scheme: "classic" or "snap": for which of its dialects.
        """
        if scheme == "snap":
            return self.snap_environment()
        keys = self._keys[0]
        return {
            "PERMATA_TOKEN_URL": self.token_url,
            "PERMATA_API_KEY": keys.api_key,
            "PERMATA_CLIENT_ID": keys.client_id,
            "PERMATA_CLIENT_SECRET": keys.client_secret,
            "PERMATA_STATIC_KEY": keys.static_key,
            "PERMATA_ORGANIZATION_NAME": rules.ORGANIZATION_NAME,
            "PERMATA_CALLBACK_STATUS_URL": self.callback_status_url,
        }

    @property
    def snap_url(self) -> str:
        """The base URL of the SNAP side, below which ``/v1.0/…`` begins."""
        return self.url + SNAP_PREFIX

    @property
    def snap_token_url(self) -> str:
        """The URL of the SNAP side's token endpoint."""
        return self.url + SNAP_TOKEN_PATH

    def snap_credentials(self, **overrides: Any) -> SnapCredentials:
        """Return credentials that the SNAP side accepts; overrides replace single arguments."""
        # Like credentials(): taken from the client, and it signs nothing on this side.
        from permata_auth.schemes.snap import SnapCredentials  # noqa: PLC0415

        return SnapCredentials(**(self._snap_arguments() | overrides))

    def snap_environment(self) -> dict[str, str]:
        """Return the environment variables that point a client at the SNAP side."""
        settings = self._snap_arguments()
        settings["private_key"] = one_line(settings["private_key"])
        return {
            "PERMATA_SCHEME": "snap",
            **{f"PERMATA_SNAP_{name.upper()}": _text(value) for name, value in settings.items()},
        }

    def _snap_arguments(self) -> dict[str, Any]:
        keys = self._keys[0]
        return snap_arguments(
            self.snap_rules,
            token_url=self.snap_token_url,
            client_secret=keys.client_secret,
            private_key=keys.private_key,
        )

    def fail_next(
        self, n: int = 1, fault: str = "status", *, on: str = "any", **fault_arguments: Any
    ) -> None:
        """Inject a fault into the next ``n`` requests.

        Faults queue up, first in, first out. Raises ValueError for an unknown name or argument.

        Args:
            n: The number of requests; one by default.
            fault: The name of a fault, as the package lists them; by default a 503.
            on: The requests it is for: "any" (default), "token" for logins, or "calls".
            fault_arguments: Those of the fault, such as ``status=500``.
        """
        self._faults.fail(fault, on, fault_arguments, left=n)

    def fail_for(
        self, seconds: float, /, fault: str = "status", *, on: str = "any", **fault_arguments: Any
    ) -> None:
        """Inject a fault into every request of the next ``seconds``; else like ``fail_next``.

        Args:
            seconds: Counted from now.
            fault: As in :meth:`fail_next`.
            on: As in :meth:`fail_next`.
            fault_arguments: As in :meth:`fail_next`.
        """
        self._faults.fail(fault, on, fault_arguments, seconds=seconds)

    def hold_next(self, n: int = 1, *, on: str = "any") -> Gate:
        """Hold the next ``n`` requests, unjudged, until the returned gate is released."""
        return self._faults.hold(n, on)

    def clear_faults(self) -> None:
        """Forget all faults to come and release all gates."""
        self._faults.clear()

    def _serve(self, request: Inbound, closing: threading.Event) -> Reply:
        at = time.monotonic()
        try:
            if self.admin and request.path.startswith(ADMIN_PREFIX):
                return administer(self, request)
            self._note_arrival(request)
            self._faults.hold_back(request)
            if closing.is_set():
                reply = Reply(status=0, reason="the bank went down")
            else:
                reply = self._faults.apply(request, lambda: self._answer(request))
        except Exception as error:
            self._errors.append(error)
            reply = error_reply(request, 500, "Internal Server Error", reason="internal error")
        self._record(request, reply, at)
        level = logging.INFO if self.log_requests else logging.DEBUG
        # As ASCII: a path may hold anything, line breaks too.
        line = f"{request.method} {request.path}".encode("unicode_escape").decode()
        _log.log(level, "Sandbox answered %s: %s (%s)", line, reply.status or "-", reply.reason)
        return attrs.evolve(reply, delay=reply.delay + self.latency)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
