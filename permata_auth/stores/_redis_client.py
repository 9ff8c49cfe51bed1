"""Clients of Redis and Valkey: which ones are taken, and their errors as errors of ours."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ..exceptions import ConfigurationError, TokenStoreError
from ._redis_url import connect

# Errors of a client that stumbles over a reply, or over its own state after an outage.
_CONFUSED = (OSError, ValueError, TypeError, LookupError, AttributeError)
_STANDARD = {"abc", "builtins", "typing"}


def client_of(client_or_url: Any, user: str) -> Any:
    """Return a client for a URL, or a given one that blocks; raise ConfigurationError for others.

    Args:
        client_or_url: As the constructor of ``user`` takes it.
        user: The class that the error names.
    """
    if isinstance(client_or_url, str):
        return connect(client_or_url)
    methods = [getattr(client_or_url, name, None) for name in ("eval", "set", "delete")]
    is_class = isinstance(client_or_url, type)
    if is_class or not all(map(callable, methods)):
        raise ConfigurationError(f"give {user} a URL or a client of redis-py or valkey-py")
    if inspect.iscoroutinefunction(getattr(client_or_url, "execute_command", None)):
        raise ConfigurationError(f"give {user} a client that blocks, not one of asyncio")
    return client_or_url


def asking(client: Any) -> Callable[..., Any]:
    """Return ``ask(method, *arguments, **options)``, which raises TokenStoreError for the client's.

    Args:
        client: As :func:`client_of` returns it.
    """
    packages = _packages(type(client)) | {"redis"}

    def ask(method: str, *arguments: Any, **options: Any) -> Any:
        try:
            return getattr(client, method)(*arguments, **options)
        except Exception as error:
            # Errors of a cluster are no RedisError, and those of valkey-py are of another tree.
            is_foreign = not packages.isdisjoint(_packages(type(error)))
            if not is_foreign and not isinstance(error, _CONFUSED):
                raise  # thrown in from outside, such as a task's time limit
            reason = type(error).__name__
        # Out here, chained to nothing, and the name alone: the text may quote the command.
        raise TokenStoreError(f"Redis: {reason}; check the server")

    return ask


def _packages(kind: type) -> set[str]:
    """Return the packages that a class and its ancestors come from."""
    return {each.__module__.partition(".")[0] for each in kind.__mro__} - _STANDARD
