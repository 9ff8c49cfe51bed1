"""A token store in a folder, for the processes of one host."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .._logging import Log
from .._settings import Seconds, finite_seconds
from ..exceptions import ConfigurationError, TokenStoreError
from ..tokens import AccessToken
from . import _document
from .base import DEFAULT_LOCK_TIMEOUT_SECS
from .failures import StoredFailure

_missing: ImportError | None = None
try:
    from filelock import FileLock, Timeout
except ModuleNotFoundError as _error:
    _missing = _error

logger = Log(__name__)

_POLL_SECS = 0.02
_MAX_FILE_BYTES = 64 * 1024
_IS_POSIX = os.name == "posix"
# No symbolic link is followed, and a FIFO in the folder does not block.
_READING = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_UNREADABLE = (errno.ELOOP, errno.EMLINK, errno.EACCES, errno.EPERM, errno.ENXIO, errno.EISDIR)


class FileTokenStore:
    """Share tokens between the processes of one user on one host. Thread-safe, and safe to fork.

    The folder holds a file (0600) for each key, not encrypted. A file that is torn, foreign or
    open to other users counts as none, is reported once, and is replaced by the next write.
    Methods block as long as the disk. Raises TokenStoreError, ConfigurationError for arguments
    that make no sense.

    Args:
        path: The folder, made (0700) when it is first needed; by default one in the user's cache
            folder.
        lock_timeout: The seconds that ``lock()`` waits at most. A :class:`LoginHandler` bounds its
            wait by itself, so this is longer than any login's budget.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        lock_timeout: Seconds = DEFAULT_LOCK_TIMEOUT_SECS,
    ) -> None:
        if _missing:
            raise ImportError(
                "FileTokenStore needs filelock: pip install 'permata-auth[file]'"
            ) from _missing
        if path is not None and not (isinstance(path, str | os.PathLike) and os.fspath(path)):
            raise ConfigurationError("path must be the path of a folder, as a str or a Path")
        self.path = (default_folder() if path is None else _expanded(Path(path))).absolute()
        self._lock_timeout = finite_seconds("lock_timeout", lock_timeout)
        self._has_warned = False

    def __repr__(self) -> str:
        return f"<FileTokenStore {str(self.path)!r}>"

    def load(self, key: str) -> AccessToken | None:
        """Return the stored token while it lives."""
        try:
            with _as_store_errors():
                data = _read(self._file(key, "json"))
            token = None if data is None else _document.parse(key, data)
        except ValueError as error:
            if not self._has_warned:
                self._has_warned = True
                logger.warning("Stored token passed over: %s", error)
            return None
        self._has_warned = self._has_warned and data is None
        return token

    def save(self, key: str, token: AccessToken) -> None:
        """Store ``token`` in place of any other, by an atomic replace."""
        if token.expires_in() <= 0:
            return
        target = self._file(key, "json")
        with self._locked(key, "write"), _as_store_errors():
            _write(target, _document.dump(key, token))

    def discard(self, key: str, token: AccessToken) -> None:
        """Remove ``token``; do nothing if another one is stored by now."""
        if not self._holds(key, token):
            return
        with self._locked(key, "write"), _as_store_errors():
            if self._holds(key, token):  # still: under the lock no other process writes
                self._file(key, "json").unlink(missing_ok=True)

    def load_failure(self, key: str) -> StoredFailure | None:
        """Return the stored failure while it is kept."""
        try:
            with _as_store_errors():
                data = _read(self._file(key, "failure"))
        except ValueError:
            return None
        return None if data is None else _document.parse_failure(key, data)

    def save_failure(self, key: str, failure: StoredFailure | None) -> None:
        """Store ``failure`` in place of any other; None removes it."""
        target = self._file(key, "failure")
        if failure is None and not os.path.lexists(target):
            return
        with self._locked(key, "write"), _as_store_errors():
            if failure is None:
                target.unlink(missing_ok=True)
            else:
                _write(target, _document.dump_failure(key, failure))

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Keep every other process and thread out; the lock ends with the process in any case."""
        with self._locked(key, "lock"):
            yield

    def _holds(self, key: str, token: AccessToken) -> bool:
        stored = self.load(key)
        return stored is not None and stored.value == token.value

    @contextmanager
    def _locked(self, key: str, suffix: str) -> Iterator[None]:
        with _as_store_errors():
            _make_folder(self.path)
            # A new object each time, which opens the file anew: no lock is shared between
            # threads, or inherited through a fork.
            lock = FileLock(
                self._file(key, suffix), timeout=self._lock_timeout, mode=0o600, thread_local=False
            )
            lock.acquire(poll_interval=_POLL_SECS)
        try:
            yield
        finally:
            with _as_store_errors():
                lock.release()

    def _file(self, key: str, suffix: str) -> Path:
        return self.path / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.{suffix}"


def default_folder() -> Path:
    """Return ``permata-auth`` in the folder where this platform wants a user's caches."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "")
        fallback = Path("~/AppData/Local")
    elif sys.platform == "darwin":
        base, fallback = "", Path("~/Library/Caches")
    else:
        base, fallback = os.environ.get("XDG_CACHE_HOME", ""), Path("~/.cache")
    # The XDG Base Directory Specification says to ignore a relative path.
    if Path(base).is_absolute():
        return Path(base) / "permata-auth"
    return _expanded(fallback) / "permata-auth"


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except (RuntimeError, ValueError):  # a user without a home, or a senseless user name
        raise ConfigurationError("no home folder; give the token store a path") from None


@contextmanager
def _as_store_errors() -> Iterator[None]:
    try:
        yield
    except Timeout:
        raise TokenStoreError("another process held the lock all the time") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise TokenStoreError(f"{reason}; check the folder of the token store") from error


def _make_folder(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.stat()
    if _IS_POSIX and (status.st_uid != os.geteuid() or status.st_mode & 0o022):
        raise TokenStoreError(
            "the folder must belong to this user and be writable by no other; chmod 700"
        )


def _read(path: Path) -> bytes | None:
    """Return the content of a file that only this user can have written; None if there is none."""
    try:
        handle = os.open(path, _READING)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in _UNREADABLE:
            raise ValueError("it is a link, or not readable") from None
        raise
    with open(handle, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_FILE_BYTES:
            raise ValueError("it is no token file")
        if _IS_POSIX and status.st_uid != os.geteuid():
            raise ValueError("it belongs to another user")
        if _IS_POSIX and status.st_mode & 0o077:
            raise ValueError("it is open to other users")
        return file.read(_MAX_FILE_BYTES)


def _write(path: Path, data: bytes) -> None:
    for leftover in path.parent.glob(f"{path.stem}.*.tmp"):  # of a writer that was killed
        leftover.unlink(missing_ok=True)
    handle, name = tempfile.mkstemp(prefix=f"{path.stem}.", suffix=".tmp", dir=path.parent)
    try:
        with open(handle, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
            file.write(data)
            file.flush()
            os.fsync(handle)  # a power cut must not leave the name without the content
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
