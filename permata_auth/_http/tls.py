"""TLS files that may change while the program runs, and the context that is made of them."""

from __future__ import annotations

import os
import ssl
import threading
from collections import deque
from collections.abc import Callable

import attrs
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.util.ssl_ import create_urllib3_context

from .. import _clock, _process
from .._logging import Log
from ..exceptions import ConfigurationError
from .certificates import UnusableFileError, load_bundle, load_pair

logger = Log(__name__)

#: Of each path the marks that change whenever the file does, also by a link on the way to it.
_States = tuple[tuple[object, ...], ...]


@attrs.frozen(kw_only=True, eq=False)
class Tls:
    """One state of the files, and the context that new connections are made with.

    ``bundle`` names the authorities that it trusts; ``expires_at`` is POSIX seconds, of the client
    certificate.
    """

    context: ssl.SSLContext = attrs.field(repr=False)
    bundle: str
    expires_at: float | None

    @property
    def is_over(self) -> bool:
        return self.expires_at is not None and self.expires_at <= _clock.wall()

    def for_proxy(self) -> ssl.SSLContext:
        """Return a new context that trusts the same and shows no client certificate."""
        context = create_urllib3_context()
        try:
            load_bundle(context, self.bundle)
        except UnusableFileError as error:
            raise ConfigurationError(f"the CA bundle {error.problem}") from None
        return context


@attrs.define(eq=False)
class _Watch:
    """The files as one process knows them; a thread that loads them has the ``turn``."""

    tls: Tls | None
    states: _States = ()
    problem: str = ""
    turn: threading.Lock = attrs.Factory(threading.Lock)

    def fresh(self, states: _States) -> Tls | None:
        """Return the context made from these states of the files, if it is still of use."""
        is_fresh = self.tls is not None and states == self.states and not self.tls.is_over
        return self.tls if is_fresh else None


class TlsFiles:
    """A client certificate, its key and a CA bundle, looked at whenever they are needed.

    Thread-safe: one thread loads changed files, the others go on with the old ones. A forked
    child loads for itself: to use an ancestor's context could mean to wait for a lock in it that a
    thread of the ancestor held at the fork. It does so where the files are unusable just then.

    Args:
        client_cert: The PEM file of the client certificate and its chain; it may hold the key.
        client_key: The PEM file of the key, where that is a file of its own.
        password: Opens an encrypted key.
        ca_bundle: The authorities to trust: a PEM file, or a folder as OpenSSL hashes it. None:
            those that requests trusts.
        label: Turns the name of an argument into that of the setting it came from.
    """

    def __init__(
        self,
        client_cert: str | None = None,
        client_key: str | None = None,
        password: str | None = None,
        ca_bundle: str | None = None,
        label: Callable[[str], str] = str,
    ) -> None:
        self.client_cert = client_cert
        self.client_key = client_key
        self.ca_bundle = ca_bundle
        self._password = password
        self._label = label
        #: Contexts of ancestors are kept: to free one at once could mean to wait for such a lock.
        self._inherited: deque[_Watch] = deque(maxlen=4)
        self._watches = _process.PerProcess(self._first, retire=self._inherited.append)

    @property
    def bundle(self) -> str:
        """The authorities to trust, which requests chooses where no bundle was given."""
        names = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
        named = next(filter(None, map(os.environ.get, names)), None)
        return self.ca_bundle or named or DEFAULT_CA_BUNDLE_PATH

    def current(self) -> Tls:
        """Return the context for a new connection; blocks for the disk alone.

        Raises ConfigurationError where no state of the files was usable yet. Later on, the last
        one that was stays, and one WARNING says why.
        """
        watch = self._watches.get()
        states = _states(self.client_cert, self.client_key, self.bundle)
        return watch.fresh(states) or self._reload(watch, states)

    def _first(self) -> _Watch:
        return _Watch(self._inherited[-1].tls if self._inherited else None)

    def _reload(self, watch: _Watch, states: _States) -> Tls:
        # No thread waits for its turn: it could be a signal handler that has interrupted the one
        # that has it. It goes on with the files of before, or loads by itself where it has none.
        has_turn = watch.turn.acquire(blocking=False)
        try:
            fresh = watch.fresh(states) if has_turn else watch.tls
            if fresh is not None:  # another thread has loaded it, or is about to
                return fresh
            problems, tls = self._load(is_first=watch.tls is None)
            if tls is not None:
                if watch.states:
                    logger.info("The TLS files have changed, new connections use them")
                # The states of before it was read: a change since then is seen at the next look.
                watch.tls, watch.states, watch.problem = tls, states, ""
                return tls
            if watch.tls is None:
                raise ConfigurationError(problems)
            if problems != watch.problem:
                watch.problem = problems
                logger.warning("The TLS files are unusable, those of before stay: %s", problems)
            return watch.tls
        finally:
            if has_turn:
                watch.turn.release()

    def _load(self, *, is_first: bool) -> tuple[str, Tls | None]:
        """Return all problems, the first time, or else one; or no problem, and the new context."""
        context, bundle, problems = create_urllib3_context(), self.bundle, []
        expires_at = None
        try:
            if self.client_cert is not None:
                expires_at = load_pair(
                    context,
                    self.client_cert,
                    self.client_key,
                    self._password,
                    password_name=self._label("client_key_password"),
                )
        except UnusableFileError as error:
            problems.append(f"{self._label(error.name)} {error.problem}")
        try:
            if is_first or not problems:  # the requests of an outage are not to cost more
                load_bundle(context, bundle)
        except UnusableFileError as error:
            name = self._label(error.name) if self.ca_bundle else "REQUESTS_CA_BUNDLE"
            problems.append(f"{name} {error.problem}")
        if problems:
            return "; ".join(problems), None
        return "", Tls(context=_settled(context), bundle=bundle, expires_at=expires_at)


def _settled(context: ssl.SSLContext) -> ssl.SSLContext:
    """Keep urllib3 from changing a context with which another thread is just connecting.

    For each connection it sets the same protocols again: OpenSSL frees the list that it replaces,
    while the other thread, without the GIL, may copy it.
    """
    context.set_alpn_protocols(["http/1.1"])
    vars(context)["set_alpn_protocols"] = lambda protocols: None
    return context


def _states(*paths: str | None) -> _States:
    return tuple(_state(path) for path in paths if path is not None)


def _state(path: str) -> tuple[object, ...]:
    try:
        found = os.stat(path)  # noqa: PTH116 - for each request
    except OSError as error:
        return path, error.errno
    return path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
