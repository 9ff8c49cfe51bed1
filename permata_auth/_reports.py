"""Reports of callers on a token: the bank has rejected it, or accepted a call with it."""

from __future__ import annotations

from collections.abc import Mapping

from ._clock_offset import Reading
from ._token_life import TokenLife
from .schemes.base import Scheme, is_signature_rejected, is_timestamp_rejected
from .tokens import AccessToken


class Reports(TokenLife):
    """A token's life as calls to the bank take part in it."""

    _credentials: Scheme

    def invalidate(self, token: AccessToken | str | None = None) -> None:
        """Drop ``token``, which the bank has rejected; do nothing if another one is cached by now.

        The next call looks for a newer token in the store, then logs in. A token that no call was
        accepted with is dropped too, but from the second such token in a row no sooner than after
        a pause; until then it is served. Does not wait for a login; with a store, for that.

        Args:
            token: The token, or its value; None: the one that is cached.
        """
        if token is not None and not isinstance(token, AccessToken | str):
            raise TypeError("token must be an AccessToken, its value as a str, or None")
        self._notice_fork()
        snapshot = self._snapshot
        cached = snapshot.token
        value = token.value if isinstance(token, AccessToken) else token
        if cached is None or snapshot.is_dropped or value not in (None, cached.value):
            return
        if self._rejections.reject(snapshot) and snapshot.drop():
            self._rejections.remember(cached)
            self._discard(cached)

    def note_response(
        self,
        token: str,
        status_code: int,
        body: bytes = b"",
        *,
        is_second: bool = False,
        url: str = "",
        headers: Mapping[str, str] | None = None,
        took: float = 0.0,
    ) -> bool:
        """Note how the bank received a call; return whether to send it once more.

        :class:`PermataAuth` and :class:`CallbackStatusClient` do so themselves. True: the bank has
        rejected the token, and :meth:`get_token` will give another one, or it has refused the
        timestamp of a wrong clock, or the signature of credentials that have changed, and
        :func:`sign_request` will correct it. A token with which a call was accepted is replaced at
        once when the bank rejects it later. Costs next to nothing for an accepted call; blocks for
        a store alone, after a rejected token, and for credentials that are looked at, 5 seconds at
        most, after a refused signature.

        Args:
            token: The value that the call carried; empty for a call that needs none.
            status_code: The HTTP status of the response.
            body: The body of the response; needed for 400, 401 and 403 alone.
            is_second: The call has been sent again already: the token is not replaced now.
            url: Where the call went.
            headers: The response's headers; None: a refused timestamp or signature is the caller's.
            took: The seconds from sending the call to the response.
        """
        credentials = self._credentials
        if token and credentials.is_token_rejected(status_code, body):
            if not is_second:
                self.invalidate(token)
                return self._snapshot.live is None or self._snapshot.value != token
            note = self._rejections.reject
        else:
            note = self._rejections.accept
        snapshot = self._snapshot
        if status_code < 500 and snapshot.value == token and not snapshot.is_accepted:
            note(snapshot)
        if headers is None:
            return False
        if is_signature_rejected(credentials, status_code, body):
            signer = self._rotation.current
            return not is_second and self._rotation.other_signer(signer) is self._rotation.current
        if not is_timestamp_rejected(credentials, status_code, body):
            return False
        reading = Reading(url=url, headers=headers, took=took)
        return self.clock.correct(reading, is_second=is_second)

    def clear_cache(self) -> None:
        """Forget the token, and every pause but one that the bank asked for; keep the schedule."""
        self._notice_fork()
        self._pace.clear()
        snapshot = self._snapshot
        if snapshot.token is not None and snapshot.drop():
            self._discard(snapshot.token)
