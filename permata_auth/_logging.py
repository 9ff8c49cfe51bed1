"""Log records and events: their marks, and the moment at which they are told.

A login must not wait for a lock of the application's log handlers: a caller may hold that lock
while it waits for the login (a log handler that sends records by a signed session does). So the
records and events of a login are noted, and told once its token is in place and its callers are
free.
"""

from __future__ import annotations

import functools
import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ._signals import is_thrown_by_signal
from ._threads import is_own_thread
from .exceptions import PermataAuthError

_ids: ContextVar[dict[str, str]] = ContextVar("permata_auth_ids")
_notes: ContextVar[Notes | None] = ContextVar("permata_auth_notes", default=None)


@contextmanager
def tagged(
    *,
    unique_id: str | None = None,
    request_id: str | None = None,
    handler: str | None = None,
) -> Iterator[None]:
    """Tag every record of this context (and of the logins that it starts) with these ids.

    Args:
        unique_id: The caller's own mark.
        request_id: The caller's own mark of one request.
        handler: The handler's name.
    """
    new = {"unique_id": unique_id, "request_id": request_id, "handler": handler}
    token = _ids.set(ids() | {name: value for name, value in new.items() if value is not None})
    try:
        yield
    finally:
        _ids.reset(token)


def ids() -> dict[str, str]:
    """Return the ids that this context is tagged with."""
    return _ids.get({})


def extra(**fields: object) -> dict[str, object]:
    """Return the ``extra`` of a record: the ids of its call, and ``fields``, all prefixed."""
    return {f"permata_{name}": value for name, value in {**ids(), **fields}.items()}


def describe(error: BaseException) -> str:
    """Name an error for a log record: its text only where it is ours, which shows no secret."""
    name = type(error).__name__
    text = str(error) if isinstance(error, PermataAuthError) else ""
    return f"{name}: {text}" if text else name


def frames(error: BaseException) -> str:
    """Return where ``error`` was raised, without its text, which may hold a secret."""
    return "".join(traceback.format_tb(error.__traceback__))


@contextmanager
def contained(report: Callable[[BaseException], object] | None = None) -> Iterator[None]:
    """Keep an exception of the application's code from undoing a login.

    An exception that is thrown into a caller's thread from outside passes: by a signal handler,
    Ctrl-C or gevent. Nothing is thrown into threads of this package's own.

    Args:
        report: Called with the exception.
    """
    try:
        yield
    except BaseException as error:
        is_foreign = not isinstance(error, Exception) or is_thrown_by_signal(error)
        if is_foreign and not is_own_thread():
            raise
        if report is not None:
            report(error)


class Notes:
    """Things to tell later, in order. Thread-safe."""

    def __init__(self) -> None:
        self._waiting: list[Callable[[], object]] = []
        self._is_open = True

    def add(self, note: Callable[[], object]) -> None:
        """Keep ``note`` until :meth:`tell`, or call it now if that has been called."""
        self._waiting.append(note)
        if not self._is_open:  # a store's thread that outlived its login
            self.tell()

    def tell(self) -> None:
        """Call every note, each by one thread only."""
        self._is_open = False
        while self._waiting:
            try:
                note = self._waiting.pop(0)
            except IndexError:  # another thread has taken the last one
                return
            note()


@contextmanager
def held_back() -> Iterator[Notes]:
    """Keep the records and events of this context and its threads until ``notes.tell()``."""
    notes = Notes()
    token = _notes.set(notes)
    try:
        yield notes
    finally:
        _notes.reset(token)


def tell(note: Callable[[], object]) -> None:
    """Call ``note`` now, or after the login that this context belongs to."""
    notes = _notes.get()
    if notes is None:
        note()
    else:
        notes.add(note)


class Log:
    """The logger of one module: nothing that logging raises gets out, and logins log afterwards.

    Keyword arguments become fields of the record, with the prefix ``permata_``.

    Args:
        name: The logger's name.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._logger = logging.getLogger(name)
        self.debug = functools.partial(self._log, logging.DEBUG)
        self.info = functools.partial(self._log, logging.INFO)
        self.warning = functools.partial(self._log, logging.WARNING)
        self.error = functools.partial(self._log, logging.ERROR)

    def _log(self, level: int, message: str, *args: object, **fields: object) -> None:
        found = extra(**fields)
        # A handler may keep a record for long, or send it elsewhere. An error would take along the
        # frames in which it was raised, and with them documents, tokens and callers.
        plain = [str(arg) if isinstance(arg, BaseException) else arg for arg in args]

        def note() -> None:
            with contained():  # a filter or a handler of the application's may raise
                self._logger.log(level, message, *plain, extra=found)

        tell(note)
