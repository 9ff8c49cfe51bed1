"""SNAP BI, the national open-API standard: an RSA signature for logins, an HMAC for calls."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Mapping

import attrs

from .. import _clock
from ..exceptions import ConfigurationError, SignatureError, TokenEndpointError
from . import _snap_forms as forms
from . import _snap_responses as responses
from . import _snap_signing as signing
from ._snap_responses import SnapOutcome
from ._snap_settings import MAX_EXTERNAL_ID_CHARS, SnapSettings
from .base import TokenRequest, TokenResponse, derived_key
from .canonical import canonical
from .explained import Explanation, SignedCall
from .jakarta import digits, timestamp, written
from .setting_names import SettingNames

_URL_SETTING = "PERMATA_SNAP_TOKEN_URL"
_SETTING_NAMES = SettingNames(
    token_url=_URL_SETTING,
    signature=(
        "PERMATA_SNAP_CLIENT_SECRET (PERMATA_SNAP_PRIVATE_KEY where the signature is asymmetric), "
        "PERMATA_SNAP_TRANSACTION_SIGNATURE, PERMATA_SNAP_SIGNATURE_ENCODING, "
        "PERMATA_SNAP_CANONICALIZER, PERMATA_SNAP_SIGN_QUERY and PERMATA_SNAP_SIGNED_PREFIX"
    ),
    caller="PERMATA_SNAP_PARTNER_ID and PERMATA_SNAP_CHANNEL_ID",
)
_LOGIN_BODY = b'{"grantType":"client_credentials"}'
_EXTERNAL_ID = re.compile(rf"[0-9A-Za-z._-]{{1,{MAX_EXTERNAL_ID_CHARS}}}")


@attrs.frozen(kw_only=True)
class SnapCredentials(SnapSettings):
    """The credentials of one partner of the bank, and the bank's way of speaking SNAP.

    Makes tokens and signatures for calls to the bank. Thread-safe, and safe to fork. Reading the
    private key takes about 26 ms, once. Raises one ConfigurationError that names all that is wrong
    and shows no value, and ImportError where a private key is given without the extra ``snap``.

    The bank has published no document about its use of the standard: each point in which other
    banks are known to differ is an argument here, and a value that nobody can know has no default.

    Args:
        token_url: The full URL of the token endpoint: https, plain http only to loopback (or
            anywhere with ``allow_insecure_http``).
        client_id: ``X-CLIENT-KEY`` of the login.
        client_secret: The HMAC key of symmetric signatures, used as text, also where it looks like
            base64; None where none is symmetric.
        private_key: The RSA key of asymmetric signatures: PEM of PKCS#8 or PKCS#1, on several lines
            or on one, base64 of its DER, or a key that cryptography has loaded. The bank has its
            public half.
        private_key_file: The path of such a text, in place of ``private_key``.
        private_key_passphrase: For a key that is encrypted.
        partner_id: ``X-PARTNER-ID`` of calls; by default the client id, as with most banks.
        channel_id: ``CHANNEL-ID`` of calls, as the bank gave it out: needed to sign calls, not to
            log in. None by default, since it differs for every partner.
        origin: Sent with calls, where the bank asks for it.
        origin_header: Its header. ``ORIGIN`` by default; some pages of the standard say
            ``X-ORIGIN``.
        timestamp_form: ``seconds`` (default, as in the samples of the standard), ``milliseconds``
            (as in its text) or ``utc``.
        transaction_signature: Of calls, as registered with the bank: ``symmetric`` (default) or
            ``asymmetric``, for which no token is needed and no login happens.
        token_signature: Of the login: ``asymmetric`` (default, as the standard demands) or
            ``symmetric``.
        signature_encoding: ``base64`` (default) or ``hex``.
        canonicalizer: The part of a body that is signed: ``minify`` (default: published
            hashes are of that), ``strip_all`` or ``raw``.
        sign_query: Whether the URL's query is signed. True by default, as the standard says.
        signed_prefix: The text that is signed before the version segment (``/v1.0``) of the path,
            where a proxy changes it: ``/`` for nothing, or a path. None by default: the path as it
            is sent.
        external_id_length: Digits of ``X-EXTERNAL-ID``, 24 to 36: the time in Jakarta, and random
            ones. 32 by default, which leaves no two alike.
        external_id: Returns the ``X-EXTERNAL-ID`` of one request, a new one at each call; for banks
            that want fewer digits or their own form. Called from any thread.
        allow_insecure_http: Take plain http to other machines, for a sandbox. False by default.
        allow_short_key: Take an RSA key below 2048 bits, as in a bank's sample. False by default.
    """

    @property
    def key(self) -> str:
        """Name these credentials in a token store; holds no secret."""
        identity = f"snap\n{self.token_url}\n{self.client_id}"
        return hashlib.sha256(identity.encode()).hexdigest()[:32]

    def derive_key(self, purpose: str) -> bytes:
        """Return 32 bytes for ``purpose``, derived from both secrets (HKDF-SHA256, RFC 5869)."""
        return derived_key(self._key_text, self.client_secret or "", f"{purpose}\n{self.key}")

    @property
    def default_lifetime(self) -> float:
        """900 s, as in the standard's samples."""
        return 900.0

    @property
    def setting_names(self) -> SettingNames:
        """The settings that the advice of checks names."""
        return _SETTING_NAMES

    @property
    def needs_token(self) -> bool:
        """Whether calls carry a token: those with an asymmetric signature do not."""
        return self.transaction_signature == "symmetric"

    def token_request(self, *, clock_offset: float = 0.0) -> TokenRequest:
        """Build and sign a token request, with a timestamp of now.

        ``X-SIGNATURE`` is the RSA-SHA256 signature, by the private key, of the client id, a
        vertical bar and ``X-TIMESTAMP``.
        """
        now = timestamp(clock_offset, self.timestamp_form)
        message = signing.token_message(self.client_id, now)
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "X-TIMESTAMP": now,
            "X-CLIENT-KEY": self.client_id,
            "X-SIGNATURE": self._signature(self.token_signature, message),
        }
        return TokenRequest(
            url=self.token_url, url_setting=_URL_SETTING, headers=headers, body=_LOGIN_BODY
        )

    def _signature(self, kind: str, message: bytes) -> str:
        if kind == "symmetric":
            signature = self._symmetric.signature(message)
        else:
            signature = signing.asymmetric_signature(self._key, message)
        return signing.encoded(signature, self.signature_encoding)

    def read_token_response(self, body: bytes) -> TokenResponse:
        """Read a 2xx response; raise a TokenEndpointError if it has no usable token.

        Its ``tokenType`` is of no account: calls say ``Bearer`` in any case.
        """
        return responses.token_grant(body, form=self.timestamp_form, secrets=self._secrets())

    def read_error_response(
        self, status_code: int, body: bytes, headers: Mapping[str, str] | None = None
    ) -> TokenEndpointError:
        """Read any other response, and return the error that it means.

        A ClockError shows this machine's clock and the bank's: ``X-TIMESTAMP`` or ``Date``.
        """
        return responses.token_error(
            status_code,
            body,
            headers or {},
            form=self.timestamp_form,
            secrets=self._secrets(),
        )

    def _secrets(self) -> tuple[str, ...]:
        given = (self.client_secret, self.private_key_passphrase, self.client_id)
        return tuple(text for text in given if text)

    def sign(
        self,
        token: str,
        method: str,
        url: str,
        body: bytes,
        *,
        canonicalizer: str | None = None,
        clock_offset: float = 0.0,
    ) -> dict[str, str]:
        """Return the headers that authorise one call, with a timestamp and an id of now.

        ``X-SIGNATURE`` is the HMAC-SHA512, by the client secret, of
        ``METHOD:path:token:hash:X-TIMESTAMP``, where hash is that of the body after the
        canonicaliser; or the RSA-SHA256 signature, by the private key, of the same without the
        token. ``Content-Type`` is among the headers where there is a body: with a charset in it
        banks refuse the call. Each result is for one request, since the bank refuses an
        ``X-EXTERNAL-ID`` that it has seen on the same day.

        Raises ConfigurationError without a channel id, and for a canonicaliser that does not exist;
        SignatureError for an external id of the caller's that no bank takes.
        """
        payload = canonical(body, canonicalizer or self.canonicalizer)
        channel_id = _required_channel_id(self.channel_id)
        posix = _clock.wall() + clock_offset
        now = written(posix, self.timestamp_form)
        path = signing.signed_path(url, self.signed_prefix, self.sign_query)
        bearer = token if self.transaction_signature == "symmetric" else None
        message = signing.call_message(method, path, bearer, payload, now)
        headers = {
            "X-TIMESTAMP": now,
            "X-SIGNATURE": self._signature(self.transaction_signature, message),
            "X-PARTNER-ID": self.partner_id or self.client_id,
            "X-EXTERNAL-ID": self._new_external_id(int(posix)),
            "CHANNEL-ID": channel_id,
        }
        if bearer is not None:
            headers["Authorization"] = f"Bearer {bearer}"
        if self.origin is not None:
            headers[self.origin_header] = self.origin
        if body:
            headers["Content-Type"] = "application/json"
        return headers

    def _new_external_id(self, posix: int) -> str:
        if self.external_id is not None:
            return _checked_external_id(self.external_id())
        # Counted from a random number on, so that no two threads make the same one; each
        # process has a number of its own, also after a fork.
        return digits(posix) + str(next(self._numbers.get()))[14 - self.external_id_length :]

    def signed_names(self, canonicalizer: str | None = None) -> tuple[str, ...]:
        """Return the names of the headers that authorise a call, and make no id.

        Raises as :meth:`sign`.

        Args:
            canonicalizer: The name of one, in place of the scheme's own.
        """
        canonical(b"", canonicalizer or self.canonicalizer)
        _required_channel_id(self.channel_id)
        names = ("X-TIMESTAMP", "X-SIGNATURE", "X-PARTNER-ID", "X-EXTERNAL-ID", "CHANNEL-ID")
        return (*names, "Authorization", self.origin_header)

    def explain(self, call: SignedCall) -> Explanation:
        """Explain the signature of a call; sends nothing, and makes no external id.

        Args:
            call: The call, with the timestamp that it has or had.
        """
        signers: dict[str, Callable[[bytes], bytes]] = {}
        if self.client_secret is not None:
            signers["symmetric"] = self._symmetric.signature
        if self._key is not None:
            signers["asymmetric"] = functools.partial(signing.asymmetric_signature, self._key)
        return forms.explain(self, signers, call)

    def is_token_rejected(self, status_code: int, body: bytes) -> bool:
        """Tell a rejected token from any other refusal; never so for a call that carries none."""
        return self.needs_token and self.outcome(status_code, body) == "token_rejected"

    def is_signature_rejected(self, status_code: int, body: bytes) -> bool:
        """Tell a refused signature from any other refusal: the call was not done.

        Args:
            status_code: The HTTP status of the call's response.
            body: Its body.
        """
        return responses.is_signature_refused(status_code, body)

    def is_timestamp_rejected(self, status_code: int, body: bytes) -> bool:
        """Tell a refused timestamp from any other refusal: the call was not done.

        Args:
            status_code: The HTTP status of the call's response.
            body: Its body.
        """
        return self.outcome(status_code, body) == "clock"

    @staticmethod
    def outcome(status_code: int | None, body: bytes = b"") -> SnapOutcome:
        """Return the meaning of the response to a call, and so whether it may be sent again.

        ``success``, and ``already_done`` where an earlier request has done the same; ``pending``
        and ``unknown``: ask for the status first, and never send a transfer again;
        ``duplicate_request``: the bank knows this ``X-EXTERNAL-ID``, ask for the status too;
        ``rate_limited``: later; ``malformed``, ``clock``, ``unauthorized``, ``refused`` and
        ``customer_token_rejected``: not done, and not to be sent again as it is;
        ``token_rejected``: not done; :class:`PermataAuth` has sent it again once.

        Args:
            status_code: The HTTP status; None where there was no response.
            body: As received.
        """
        return responses.outcome(status_code, body)


def _required_channel_id(channel_id: str | None) -> str:
    if channel_id is None:
        raise ConfigurationError("channel_id is needed to sign calls")
    return channel_id


def _checked_external_id(found: object) -> str:
    if not isinstance(found, str) or not _EXTERNAL_ID.fullmatch(found):
        raise SignatureError(
            "external_id must return letters, digits, '.', '_' and '-' as a str, "
            f"1 to {MAX_EXTERNAL_ID_CHARS} of them"
        )
    return found
