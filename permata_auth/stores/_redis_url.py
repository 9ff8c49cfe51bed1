"""URLs of Redis and Valkey servers: every option is checked before anything connects."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from urllib.parse import SplitResult, parse_qsl, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ..exceptions import ConfigurationError

_TIMEOUT_SECS = 2.0
_ALIASES = {"valkey": "redis", "valkeys": "rediss"}


def _is_whole(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,9}", text) is not None


def _is_seconds(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


def _is_flag(text: str) -> bool:
    # redis-py takes every other word for true, "off" too.
    return text.lower() in ("0", "f", "false", "n", "no", "1", "t", "true", "y", "yes")


def _is_one_of(*words: str) -> Callable[[str], bool]:
    return lambda text: text in words


def _is_text(text: str) -> bool:
    return bool(text)


# redis-py keeps an unknown option until the first connection, and refuses it there.
_OPTIONS: dict[str, Callable[[str], bool]] = {
    "db": _is_whole,
    "username": _is_text,
    "password": _is_text,
    "client_name": _is_text,
    "protocol": _is_one_of("2", "3"),
    "decode_responses": _is_flag,
    "socket_timeout": _is_seconds,
    "socket_connect_timeout": _is_seconds,
    "socket_keepalive": _is_flag,
    "retry_on_timeout": _is_flag,
    "health_check_interval": _is_whole,
    "max_connections": _is_whole,
}
_TLS_OPTIONS: dict[str, Callable[[str], bool]] = {
    "ssl_cert_reqs": _is_one_of("none", "optional", "required"),
    "ssl_check_hostname": _is_flag,
    "ssl_ca_certs": _is_text,
    "ssl_ca_path": _is_text,
    "ssl_certfile": _is_text,
    "ssl_keyfile": _is_text,
    "ssl_password": _is_text,
    "ssl_ciphers": _is_text,
    "ssl_min_version": _is_whole,
}


def connect(url: str) -> redis.Redis:
    """Return a client for a URL; opens nothing. Raises ConfigurationError.

    Args:
        url: Its options go before the timeouts that are set here.
    """
    scheme, colon, rest = url.partition(":")
    url = _ALIASES.get(scheme, scheme) + colon + rest
    try:
        _check(urlsplit(url))
        client = redis.Redis.from_url(
            url,
            socket_connect_timeout=_TIMEOUT_SECS,
            socket_timeout=_TIMEOUT_SECS,
            # Once again on a new connection, since the server may have closed an idle one.
            retry=Retry(NoBackoff(), 1),
        )
        pool = client.connection_pool
        pool.connection_class(**pool.connection_kwargs)  # not connected: looks at its arguments
        return client
    except (ValueError, TypeError, redis.RedisError) as error:
        reason = f": {error}" if isinstance(error, _WrongUrlError) else ""
    # Out here, chained to nothing: an error of urlsplit or redis-py may quote a password.
    raise ConfigurationError(f"the Redis URL is not valid{reason}")


class _WrongUrlError(ValueError):
    """Its text quotes nothing of the URL, which may hold a password."""


def _check(parts: SplitResult) -> None:
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise _WrongUrlError("its scheme must be redis, rediss, valkey, valkeys or unix")
    if parts.fragment or parts.port == 0:
        raise _WrongUrlError("it has a '#', which a password needs written as %23, or a port of 0")
    if parts.scheme == "unix" and (parts.hostname or len(parts.path) < 2):
        raise _WrongUrlError("unix: is followed by three slashes and the path of the socket")
    if parts.scheme != "unix" and not re.fullmatch(r"/?|/[0-9]{1,9}", parts.path):
        raise _WrongUrlError("its path must be the number of a database")
    known = _OPTIONS | (_TLS_OPTIONS if parts.scheme == "rediss" else {})
    for name, text in parse_qsl(parts.query, keep_blank_values=True):
        if name not in known:
            raise _WrongUrlError(f"it has an unknown option; known are {', '.join(known)}")
        if not known[name](text):
            raise _WrongUrlError(f"its option {name} has no sense")
