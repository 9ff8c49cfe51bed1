"""Keys and secrets that may be several, and may change while the receiver runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from .._logging import Log, describe
from .._pem import load_public_keys
from .._sources import Sources
from ..exceptions import ConfigurationError

logger = Log(__name__)

_T = TypeVar("_T")


class Source(Generic[_T]):
    """The values that a setting gives now. Thread-safe.

    A function that fails, or gives something else, changes nothing: the last good values stay,
    with one log record.

    Args:
        name: The setting.
        given: The values, or a function that returns them, called for every request.
        read: Makes the values of ``given``, or of its result; raises ConfigurationError.
    """

    def __init__(self, name: str, given: Any, read: Callable[[Any], tuple[_T, ...]]) -> None:
        self._name = name
        self._load = given if callable(given) else None
        self._read = read
        first = given() if callable(given) else given
        self._current = (_frozen(first), read(first))
        self._has_warned = False

    def get(self) -> tuple[_T, ...]:
        if self._load is not None:
            self._look(self._load)
        return self._current[1]

    def _look(self, load: Callable[[], Any]) -> None:
        try:
            given = _frozen(load())
            # One assignment: another thread sees the old pair or the new one.
            if given != self._current[0]:
                self._current = (given, self._read(given))
                logger.info("New %s are in use", self._name)
            self._has_warned = False
        except Exception as error:
            if not self._has_warned:
                self._has_warned = True
                logger.warning("%s: the old ones stay in use: %s", self._name, describe(error))


class Prepared(Generic[_T]):
    """The signers that are made of secrets, made again when those change. Thread-safe.

    Args:
        make: Called with one secret.
    """

    def __init__(self, make: Callable[[bytes], _T]) -> None:
        self._make = make
        self._last: tuple[tuple[bytes, ...], tuple[_T, ...]] = ((), ())

    def of(self, secrets: tuple[bytes, ...]) -> tuple[_T, ...]:
        """Return the signer of each secret, in their order.

        Args:
            secrets: As :meth:`Source.get` returns them.
        """
        last = self._last
        if last[0] is not secrets:
            # One assignment: another thread sees the old pair or the new one.
            last = self._last = (secrets, tuple(map(self._make, secrets)))
        return last[1]


class Watched:
    """The texts of settings, read again when a file of theirs has changed. Thread-safe.

    Args:
        sources: Where the settings are.
        names: Of the variables; those that are blank are left out.
    """

    def __init__(self, sources: Sources, names: Iterable[str]) -> None:
        self._sources, self._names = sources, tuple(names)
        self._seen: tuple[object, tuple[str, ...]] = (None, ())

    def __call__(self) -> tuple[str, ...]:
        stamp = self._sources.stamp()
        if stamp != self._seen[0]:
            found = self._sources.fresh()
            texts = [found.get(name, "").strip() for name in self._names]
            found.check()
            # One assignment: another thread sees the old pair or the new one.
            self._seen = (stamp, tuple(text for text in texts if text))
        return self._seen[1]


def public_keys(given: Any, *, name: str, allow_short: bool) -> tuple[Any, ...]:
    """Return RSA public keys, at least one; raise ConfigurationError for anything else.

    Args:
        given: PEM text or a loaded key, or a list of them.
        name: The setting's name, for the error.
        allow_short: Whether keys below 2048 bits are taken.
    """
    found: list[Any] = []
    for each in _each(given):
        if isinstance(each, bytes):
            each = each.decode("utf-8", errors="replace")  # noqa: PLW2901 - one form for all
        if isinstance(each, str):
            found += load_public_keys(each, name=name, allow_short=allow_short)
        elif callable(getattr(each, "verify", None)) and hasattr(each, "public_numbers"):
            found.append(each)
        else:
            raise ConfigurationError(f"{name} must be PEM texts, or keys that are loaded")
    if not found:
        raise ConfigurationError(f"{name} is missing")
    return tuple(found)


def secrets(given: Any, *, name: str) -> tuple[bytes, ...]:
    """Return secrets as bytes; raise ConfigurationError where one is blank, or no text.

    Args:
        given: Text or bytes, a list of them, or None for none.
        name: The setting's name, for the error.
    """
    found = [each.encode() if isinstance(each, str) else each for each in _each(given)]
    if not all(isinstance(each, bytes) and each.strip() for each in found):
        raise ConfigurationError(f"{name} must be texts that are not blank")
    return tuple(found)


def _each(given: Any) -> Iterable[Any]:
    if given is None:
        return ()
    return given if isinstance(given, list | tuple | set | frozenset) else (given,)


def _frozen(given: Any) -> Any:
    return tuple(given) if isinstance(given, list | set | frozenset) else given
