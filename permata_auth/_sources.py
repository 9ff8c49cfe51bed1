"""Where the value of a setting comes from: an environment variable, or a file.

For a setting ``PERMATA_X`` these are asked in turn, and the first that has a value decides:

1. the variable ``PERMATA_X``;
2. the file that the variable ``PERMATA_X_FILE`` names (both at once are an error);
3. the file ``permata_x`` in ``$CREDENTIALS_DIRECTORY`` (systemd's ``LoadCredential=``);
4. the file ``permata_x`` in ``$PERMATA_SECRETS_DIR`` (Docker's and Kubernetes' mounted secrets).

A blank variable counts as unset. One line break at the end of a file is no part of the value.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from . import _clock
from .exceptions import ConfigurationError

_MAX_FILE_BYTES = 65_536
#: A file that is written twice within a tick of its file system's clock may look the same.
_MAX_CLOCK_TICK_SECS = 2.0
_ENVIRONMENT = "the environment"


class Sources(Mapping[str, Any]):
    """An environment whose settings may also come from files; notes where each came from.

    A file that cannot be used is noted under :attr:`problems`, and its setting is missing. Not
    thread-safe. Its repr shows no value.

    Args:
        environ: The variables; None: those of the process.
        prefix: The beginning of the names of all settings.
    """

    def __init__(
        self, environ: Mapping[str, Any] | None = None, *, prefix: str = "PERMATA_"
    ) -> None:
        self._environ = os.environ if environ is None else environ
        self._prefix = prefix
        #: For each setting that was asked for, and is there: where it came from, in words.
        self.origins: dict[str, str] = {}
        #: A sentence for each setting whose file cannot be used.
        self.problems: dict[str, str] = {}
        #: The files that were used, by the name of the setting.
        self.files: dict[str, Path] = {}
        self._watched: dict[str, list[Path]] = {}

    def __repr__(self) -> str:
        return f"<Sources of {self._prefix}…>"

    def __getitem__(self, name: str) -> Any:
        value = self._environ.get(name)
        if not name.startswith(self._prefix):
            if value is None:
                raise KeyError(name)
            return value
        if name.endswith("_FILE"):  # names where another value comes from, and is none itself
            raise KeyError(name)
        named = self._path(f"{name}_FILE")
        if not _is_blank(value):
            if named is not None:
                both = f"{name} and {name}_FILE are both set; set one of them"
                self.problems[name] = both
            self.origins[name] = _ENVIRONMENT
            return value.strip() if isinstance(value, str) else value
        text = self._from_file(name, named)
        if text is None and value is None:
            raise KeyError(name)
        return "" if text is None else text

    def __iter__(self) -> Iterator[str]:
        return iter(self._environ)

    def __len__(self) -> int:
        return len(self._environ)

    def fresh(self) -> Sources:
        """Return the same environment, of which nothing was asked yet."""
        return Sources(self._environ, prefix=self._prefix)

    def check(self) -> None:
        """Raise one ConfigurationError that names all that is wrong with the files."""
        if self.problems:
            raise ConfigurationError("; ".join(self.problems.values()))

    def stamp(self) -> object:
        """Return a mark that changes when one of the files changes, appears or is gone.

        Looks at files, and opens none. So that no change is missed that is as young as the last
        look, the stamp of a file changes once more when it has not been written to for a while.
        """
        now = _clock.wall()
        paths = [path for paths in self._watched.values() for path in paths]
        return tuple(_stamp(path, now) for path in paths)

    def _path(self, name: str) -> Path | None:
        text = self._environ.get(name)
        return None if _is_blank(text) else Path(str(text).strip())

    def _from_file(self, name: str, named: Path | None) -> str | None:
        """Return the value in the first file that there is; ``named`` must be there."""
        paths = [named] if named is not None else self._in_folders(name)
        self._watched[name] = paths
        for path in paths:
            label = f"{name}_FILE ({path})" if named is not None else f"{name} ({path})"
            try:
                text = _read(path)
            except FileNotFoundError:
                if named is None:
                    continue
                self.problems[name] = f"{label} names no file"
                return None
            except (OSError, ValueError) as error:
                self.problems[name] = f"{label} {_reason(error)}"
                return None
            self.origins[name], self.files[name] = str(path), path
            return text
        return None

    def _in_folders(self, name: str) -> list[Path]:
        folders = [self._path("CREDENTIALS_DIRECTORY"), self._path(f"{self._prefix}SECRETS_DIR")]
        return [folder / name.lower() for folder in folders if folder is not None]


def sources(environ: Mapping[str, Any] | None, prefix: str) -> Sources:
    """Return ``environ`` as :class:`Sources`, unless it is one already.

    Args:
        environ: As of :class:`Sources`.
        prefix: As of :class:`Sources`.
    """
    return environ if isinstance(environ, Sources) else Sources(environ, prefix=prefix)


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _read(path: Path) -> str:
    """Return the text of a small regular file; raise ValueError for any other, and OSError."""
    # A look before the file is opened: to open a FIFO or a device may wait, or do something.
    _check_kind(path.stat().st_mode)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags), "rb") as file:  # noqa: PTH123 - of a descriptor
        _check_kind(os.fstat(file.fileno()).st_mode)  # another one may have taken its place
        content = file.read(_MAX_FILE_BYTES + 1)
    if len(content) > _MAX_FILE_BYTES:
        raise ValueError(f"is larger than {_MAX_FILE_BYTES // 1024} KiB")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = ""  # out of here, since the error holds the content
    text = text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text
    if not text:
        raise ValueError("is empty" if not content.strip() else "is no text in UTF-8")
    return text


def _check_kind(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise ValueError("is a folder" if stat.S_ISDIR(mode) else "is no regular file")


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or type(error).__name__}"
    return str(error)


def _stamp(path: Path, now: float) -> object:
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        return type(error).__name__
    is_settled = abs(now - found.st_mtime) > _MAX_CLOCK_TICK_SECS
    same = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    return (*same, is_settled)
