"""Certificates, keys and CA bundles in PEM files: loaded into a TLS context, or refused."""

from __future__ import annotations

import base64
import binascii
import re
import ssl
import stat
from datetime import datetime, timezone
from pathlib import Path

from .. import _clock


class UnusableFileError(Exception):
    """A file is no use; never leaves this package.

    Args:
        name: The argument that names the file.
        problem: The end of a sentence that begins with that name.
    """

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(problem)
        self.name = name
        self.problem = problem


def load_pair(
    context: ssl.SSLContext,
    certificate: str,
    key: str | None,
    password: str | None,
    *,
    password_name: str,
) -> float | None:
    """Have ``context`` show a client certificate; return when it expires, in POSIX seconds.

    None where the file does not say. Raises UnusableFileError, also for a certificate that has
    expired, or is not valid yet.

    Args:
        context: Of a client.
        certificate: The file of the certificate and its chain.
        key: The file of the key; None: it is in the other one.
        password: Opens an encrypted key. None: such a key is unusable.
        password_name: The name of the password's setting, for the error.
    """
    name, was_asked = "client_cert" if key is None else "client_key", False

    def give_password() -> str:  # without this function, OpenSSL would ask the terminal
        nonlocal was_asked
        was_asked = True
        if password is None:
            raise UnusableFileError(name, f"has an encrypted key; set {password_name}")
        return password

    begins_at, expires_at = validity(_first_certificate(certificate))
    _require_readable(name, key or certificate)
    try:
        context.load_cert_chain(certificate, key, give_password)
    except ssl.SSLError as error:
        reason = _reason(error)
        problem = f"has no private key in PEM ({reason})"
        if "MISMATCH" in reason:
            problem = "has a key that does not belong to the client certificate"
        elif was_asked:
            problem = f"has a key that {password_name} does not open ({reason})"
        raise UnusableFileError(name, problem) from None
    except OSError as error:  # it has gone a moment ago
        raise UnusableFileError(name, _unreadable(error)) from None
    _require_time("client_cert", begins_at, expires_at)
    return expires_at


def load_bundle(context: ssl.SSLContext, bundle: str) -> None:
    """Have ``context`` trust the authorities of a bundle. Raises UnusableFileError.

    Args:
        context: Of a client.
        bundle: A PEM file, or a folder as OpenSSL hashes it.
    """
    if Path(bundle).is_dir():
        context.load_verify_locations(capath=bundle)
        return
    _require_readable("ca_bundle", bundle)
    try:
        context.load_verify_locations(cafile=bundle)
    except ssl.SSLError as error:
        raise UnusableFileError(
            "ca_bundle", f"has no certificates in PEM, or a broken one ({_reason(error)})"
        ) from None
    except OSError as error:
        raise UnusableFileError("ca_bundle", _unreadable(error)) from None


_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----([^-]*)-----END CERTIFICATE-----")
#: RFC 5280 section 4.1.2.5: a sequence of two times, each a UTCTime or a GeneralizedTime.
_TIME = rb"(?:\x17\x0d(\d{12})Z|\x18\x0f(\d{14})Z)"
_VALIDITY = re.compile(rb"\x30[\x1e\x20\x22]" + _TIME + _TIME)


def validity(certificate: bytes) -> tuple[float | None, float | None]:
    """Return from when to when a certificate is valid, in POSIX seconds; None where it is unsaid.

    Args:
        certificate: As DER.
    """
    found = _VALIDITY.search(certificate)
    if found is None:
        return None, None
    short_begin, begin, short_end, end = found.groups()
    return _posix(short_begin, begin), _posix(short_end, end)


def date(posix: float) -> str:
    """Return a certificate's time for people.

    Args:
        posix: POSIX seconds.
    """
    return f"{_clock.to_datetime(posix):%Y-%m-%d %H:%M} UTC"


def _posix(short: bytes | None, full: bytes | None) -> float | None:
    text = (full or short or b"").decode()
    if full is None:  # a year of two digits, RFC 5280 section 4.1.2.5.1
        text = ("19" if text >= "50" else "20") + text
    try:
        when = datetime.strptime(f"{text}+0000", "%Y%m%d%H%M%S%z")
    except ValueError:
        return None
    return when.astimezone(timezone.utc).timestamp()


def _require_time(name: str, begins_at: float | None, expires_at: float | None) -> None:
    now = _clock.wall()
    if expires_at is not None and expires_at <= now:
        raise UnusableFileError(name, f"has expired ({date(expires_at)}); renew it")
    if begins_at is not None and begins_at > now:
        raise UnusableFileError(
            name, f"is not valid before {date(begins_at)}; check this machine's clock"
        )


def _first_certificate(path: str) -> bytes:
    _require_readable("client_cert", path)
    found = _CERTIFICATE.search(Path(path).read_text("ascii", "replace"))
    text = found[1] if found else ""
    del found  # it has the whole file, in which the key may be
    try:
        certificate = base64.b64decode(text)
    except binascii.Error:
        certificate = b""
    if not certificate:
        raise UnusableFileError("client_cert", "has no whole certificate in PEM")
    return certificate


def _require_readable(name: str, path: str) -> None:
    file = Path(path)
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # to open a FIFO would block
            raise UnusableFileError(name, "is no file")
        file.open("rb").close()
    except OSError as error:
        raise UnusableFileError(name, _unreadable(error)) from None


def _unreadable(error: OSError) -> str:
    return f"cannot be read ({error.strerror})"


def _reason(error: ssl.SSLError) -> str:
    return error.reason or type(error).__name__
