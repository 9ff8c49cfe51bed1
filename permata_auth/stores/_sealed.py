"""The base of stores that others can read or write: sealed tokens, and a lock kept by a fence."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from .. import _clock
from .._settings import Unpicklable
from ..exceptions import ConfigurationError, TokenStoreError

if TYPE_CHECKING:
    from ._seal import Seal

_POLL_SECS = (0.02, 0.06)


class Sealed(Unpicklable):
    """Names and seals derived from credentials, and the lock of such a store.

    Args:
        credentials: The keys are derived from them; None for a store that is bound later.
        prefix: Begins the name of every entry.
    """

    def __init__(self, credentials: object, prefix: str) -> None:
        self._prefix = prefix
        self._bound = None if credentials is None else _new_seal(credentials)

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Keep every other process out, as long as the store remembers the lock.

        Args:
            key: The key of the credentials that a login is made for.
        """
        # The fence tells this holder's lock from one that another process took after its life.
        name, fence = f"{self._name(key)}:lock", secrets.token_hex(16)
        with self._held(name, fence):
            yield

    def _held(self, name: str, fence: str) -> AbstractContextManager[None]:
        raise NotImplementedError

    @property
    def _seal(self) -> Seal:
        if self._bound is None:
            raise ConfigurationError(f"{type(self).__name__} needs credentials, or a LoginHandler")
        return self._bound

    def _name(self, key: str) -> str:
        return f"{self._prefix}{key}:{self._seal.name}"


def wait_for(claim: Callable[[], object], max_secs: float) -> None:
    """Claim a lock again and again until it is taken; raise TokenStoreError after ``max_secs``.

    Args:
        claim: Takes the lock if it is free, and returns whether it was.
        max_secs: The seconds to wait at most.
    """
    until = _clock.now() + max_secs
    while not claim():
        if _clock.now() >= until:
            raise TokenStoreError(f"the lock was not free for {max_secs:.0f} seconds")
        time.sleep(random.uniform(*_POLL_SECS))


def _new_seal(credentials: object) -> Seal:
    from ._seal import Seal  # noqa: PLC0415 - needs an extra

    return Seal(credentials)
