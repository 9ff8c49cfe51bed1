"""The token that processes with the same credentials share, and which one wins.

Under the store's lock one process logs in; the others look for its token, or for its failure, which
ends their wait as well. With a store that fails, each process goes on by itself.

The processes of a fleet may learn at different moments that the credentials have changed. A place
in the store belongs to one set of them: a token is saved, and the lock taken, at the place of the
set that logs in. A token is also taken from the place of the set before, which others may use.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

import attrs

from .. import _clock
from .._pace import Pause
from .._rotation import rotation_of
from ..tokens import AccessToken
from ._breaker import StoreOutError
from .base import TokenStore, bound
from .failures import StoredFailure
from .guarded import GuardedStore, StoreSession
from .memory import MemoryTokenStore

if TYPE_CHECKING:
    from ..schemes.base import Scheme

#: The part of a login's budget that may pass in waiting for another process's login. The rest is
#: for this process's own login, if the lock's holder hangs. A login that takes less than this is
#: the only one in the fleet.
_QUEUE_SHARE = 0.9
#: The difference that reading two clocks one after the other makes.
_CLOCK_NOISE_SECS = 0.001
#: The time between two looks for the token of another process, while a pause lets none log in.
_LOOK_SECS = 0.25
_REJECTIONS = ":rejected"
_MAX_PLACES = 3


class SharedToken:
    """The one token that a store holds for one handler's credentials. Thread-safe.

    Args:
        store: Where the token is shared.
        credentials: The credentials of the token: a :class:`~permata_auth.schemes.base.Scheme`.
        timeout: The seconds that a store which fails may cost, once per outage.
        budget: The seconds that a login may take, and keep the lock.
    """

    def __init__(
        self,
        store: TokenStore,
        credentials: Scheme,
        *,
        timeout: float,
        budget: float,
    ) -> None:
        self._store = store
        self.rotation = rotation_of(credentials)
        newest = self.rotation.newest
        first = GuardedStore(bound(store, newest), newest.key, timeout=timeout, max_hold=budget)
        self._places: tuple[tuple[Scheme, GuardedStore], ...] = ((newest, first),)
        #: Whether other processes may see the token too.
        self.is_fleet_wide = not isinstance(store, MemoryTokenStore)
        self.max_queue_secs = budget * _QUEUE_SHARE
        self._next_look_at = -math.inf

    @property
    def is_look_due(self) -> bool:
        """Whether :meth:`look` would look: a few times a second, however many calls there are."""
        return _clock.now() >= self._next_look_at

    @contextmanager
    def session(self, scheme: Scheme) -> Iterator[StoreSession]:
        """Open a session at the place of one set of credentials.

        Args:
            scheme: The set.
        """
        with self._place(scheme).session() as session:
            yield session

    @contextmanager
    def renewal(
        self,
        replaced: AccessToken | None,
        *,
        is_forced: bool,
        is_unwanted: Callable[[AccessToken], bool],
        is_held: Callable[[Pause], bool],
    ) -> Iterator[Renewal]:
        """Look for a newer token; where there is none, take the lock. Never raises by itself.

        Args:
            replaced: The token that is to be replaced, or None.
            is_forced: Whether a token of the store will not do: only its failures count then.
            is_unwanted: Tells whether the bank has rejected a token, which is then never taken.
            is_held: Tells whether a failure of the fleet forbids a login in this process now.
        """
        scheme = self.rotation.newest
        with self.session(scheme) as session:
            renewal = Renewal(
                self,
                scheme,
                session,
                replaced,
                is_forced=is_forced,
                is_unwanted=is_unwanted,
                is_held=is_held,
            )
            with suppress(StoreOutError):
                renewal.begin()
            yield renewal

    def discard(self, token: AccessToken) -> None:
        """Remove ``token`` from the store, if it is still the one stored.

        Args:
            token: The token.
        """
        for scheme in self.rotation.known:
            with self.session(scheme) as session, suppress(StoreOutError):
                session.discard(token)

    def look(
        self, than: AccessToken | None, is_unwanted: Callable[[AccessToken], bool]
    ) -> AccessToken | None:
        """Return what :meth:`find_newer` returns, or None where the last look is too recent.

        Args:
            than: As in :meth:`find_newer`.
            is_unwanted: As in :meth:`renewal`.
        """
        if not self.is_look_due:
            return None
        newer = self.find_newer(than, is_unwanted)
        # Not before the look has ended: until then other callers join it.
        self._next_look_at = _clock.now() + _LOOK_SECS
        return newer

    def find_newer(
        self, than: AccessToken | None, is_unwanted: Callable[[AccessToken], bool]
    ) -> AccessToken | None:
        """Return a token of the store that may replace ``than``, or None.

        Args:
            than: The token of this process, or None.
            is_unwanted: As in :meth:`renewal`.
        """
        for scheme in self.rotation.known:
            with self.session(scheme) as session, suppress(StoreOutError):
                stored = session.load()
                if stored is not None and not is_unwanted(stored) and _is_newer(stored, than):
                    # A rejected token is dropped for this one, though a pause lets no login start:
                    # the next call has to be able to take it.
                    self._next_look_at = -math.inf
                    return stored
        return None

    def load_before(self) -> AccessToken | None:
        """Return the token at the place of the set before, which other processes may still use."""
        for scheme in self.rotation.known[1:]:
            if self._place(scheme) is not self._place(self.rotation.newest):
                with self.session(scheme) as session:
                    return session.load()
        return None

    def load_rejections(self) -> Pause | None:
        """Return the fleet's pause after fresh tokens that the bank rejected, if there is one."""
        scheme = self.rotation.newest
        with self.session(scheme) as session, suppress(StoreOutError):
            return own_pause(session.load_failure(_REJECTIONS), scheme)
        return None

    def save_rejections(self, pause: Pause | None) -> None:
        """Share that pause.

        Args:
            pause: The pause; None removes the one that is shared, after an accepted call.
        """
        scheme = self.rotation.newest
        proof = _proof(scheme)
        if proof is not None:
            failure = StoredFailure.of(pause, proof) if pause else None
            with self.session(scheme) as session, suppress(StoreOutError):
                session.save_failure(failure, _REJECTIONS)

    def _place(self, scheme: Scheme) -> GuardedStore:
        for known, place in self._places:
            if known is scheme:
                return place
        last = self._places[0][1]
        store = bound(self._store, scheme)
        is_same = store is last.store and scheme.key == last.key  # in a store that seals nothing
        place = last if is_same else last.at(store, scheme.key)
        self._places = ((scheme, place), *self._places)[:_MAX_PLACES]
        return place


def own_pause(failure: StoredFailure | None, scheme: Scheme) -> Pause | None:
    """Return the pause that ``failure`` means, if these credentials met it.

    Args:
        failure: A failure out of the store, or None.
        scheme: The credentials.
    """
    proof = _proof(scheme)
    if failure is None or proof is None or failure.proof != proof:
        return None
    with suppress(ValueError, TypeError):  # by another version of this library
        return attrs.evolve(failure.to_pause(), met_by=scheme)
    return None


class Unshared:
    """The stand-in for a :class:`SharedToken`, and for its renewals, where there is no store.

    The parameters of its methods (token, pause, value) are not used.
    """

    is_fleet_wide = False
    is_look_due = False
    newer = None
    pause = None

    @contextmanager
    def renewal(self, replaced: object, **how: object) -> Iterator[Unshared]:
        """Let the login go ahead.

        Args:
            replaced: Not used.
            how: Not used.
        """
        yield self

    def find_newer(self, than: object, is_unwanted: object) -> None:
        """Return None: there is no other token.

        Args:
            than: Not used.
            is_unwanted: Not used.
        """

    look = find_newer

    def load_rejections(self) -> None:
        """Return None: there is no fleet that could have seen one."""

    def ignore(self, value: object) -> None:
        """Do nothing: there is no fleet to share it with."""

    save = save_failure = save_rejections = discard = ignore


class Renewal:
    """One renewal of the token, as the store sees it. Not thread-safe.

    Args:
        shared: The shared token.
        scheme: The credentials that are in use as the renewal begins: failures of others do not
            count.
        session: The operations of the store.
        replaced: As in :meth:`SharedToken.renewal`.
        is_forced: As in :meth:`SharedToken.renewal`.
        is_unwanted: As in :meth:`SharedToken.renewal`.
        is_held: As in :meth:`SharedToken.renewal`.
    """

    def __init__(
        self,
        shared: SharedToken,
        scheme: Scheme,
        session: StoreSession,
        replaced: AccessToken | None,
        *,
        is_forced: bool,
        is_unwanted: Callable[[AccessToken], bool],
        is_held: Callable[[Pause], bool],
    ) -> None:
        self._shared = shared
        self._scheme = scheme
        self._session = session
        self._replaced = replaced
        self._is_forced = is_forced
        self._is_unwanted = is_unwanted
        self._is_held = is_held
        self._began = _clock.now()
        self._has_failure = False
        #: The store's token, if it is newer than the one to be replaced.
        self.newer: AccessToken | None = None
        #: The failure that replaces a login of this renewal's: it is recent, or came meanwhile.
        self.pause: Pause | None = None

    def begin(self) -> None:
        """Look, take the lock and look again."""
        if not self._look(self._session) and self._session.lock(
            self._shared.max_queue_secs, self._look
        ):
            self._look(self._session)

    def save(self, token: AccessToken) -> None:
        """Store ``token``, unless another process has stored a newer one.

        Args:
            token: The token of this renewal's login.
        """
        # The login may have been tried once more with credentials that came meanwhile.
        scheme = self._shared.rotation.accepted
        own = nullcontext(self._session)
        place = own if scheme is self._scheme else self._shared.session(scheme)
        with place as session, suppress(StoreOutError):
            stored = None if session.has_lock else session.load()
            if stored is None or _asked_at(stored) <= _asked_at(token):
                session.save(token)
            if self._has_failure:
                self._session.save_failure(None)

    def save_failure(self, pause: Pause) -> None:
        """Store the failure of a login, for the rest of the fleet.

        Args:
            pause: The pause after the failure.
        """
        scheme: Any = pause.met_by
        proof = _proof(scheme)
        if proof is not None:
            own = nullcontext(self._session)
            place = own if scheme is self._scheme else self._shared.session(scheme)
            with place as session, suppress(StoreOutError):
                session.save_failure(StoredFailure.of(pause, proof))

    def _look(self, session: StoreSession) -> bool:
        """Tell whether the store has a token or a failure that makes a login needless."""
        if not self._is_forced:
            for load in (session.load, self._shared.load_before):
                token = load()
                if (
                    token is not None
                    and not self._is_unwanted(token)
                    and _is_newer(token, self._replaced)
                ):
                    self.newer = token
                    return True
        pause = own_pause(session.load_failure(), self._scheme)
        self._has_failure = pause is not None
        if pause is not None and (self._is_held(pause) or pause.failed_at > self._began):
            self.pause = pause
        return self.pause is not None


def share(
    store: TokenStore | None, credentials: Scheme, *, timeout: float, budget: float
) -> SharedToken | Unshared:
    """Return the shared token of a store, or the stand-in for one where there is no store.

    Args:
        store: As in :class:`SharedToken`, or None.
        credentials: As in :class:`SharedToken`.
        timeout: As in :class:`SharedToken`.
        budget: As in :class:`SharedToken`.
    """
    if store is None:
        return Unshared()
    return SharedToken(store, credentials, timeout=timeout, budget=budget)


def _is_newer(token: AccessToken, than: AccessToken | None) -> bool:
    if token.expires_in() <= 0:
        return False
    if than is None:
        return True
    return token.value != than.value and _asked_at(token) > _asked_at(than) - _CLOCK_NOISE_SECS


def _asked_at(token: AccessToken) -> float:
    """Return the moment of the token request, on the clock that ignores steps of the wall clock."""
    return token.deadline - (token.expires_at - token.issued_at).total_seconds()


def _proof(credentials: Any) -> str | None:
    """Return a hash that only a holder of the same secrets can make; None if there is no key."""
    derive = getattr(credentials, "derive_key", None)
    return derive("login failure").hex()[:16] if callable(derive) else None
