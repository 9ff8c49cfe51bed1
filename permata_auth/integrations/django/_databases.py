"""Database connections of threads that Django knows nothing of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from ..._logging import Log, contained, describe

logger = Log(__name__)


@contextmanager
def own_connections() -> Iterator[None]:
    """Close the database connections that this thread opens in the block.

    Django closes those of its own threads after each request. A thread of this package's own lives
    for one operation, and its connection would stay open after it. A connection that cannot be
    closed is logged, and raises nothing: its work is done.
    """
    before = opened()
    try:
        yield
    finally:
        for connection in connections.all(initialized_only=True):
            if connection.alias not in before:
                with contained(_report):
                    _close(connection)


def opened() -> set[str]:
    """Return the aliases of the databases that this thread has connections to."""
    return {each.alias for each in connections.all(initialized_only=True)}


def _close(connection: BaseDatabaseWrapper) -> None:
    try:
        connection.close()
        if connection.connection is not None:  # Django keeps the ones to a database in memory
            connection.connection.close()
    finally:
        del connections[connection.alias]


def _report(error: BaseException) -> None:
    logger.warning("A database connection could not be closed: %s", describe(error))
