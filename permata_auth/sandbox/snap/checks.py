"""The SNAP side's checks of one request; its own code, which it shares with no client."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import attrs
from attrs import validators
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from ..checks import CANONICALIZERS
from .services import VERSION

WIB = timezone(timedelta(hours=7))

_ISO = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}"
_OFFSET = r"[+-](?:[01][0-9]|2[0-3]):[0-5][0-9]"
#: The forms of a timestamp by their names; "any" is any form that the standard allows.
TIMESTAMP_FORMS = {
    "any": rf"{_ISO}(?:\.[0-9]{{1,9}})?(?:Z|{_OFFSET})",
    "seconds": rf"{_ISO}\+07:00",
    "milliseconds": rf"{_ISO}\.[0-9]{{3}}\+07:00",
    "utc": rf"{_ISO}(?:\.[0-9]{{3}})?Z",
}
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2})*")
_KINDS = ("symmetric", "asymmetric")


def _one_of(*names: str) -> Any:
    return validators.in_(names)


@attrs.frozen(kw_only=True)
class SnapRules:
    """The points in which banks differ, by the names of the client's settings; for one direction.

    Args:
        transaction_signature: "symmetric", with a token, or "asymmetric", without one.
        token_signature: "asymmetric" as the standard has it, or "symmetric".
        signature_encoding: "base64" or "hex"; the other one is refused.
        canonicalizer: The part of a body that is hashed: "minify", "strip_all" or "raw".
        sign_query: Whether the query is part of the signed path.
        signed_prefix: None: the path as it is sent; "/": from the version on; "/x": that and from
            the version on.
        timestamp_form: "any", or the only one accepted: "seconds", "milliseconds" or "utc".
        external_id_length: The digits that an X-EXTERNAL-ID has at most.
    """

    transaction_signature: str = attrs.field(default="symmetric", validator=_one_of(*_KINDS))
    token_signature: str = attrs.field(default="asymmetric", validator=_one_of(*_KINDS))
    signature_encoding: str = attrs.field(default="base64", validator=_one_of("base64", "hex"))
    canonicalizer: str = attrs.field(default="minify", validator=_one_of(*CANONICALIZERS))
    sign_query: bool = attrs.field(default=True, validator=validators.instance_of(bool))
    signed_prefix: str | None = attrs.field(
        default=None, validator=validators.optional(validators.matches_re("/.*"))
    )
    timestamp_form: str = attrs.field(default="any", validator=_one_of(*TIMESTAMP_FORMS))
    external_id_length: int = attrs.field(
        default=36, validator=[validators.instance_of(int), validators.ge(1), validators.le(36)]
    )

    def signed_path(self, target: str) -> str:
        """Return the part of a request target that is signed.

        Args:
            target: The path with its query, as sent.
        """
        path, mark, query = target.partition("?")
        if self.signed_prefix is not None:
            _, version, rest = path.partition(VERSION + "/")
            path = self.signed_prefix.rstrip("/") + version + rest
        return path + mark + query if self.sign_query else path

    def body_hash(self, body: bytes) -> str:
        """Return the hash of a body as it goes into the string to sign.

        Args:
            body: As sent.
        """
        return hashlib.sha256(CANONICALIZERS[self.canonicalizer](body)).hexdigest()

    def read_signature(self, text: str) -> bytes:
        """Return the bytes that a signature's text stands for; none for another encoding.

        Args:
            text: The header's value.
        """
        if self.signature_encoding == "hex":
            return bytes.fromhex(text) if _HEX.fullmatch(text) else b""
        return base64.b64decode(text) if _BASE64.fullmatch(text) else b""

    def write_signature(self, value: bytes) -> str:
        """Return the text of a signature.

        Args:
            value: Its bytes.
        """
        if self.signature_encoding == "hex":
            return value.hex()
        return base64.b64encode(value).decode()


def string_to_sign(parts: Sequence[str]) -> bytes:
    """Join the parts of a call's signature: method, path, token unless asymmetric, hash, time."""
    return ":".join(parts).encode("latin-1", "replace")


def hmac_sha512(secret: str, message: bytes) -> bytes:
    """Return the symmetric signature of a message.

    Args:
        secret: The client secret.
        message: The string to sign.
    """
    return hmac.digest(secret.encode(), message, "sha512")


def is_signed(
    kind: str, signature: bytes, message: bytes, *, secret: str, key: rsa.RSAPublicKey
) -> bool:
    """Tell whether a signature is that of the message.

    Args:
        kind: "symmetric" or "asymmetric".
        signature: Its bytes.
        message: The string to sign.
        secret: For the former.
        key: For the latter.
    """
    if kind == "symmetric":
        return hmac.compare_digest(signature, hmac_sha512(secret, message))
    try:
        key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True


def read_timestamp(text: str, form: str) -> datetime | None:
    """Return the moment that a timestamp of this form names, or None.

    Args:
        text: The header's value.
        form: One of :data:`TIMESTAMP_FORMS`.
    """
    if not re.fullmatch(TIMESTAMP_FORMS[form], text):
        return None
    numbers = [int(number) for number in re.findall("[0-9]+", text[:19])]
    fraction = re.search(r"\.([0-9]+)", text)
    micros = int(fraction[1][:6].ljust(6, "0")) if fraction else 0
    try:
        return datetime(*numbers, micros, tzinfo=_zone(text))  # type: ignore[arg-type, misc]
    except ValueError:  # the 30th of February, the 24th hour
        return None


def _zone(text: str) -> timezone:
    if text.endswith("Z"):
        return timezone.utc
    offset = timedelta(hours=int(text[-5:-3]), minutes=int(text[-2:]))
    return timezone(-offset if text[-6] == "-" else offset)
