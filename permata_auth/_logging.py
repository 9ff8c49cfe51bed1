"""What every log record carries: which call it belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_ids: ContextVar[dict[str, str]] = ContextVar("permata_auth_ids")


@contextmanager
def tagged(*, unique_id: str | None = None, request_id: str | None = None) -> Iterator[None]:
    """Tag every record of this context (and of the flights that it starts) with these ids."""
    given = {"unique_id": unique_id, "request_id": request_id}
    token = _ids.set(ids() | {name: value for name, value in given.items() if value is not None})
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
