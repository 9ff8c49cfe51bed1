"""The tokens of the bank: issued, alive, revoked, rejected."""

from __future__ import annotations

import math
import secrets
import time

import attrs
from attrs import validators

from .ledger import Ledger
from .limits import is_seconds
from .messages import IssuedToken, fingerprint


@attrs.define
class LiveToken:
    """A token that was issued, in one of the two dialects; ``killed`` says why it is dead."""

    value: str = attrs.field(repr=False)
    dialect: str
    issued: IssuedToken
    killed: str = ""

    def fault(self) -> str:
        """Say why the token is dead, or return an empty string."""
        return self.killed or ("expired" if time.monotonic() >= self.issued.expires_at else "")


is_bool = validators.instance_of(bool)


@attrs.define(kw_only=True, eq=False)
class Tokens(Ledger):
    """The tokens, on top of the bank's records. Thread-safe; nothing blocks here.

    Args:
        token_lifetime: Seconds that a token lives; the bank's own tokens live about as long.
        reuse_token: Every login gets the same token until that dies.
        single_token: A new login kills the token before it, of the same dialect.
        reject_tokens: Every call is answered "token rejected", also with a fresh token.
    """

    token_lifetime: float = attrs.field(default=900.0, validator=is_seconds(above=0.001))
    reuse_token: bool = attrs.field(default=False, validator=is_bool)
    single_token: bool = attrs.field(default=False, validator=is_bool)
    reject_tokens: bool = attrs.field(default=False, validator=is_bool)
    _tokens: dict[str, LiveToken] = attrs.field(factory=dict, init=False, repr=False)
    _last: dict[str, LiveToken] = attrs.field(factory=dict, init=False, repr=False)
    _rejecting_until: float = attrs.field(default=-math.inf, init=False, repr=False)

    def revoke(self, token: str) -> bool:
        """Kill this token; return False if it is not known."""
        with self._changed:
            if token in self._tokens:
                self._tokens[token].killed = "revoked"
            return token in self._tokens

    def revoke_all_tokens(self) -> None:
        """Kill every token that was issued so far."""
        with self._changed:
            for token in self._tokens.values():
                token.killed = token.killed or "revoked"

    def reject_tokens_for(self, seconds: float) -> None:
        """Answer every call of the next ``seconds`` with "token rejected"; logins succeed.

        Args:
            seconds: Counted from now, in place of an earlier call's; 0 ends it.
        """
        is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
        if not (is_number and seconds >= 0):
            raise ValueError("seconds must be a number >= 0")
        self._rejecting_until = time.monotonic() + seconds

    def reset_counters(self) -> None:
        """Forget counters, records and dead tokens.

        Living tokens stay good, and a lock or a limit that the logins so far have led to stays.
        """
        with self._changed:
            super().reset_counters()
            self._tokens = {value: t for value, t in self._tokens.items() if not t.fault()}

    def _issue(self, dialect: str) -> tuple[LiveToken, float]:
        """Return a token of this dialect, and its seconds as its response says them."""
        with self._changed:
            self._counts["logins"] += 1
            last, seconds = self._last.get(dialect), self.token_lifetime
            if self.reuse_token and last and not last.fault():
                return last, max(1, int(last.issued.expires_at - time.monotonic()))
            self._last[dialect] = token = self._mint(dialect)
            return token, int(seconds) if seconds == int(seconds) else seconds

    def _mint(self, dialect: str) -> LiveToken:
        if self.single_token:
            for older in self._tokens.values():
                if older.dialect == dialect:
                    older.killed = older.killed or "superseded by a new login"
        value, now = secrets.token_urlsafe(32), time.monotonic()
        issued = IssuedToken(
            fingerprint=fingerprint(value), issued_at=now, expires_at=now + self.token_lifetime
        )
        self._note_issued(issued)
        self._tokens[value] = token = LiveToken(value, dialect, issued)
        self._forget_dead_tokens()
        return token

    def _forget_dead_tokens(self) -> None:
        """Drop the oldest tokens beyond ``max_records``, but none that lives."""
        while len(self._tokens) > self.max_records:
            oldest = next(iter(self._tokens))
            if not self._tokens[oldest].fault():
                return
            del self._tokens[oldest]

    def _bearer(self, authorization: str, dialect: str) -> tuple[str, str]:
        """Return the token, and why it is not accepted, or an empty string."""
        scheme, _, value = authorization.partition(" ")
        with self._changed:
            token = self._tokens.get(value) if scheme == "Bearer" else None
            if token is None or token.dialect != dialect:
                fault = "unknown" if value else "missing"
            else:
                fault = token.fault()
            is_rejecting = self.reject_tokens or time.monotonic() < self._rejecting_until
            if not fault and is_rejecting:
                fault = "rejected like all others"
            self._counts["rejected_calls"] += bool(fault)
        return value, fault
