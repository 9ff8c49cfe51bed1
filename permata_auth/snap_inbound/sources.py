"""Keys and secrets that may be several, and may change while the receiver runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Generic, TypeVar

from .._logging import Log, describe
from .._pem import load_public_keys
from ..exceptions import ConfigurationError

logger = Log(__name__)

_T = TypeVar("_T")

_MAX_FILE_BYTES = 64 * 1024


class Source(Generic[_T]):
    """The values that a setting gives now. Thread-safe.

    A function that fails, or gives something else, changes nothing: the last good values stay,
    with one log record.

    Args:
        name: The setting.
        given: The values, or a function that returns them, called for every request.
        read: Makes values of what was given; raises ConfigurationError.
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
    """What is made of secrets before it can sign, made again when they change. Thread-safe.

    Args:
        make: Called with one secret.
    """

    def __init__(self, make: Callable[[bytes], _T]) -> None:
        self._make = make
        self._last: tuple[tuple[bytes, ...], tuple[_T, ...]] = ((), ())

    def of(self, secrets: tuple[bytes, ...]) -> tuple[_T, ...]:
        """Return what is made of each secret, in their order.

        Args:
            secrets: As :meth:`Source.get` returns them.
        """
        last = self._last
        if last[0] is not secrets:
            # One assignment: another thread sees the old pair or the new one.
            last = self._last = (secrets, tuple(map(self._make, secrets)))
        return last[1]


class KeyFile:
    """The text of a file, read again when the file has changed. Thread-safe.

    Args:
        path: Of a file of at most 64 KiB.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._seen: tuple[object, str] = (None, "")

    def __call__(self) -> str:
        try:
            found = self._path.stat()
            mark = (found.st_mtime_ns, found.st_size, found.st_ino)
            if mark != self._seen[0]:
                if not self._path.is_file() or found.st_size > _MAX_FILE_BYTES:
                    raise ConfigurationError("names no file of at most 64 KiB")
                self._seen = (mark, self._path.read_bytes().decode("utf-8-sig"))
        except (OSError, UnicodeError):
            raise ConfigurationError("names a file that cannot be read") from None
        return self._seen[1]


def public_keys(given: Any, *, name: str, allow_short: bool) -> tuple[Any, ...]:
    """Return the RSA public keys in PEM texts, or among loaded keys; at least one."""
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
    """Return secrets as bytes; none of them may be blank."""
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
