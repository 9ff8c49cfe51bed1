"""Credentials from the environment, and credentials that change while the program runs."""

from __future__ import annotations

import importlib
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from . import _clock
from ._flight import Flight, SingleFlight
from ._latch import Once
from ._logging import Log, contained, describe
from ._rotation import Rotation
from ._settings import Seconds, Unpicklable, finite_seconds, require_members
from ._sources import Sources, sources
from .events import CredentialsReloaded, EventHooks
from .exceptions import ConfigurationError
from .schemes.base import Scheme, TokenRequest, TokenResponse
from .schemes.classic import PermataCredentials

logger = Log(__name__)

#: A load may take so long; a login waits for it out of its own budget of 25 s.
_MAX_LOAD_SECS = 5.0


class RotatingCredentials(Unpicklable):
    """Credentials that are loaded again when they change: a Scheme like any other.

    They are looked at before a login, and at once after the bank has refused a login or the
    signature of a call: where they have changed, that login or call is tried once more. A change
    never ends a live token. A ``load`` that fails, or does not return, leaves the last credentials
    in use, and is logged once. Thread-safe; a login or a call uses one set of credentials from its
    beginning to its end. Raises the error of ``load``, as a ConfigurationError.

    Args:
        load: Returns the credentials, whole: a PermataCredentials, or another Scheme. It may block,
            for instance to ask a secret manager; a login waits 5 seconds for it at most. Called
            here, and then in threads of this object's own, one at a time.
        check_secs: A login that comes more than so many seconds after the last look calls ``load``.
            60 by default: a life of the bank's tokens is 15 times as long.
    """

    _why_unpicklable = "it loads secrets; make one in each process"

    def __init__(self, load: Callable[[], Scheme], *, check_secs: Seconds = 60.0) -> None:
        if not callable(load):
            raise ConfigurationError("load must be a function that returns credentials")
        #: For clients and signers; see :class:`permata_auth._rotation.Rotation`.
        self.rotation = _Reloads(load, finite_seconds("check_secs", check_secs))

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str] | None = None, *, prefix: str = "PERMATA_"
    ) -> RotatingCredentials:
        """Read credentials from the environment and from files, and again when a file changes.

        A value comes from the variable ``PERMATA_X``, else from the file that ``PERMATA_X_FILE``
        names, else from the file ``permata_x`` in ``$CREDENTIALS_DIRECTORY`` (systemd), else in
        ``$PERMATA_SECRETS_DIR``. Looks at the files (``stat``) before every login, and reads them
        if they have changed. Raises ConfigurationError that names all that is missing or wrong.

        Args:
            environ: The variables; None: those of the process.
            prefix: The beginning of the names of all variables.
        """
        return cls(_FromEnvironment(sources(environ, prefix), prefix))

    def __repr__(self) -> str:
        found = vars(self).get("rotation")  # not there yet where the first load has failed
        return f"<RotatingCredentials {found.current if found else None!r}>"

    @property
    def current(self) -> Scheme:
        """The credentials that sign calls now: the newest, unless the bank has refused those."""
        return self.rotation.current

    def reload(self) -> bool:
        """Load the credentials now; return whether they have changed.

        May be called from a signal handler: ``signal(SIGHUP, lambda *_: credentials.reload())``.
        Blocks for 5 seconds at most. Where ``load`` fails the last ones stay, and False is
        returned. Thread-safe.
        """
        before = self.rotation.newest
        self.rotation.look()
        return self.rotation.newest is not before

    @property
    def key(self) -> str:
        """Name the current credentials in a token store; holds no secret."""
        return self.current.key

    @property
    def default_lifetime(self) -> float:
        """The seconds that a token is taken to live where the response does not say."""
        return self.current.default_lifetime

    def token_request(self, *, clock_offset: float = 0.0) -> TokenRequest:
        """Build and sign a token request with the newest credentials.

        Args:
            clock_offset: Seconds to add to this machine's clock for the timestamp.
        """
        return self.rotation.newest.token_request(clock_offset=clock_offset)

    def read_token_response(self, body: bytes) -> TokenResponse:
        """Read a 2xx response; raise a TokenEndpointError if it has no usable token.

        Args:
            body: As received.
        """
        return self.rotation.newest.read_token_response(body)

    def read_error_response(
        self, status_code: int, body: bytes, headers: Mapping[str, str] | None = None
    ) -> Any:
        """Read any other response, and return the error that it means.

        Args:
            status_code: The HTTP status.
            body: As received.
            headers: Of the response.
        """
        return self.rotation.newest.read_error_response(status_code, body, headers)

    def sign(
        self,
        token: str,
        method: str,
        url: str,
        body: bytes,
        *,
        canonicalizer: str | None = None,
        clock_offset: float = 0.0,
    ) -> dict[str, str]:
        """Return the headers that authorise one call, with a timestamp of now.

        Args:
            token: The access token.
            method: The HTTP method.
            url: As it will be sent, with its query.
            body: The bytes that will be sent.
            canonicalizer: The name of one, in place of the credentials' own.
            clock_offset: Seconds to add to this machine's clock for the timestamp.
        """
        return self.current.sign(
            token, method, url, body, canonicalizer=canonicalizer, clock_offset=clock_offset
        )

    def is_token_rejected(self, status_code: int, body: bytes) -> bool:
        """Tell whether the bank refused a call because of its token, and for no other reason.

        Args:
            status_code: The HTTP status of the call's response.
            body: Its body.
        """
        return self.current.is_token_rejected(status_code, body)

    if not TYPE_CHECKING:  # to a type checker every name would exist

        def __getattr__(self, name: str) -> Any:
            """Return the further members of the current credentials: ``token_url`` and so on."""
            if name.startswith("_") or name in ("rotation", "current"):  # not there yet
                raise AttributeError(name)
            return getattr(self.current, name)


class _Reloads(Rotation):
    """The sets that ``load`` has returned so far."""

    def __init__(self, load: Callable[[], Scheme], check_secs: float) -> None:
        super().__init__(_first(load))
        self._load = load
        self._files = load if isinstance(load, _FromEnvironment) else None
        self._seen: object = None
        self._check_secs = check_secs
        self._looked_at = _clock.now()
        #: Taken while the last load has failed.
        self._failure = Once()
        #: Changes that the event hooks have not been told of yet.
        self._changes: list[tuple[str, ...]] = []
        self._watching: list[weakref.ref[EventHooks]] = []
        self._loads: SingleFlight[None] = SingleFlight("credentials", _MAX_LOAD_SECS, lambda: None)

    def is_due(self) -> bool:
        if self._files is not None and self._files.stamp() != self._seen:
            return True
        is_old = _clock.now() - self._looked_at > self._check_secs
        return is_old and (self._files is None or self._failure.is_taken)

    def check(self, timeout: float | None = None) -> None:
        if self.is_due():
            self.look(timeout)

    def has_other_login(self, refused: Scheme, timeout: float | None = None) -> bool:
        if self.newest is refused:
            self.look(timeout)
        if self.newest is not refused:
            return True
        self.current = self.accepted  # until the bank takes the newest set
        return False

    def other_signer(self, refused: Scheme) -> Scheme | None:
        if self.newest is refused:
            self.look()
        # The bank may still take the previous set.
        others = [each for each in (self.newest, self.accepted) if each is not refused]
        return others[0] if others else None

    def watch(self, events: EventHooks) -> None:
        self._watching.append(weakref.ref(events, self._watching.remove))

    def look(self, timeout: float | None = None) -> None:
        """Load now; a failure leaves everything as it is, and is logged once.

        Args:
            timeout: As in :meth:`check`.
        """
        self._looked_at = _clock.now()
        with contained(self._report):
            self._loads.call(self._work, timeout)
        while self._changes:
            try:
                fields = self._changes.pop(0)
            except IndexError:  # another thread tells of it
                return
            self._tell(fields)

    def _work(self, flight: Flight[None]) -> Callable[[], None]:
        # Before the files are read: a change after this line is seen by the next look.
        stamp = self._files.stamp() if self._files is not None else None
        try:
            loaded = _checked(self._load())
        except BaseException:
            self._seen = stamp
            raise
        return lambda: self._publish(loaded, stamp)

    def _publish(self, loaded: Scheme, stamp: object) -> None:
        """Put a new set in place; called by the thread of a load, of which one runs at a time."""
        try:
            self._replace(loaded)
        finally:
            # Last: a caller for which no load is due then finds the new set in place.
            self._seen = stamp

    def _replace(self, loaded: Scheme) -> None:
        last = self.newest
        _require_whole(last, loaded)
        self._failure = Once()
        if loaded == last:
            return
        self.known = (loaded, last)
        self._accepted = self._accepted or last  # its token may have come from a store
        self.current = self.newest = loaded
        self._changes.append(_changed(last, loaded))

    def _tell(self, fields: tuple[str, ...]) -> None:
        logger.info("Credentials reloaded, changed: %s", ", ".join(fields) or "all")
        for reference in self._watching.copy():
            events = reference()
            if events is not None:
                events.emit(CredentialsReloaded, fields=fields)

    def _report(self, error: BaseException) -> None:
        if self._failure.take():
            # No text but that of our own errors about settings: it might show a secret.
            is_ours = isinstance(error, ConfigurationError)
            logger.warning(
                "Credentials could not be loaded, the last ones stay in use: %s",
                describe(error) if is_ours else type(error).__name__,
            )


class _FromEnvironment:
    """Loads credentials from the environment and from files, and looks at the files."""

    def __init__(self, found: Sources, prefix: str) -> None:
        self._prefix = prefix
        self._last = found

    def __call__(self) -> Scheme:
        found = self._last.fresh()
        scheme = _read(found, self._prefix)
        for name, path in self._last.files.items():
            if name not in found.origins:  # else an optional value would be dropped in silence
                raise ConfigurationError(f"{name}: the file {path} is gone")
        self._last = found
        return scheme

    def stamp(self) -> object:
        return self._last.stamp()


def credentials_from_env(
    environ: Mapping[str, Any] | None = None, *, prefix: str = "PERMATA_"
) -> Scheme:
    """Return the credentials that the environment and its files hold.

    They are :class:`RotatingCredentials` where a value comes from a file. ``PERMATA_SCHEME`` says
    of what kind they are: ``classic`` by default, or ``snap``. Raises ConfigurationError that names
    all that is missing or wrong; ImportError for a missing extra.

    Args:
        environ: The variables; None: those of the process.
        prefix: The beginning of the names of all variables.
    """
    found = sources(environ, prefix)
    scheme = _read(found, prefix)
    return RotatingCredentials.from_env(found, prefix=prefix) if found.files else scheme


def _read(found: Sources, prefix: str) -> Scheme:
    name = f"{prefix}SCHEME"
    kind = str(found.get(name, "")).strip().lower() or "classic"
    if kind not in ("classic", "snap"):
        raise ConfigurationError(f"{name} must be classic or snap")
    if kind == "classic":
        return PermataCredentials.from_env(found, prefix=prefix)
    module = importlib.import_module(".schemes.snap", __package__)  # needs an extra
    try:
        scheme: Scheme = module.SnapCredentials.from_env(found, prefix=f"{prefix}SNAP_")
    except ConfigurationError:
        found.check()  # where a file cannot be used, its value is missing
        raise
    found.check()
    return scheme


def _first(load: Callable[[], Scheme]) -> Scheme:
    try:
        return _checked(load())
    except ConfigurationError as error:
        raise error.with_traceback(None) from None
    except ImportError:  # of an extra: its text is the pip command
        raise
    except Exception as error:
        reason = describe(error)
    # Out here, chained to nothing: the error of a foreign client may hold a secret.
    raise ConfigurationError(f"the credentials could not be loaded: {reason}")


def _checked(loaded: Scheme) -> Scheme:
    require_members(Scheme, "what load() returns", loaded)
    return loaded


def _require_whole(last: Scheme, loaded: Scheme) -> None:
    """Refuse a set that lacks a value which the last one had."""
    for field in _different(last, loaded):
        if getattr(loaded, field.name) in (None, ""):
            raise ConfigurationError(f"{_setting(field)} is gone")


def _changed(last: Scheme, loaded: Scheme) -> tuple[str, ...]:
    """Return the names of the fields that differ, where the two sets are of one kind."""
    return tuple(_setting(field) for field in _different(last, loaded))


def _different(last: Scheme, loaded: Scheme) -> list[attrs.Attribute[Any]]:
    kind: Any = type(loaded)
    if type(last) is not kind or not attrs.has(kind):
        return []
    # A field that is not compared is made from others, or is one of two ways to give the same.
    compared = [field for field in attrs.fields(kind) if field.eq]
    return [each for each in compared if getattr(last, each.name) != getattr(loaded, each.name)]


def _setting(field: attrs.Attribute[Any]) -> str:
    """Return the setting that a field tells of: itself, or the one that it was made from."""
    name: str = field.metadata.get("of", field.name)
    return name
