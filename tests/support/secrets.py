"""Secrets that must not show up where people look: logs, reprs, errors."""

from __future__ import annotations

import base64
import logging
import traceback

from permata_auth.sandbox import Sandbox
from permata_auth.sandbox import bank as rules
from permata_auth.sandbox.snap.keys import private_pem

_CREDENTIALS = (rules.API_KEY, rules.CLIENT_ID, rules.CLIENT_SECRET, rules.STATIC_KEY)
# A line from the middle of each key: however it is wrapped, some of it shows up whole.
_KEYS = tuple(private_pem(owner).splitlines()[10][:48] for owner in ("merchant", "bank"))
_HEADERS = ("Authorization", "OAUTH-Signature", "permata-signature", "X-SIGNATURE")


class Secrets:
    """The secrets of one test: those of its banks, and those that it adds itself."""

    def __init__(self) -> None:
        basic = f"{rules.CLIENT_ID}:{rules.CLIENT_SECRET}".encode()
        self._texts = {*_CREDENTIALS, *_KEYS, base64.b64encode(basic).decode()}
        self._banks: list[Sandbox] = []

    def add(self, *texts: str) -> None:
        self._texts.update(texts)

    def watch(self, bank: Sandbox) -> None:
        """Know the tokens that ``bank`` issues, and the signatures that it is sent."""
        self._banks.append(bank)

    @property
    def texts(self) -> set[str]:
        found = set(self._texts)
        for bank in self._banks:
            found.update(list(bank._tokens))
            for request in bank.requests:
                values = (request.headers.get(name, "") for name in _HEADERS)
                found.update(value.rpartition(" ")[2] for value in values if value)
        return found

    def found_in(self, *texts: str) -> set[str]:
        """Return the secrets that occur in ``texts``."""
        return {secret for secret in self.texts if any(secret in text for text in texts)}

    def found_in_error(self, error: BaseException) -> set[str]:
        """Return the secrets in an error: texts, attributes, whole chain, our frames' locals."""
        return self.found_in(*_texts_of(error, set()))


def _texts_of(error: BaseException | None, seen: set[int]) -> list[str]:
    if error is None or id(error) in seen:
        return []
    seen.add(id(error))
    texts = [str(error), repr(error), repr(vars(error)), *traceback.format_exception(error)]
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if "permata_auth" in frame.f_code.co_filename:
            texts += [repr(value) for value in frame.f_locals.values()]
    return [
        *texts,
        *_texts_of(error.__cause__, seen),
        *_texts_of(error.__context__, seen),
    ]


class LogWatch(logging.Handler):
    """Keeps the text of every record, with its arguments, extras and traceback."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = f"{record.getMessage()} {record.__dict__!r}"
        if record.exc_info:
            text += "".join(traceback.format_exception(*record.exc_info))
        self.texts.append(text)
