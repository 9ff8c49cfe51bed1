"""How connections to the bank are made: client certificate, CA bundle, proxy."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests

from . import _clock
from ._http import Connections, TlsFiles, TransportAdapter, host_and_port, new_session
from ._settings import Secret
from ._sources import Sources
from .exceptions import ConfigurationError

_Path = str | os.PathLike[str]
_Session = TypeVar("_Session", bound=requests.Session)

#: The arguments, each of which is a variable for :meth:`Transport.from_env`.
_NAMES = ("client_cert", "client_key", "ca_bundle", "proxy", "client_key_password")
_PATHS = ("client_cert", "client_key", "ca_bundle")
_PROXY_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")
_MAX_PASSWORD_BYTES = 1024  # of OpenSSL


class Transport(Secret):
    """Client certificate, CA bundle and proxy, for logins and calls alike. Thread-safe.

    The files may change while the program runs. They are looked at before each request: once they
    have changed, and can be loaded as a pair, new connections use them, and idle old ones are
    closed; a call that is under way ends as it began. A file that is missing, unreadable, half
    written or expired, or a key for another certificate: the old ones stay in use, and one WARNING
    says why, for each new problem. A forked child has connections of its own.

    It decides TLS alone: ``verify`` and ``cert`` of a session or a call take no part, certificates
    are always verified. Without ``ca_bundle``, trust is as requests has it: ``REQUESTS_CA_BUNDLE``,
    ``CURL_CA_BUNDLE``, or the package certifi.

    Making one reads the files and opens no connection. Raises one ConfigurationError that names all
    that is wrong and shows no secret.

    Args:
        client_cert: The PEM file of the client certificate that the bank knows, the intermediate
            certificates after it. None: the bank does not ask for one.
        client_key: The PEM file of its private key. None: it is in the same file.
        ca_bundle: The authorities to trust, and no others: a PEM file, or a folder as OpenSSL
            hashes it. It may hold an old and a new one at once.
        proxy: ``http://user:password@host:port``, or ``https``, ``socks5h`` and so on (SOCKS needs
            requests[socks]). It goes before ``HTTPS_PROXY``, and ``NO_PROXY`` excepts no host
            from it. None: as the environment says.
        client_key_password: Opens an encrypted key. None: such a key is an error, and no prompt.
    """

    _why_unpicklable = "it holds secrets; make one in each process"

    def __init__(
        self,
        client_cert: _Path | None = None,
        client_key: _Path | None = None,
        ca_bundle: _Path | None = None,
        proxy: str | None = None,
        *,
        client_key_password: str | None = None,
    ) -> None:
        values = {
            "client_cert": client_cert,
            "client_key": client_key,
            "ca_bundle": ca_bundle,
            "proxy": proxy,
            "client_key_password": client_key_password,
        }
        problem = self._take(values, str)
        if problem:
            del values, proxy, client_key_password  # error reports show the locals of frames
            raise ConfigurationError(problem)

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str] | None = None, *, prefix: str = "PERMATA_"
    ) -> Transport:
        """Read ``PERMATA_CLIENT_CERT``, ``PERMATA_PROXY`` and so on, one variable an argument.

        A variable that is not set, or blank, is as the argument's default. Raises as the
        constructor, with the names of the variables.

        Args:
            environ: In place of ``os.environ``.
            prefix: The beginning of the names of the variables.
        """
        values = _values(environ, prefix)
        transport = cls.__new__(cls)
        problem = transport._take(  # noqa: SLF001 - a second constructor of this class
            values, lambda name: prefix + name.upper()
        )
        if problem:
            del environ, values  # error reports show the locals of frames
            raise ConfigurationError(problem)
        return transport

    def __repr__(self) -> str:
        files = self._files
        shown = {
            "client_cert": files.client_cert,
            "client_key": files.client_key,
            "ca_bundle": files.ca_bundle,
            "proxy": self.proxy,
        }
        return f"Transport({', '.join(f'{name}={text!r}' for name, text in shown.items() if text)})"

    @property
    def proxy(self) -> str | None:
        """The proxy's ``host:port``, or None where the environment decides."""
        return host_and_port(self._proxy) if self._proxy else None

    @property
    def expires_at(self) -> datetime | None:
        """When the client certificate in use expires, aware UTC; None where there is none.

        Looks at the files, as a request does.
        """
        posix = self._files.current().expires_at
        return None if posix is None else _clock.to_datetime(posix)

    def session(self, *, pool_size: int = 10) -> requests.Session:
        """Return a new session that sends by this transport; its calls have no other timeouts.

        Args:
            pool_size: How many connections to one host are kept open at most, as in requests.
        """
        return self.mount(requests.Session(), pool_size=pool_size)

    def mount(self, session: _Session, *, pool_size: int = 10) -> _Session:
        """Have all calls of ``session`` sent by this transport, and return it.

        Takes the place of its adapters for ``https://`` and ``http://``. A request raises
        ConfigurationError where the files were never usable in this process, and otherwise the
        errors of requests.

        Args:
            session: The caller's own; it is not closed here.
            pool_size: How many connections to one host are kept open at most, as in requests.
        """
        if not isinstance(session, requests.Session):
            raise ConfigurationError("session must be a requests.Session")
        adapter = TransportAdapter(self._files, self._proxy, pool_size)
        for prefix in ("https://", "http://"):
            session.mount(prefix, adapter)
        return session

    def _take(self, values: dict[str, Any], label: Callable[[str], str]) -> str:
        """Keep the arguments; return all that is wrong with them."""
        problems = _problems(values, label)
        found = [f"{label(name)} {problem}" for name, problem in problems.items()]
        good = {name: None if name in problems else value for name, value in values.items()}
        paths = {name: _text(good[name]) for name in _PATHS}
        self._proxy: str | None = good["proxy"]
        self._files = TlsFiles(**paths, password=good["client_key_password"], label=label)
        if any(paths.values()):
            try:
                self._files.current()
            except ConfigurationError as error:
                found.append(str(error))
        return "; ".join(found)


def transport_from_env(
    settings: Mapping[str, str] | None = None, *, prefix: str = "PERMATA_"
) -> Transport | None:
    """Return :meth:`Transport.from_env`, or None where none of its variables is set.

    Args:
        settings: In place of ``os.environ``; errors show it, so its repr shows no value.
        prefix: As in :meth:`Transport.from_env`.
    """
    is_set = any(_values(settings, prefix).values())
    return Transport.from_env(settings, prefix=prefix) if is_set else None


def _values(environ: Mapping[str, str] | None, prefix: str) -> dict[str, str | None]:
    """Return the arguments that the environment has; the proxy and the password also from files."""
    environ = os.environ if environ is None else environ
    others = Sources(environ, prefix=prefix)
    found = {
        name: (environ if name in _PATHS else others).get(prefix + name.upper(), "").strip() or None
        for name in _NAMES
    }
    if others.problems:
        del environ, found  # as above
        others.check()
    return found


def connections(
    session: requests.Session | None, transport: Transport | None, *, pool_size: int = 10
) -> Connections:
    """Return the connections of a client. Raises ConfigurationError for both, or a wrong type.

    Args:
        session: The caller's own.
        transport: Makes the sessions, one for each process.
        pool_size: How many connections to one host are kept open at most.
    """
    if not isinstance(transport, Transport | None):
        raise ConfigurationError("transport must be a Transport")
    if session is not None and transport is not None:
        raise ConfigurationError(
            "transport= and session= exclude each other; transport.mount(session) joins the two"
        )
    new = functools.partial(session_by, transport)
    return Connections(session, pool_size=pool_size, new=new)


def session_by(transport: Transport | None, pool_size: int) -> requests.Session:
    """Return a session of ours.

    Args:
        transport: Makes it; None: it sends as the environment says.
        pool_size: The number of connections to one host that are kept open at most.
    """
    return new_session(pool_size) if transport is None else transport.session(pool_size=pool_size)


def _problems(values: dict[str, Any], label: Callable[[str], str]) -> dict[str, str]:
    """Return the problem of each wrong argument, by its name; opens no file, shows no value."""
    found = {name: _path_problem(values[name]) for name in _PATHS}
    found["proxy"] = _proxy_problem(values["proxy"])
    found["client_key_password"] = _password_problem(values["client_key_password"])
    if values["client_cert"] is None:
        for name in ("client_key", "client_key_password"):
            if values[name] is not None:
                found[name] = f"needs {label('client_cert')}"
    return {name: problem for name, problem in found.items() if problem is not None}


def _text(path: _Path | None) -> str | None:
    return None if path is None else os.fspath(path)


def _path_problem(value: object) -> str | None:
    if value is None:
        return None
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    is_path = isinstance(path, str) and path.strip() and "\0" not in path
    return None if is_path else "must be the path of a file"


def _password_problem(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value.encode()) <= _MAX_PASSWORD_BYTES:
        return f"must be a str of 1 to {_MAX_PASSWORD_BYTES} bytes"
    return None


def _proxy_problem(url: object) -> str | None:
    if url is None:
        return None
    problem = (
        "must be http://host:port (or https://, socks5h://), user and password percent-encoded"
    )
    if not isinstance(url, str) or not re.fullmatch(r"[\x21-\x5b\x5d-\x7e]+", url):
        return problem
    try:
        parts = urlsplit(url)
        is_valid = parts.hostname and parts.port != 0
    except ValueError:
        return problem
    is_bare = parts.path in ("", "/") and not (parts.query or parts.fragment)
    return None if is_valid and is_bare and parts.scheme in _PROXY_SCHEMES else problem
