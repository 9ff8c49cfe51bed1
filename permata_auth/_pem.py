"""RSA keys out of the texts that settings hold them in, and one sentence for each mistake."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from .exceptions import ConfigurationError

_missing: ImportError | None = None
try:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
    from cryptography.x509 import Certificate, load_der_x509_certificate
except ModuleNotFoundError as _error:
    _missing = _error

MIN_KEY_BITS = 2048

_BLOCK = re.compile(r"-----BEGIN([A-Z0-9 ]+)-----(.*?)-----END\1-----", re.DOTALL)
#: The old way to encrypt PKCS#1 (RFC 1421): the cipher and its start value in two headers.
_OLD_ENCRYPTION = re.compile(
    r"\s*Proc-Type:\s*4,\s*ENCRYPTED\s+DEK-Info:\s*([A-Z0-9-]+),\s*([0-9A-Fa-f]+)\s(.*)", re.DOTALL
)
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_DER_SEQUENCE = b"\x30"


def load_private_key(
    text: str, passphrase: str | None = None, *, name: str = "the key", allow_short: bool = False
) -> RSAPrivateKey:
    r"""Return the one RSA private key in ``text``. Takes about 26 ms, which is its validation.

    Raises ConfigurationError with a sentence of its own for each mistake, which shows nothing of
    the text or the passphrase; ImportError without the extra ``snap``.

    Args:
        text: PEM of PKCS#8 or PKCS#1, encrypted or not, or base64 of such a PEM or of its DER; on
            several lines or one, with line breaks as they are or as ``\n`` in two characters.
        passphrase: For an encrypted key; one that is not encrypted needs none.
        name: The setting that the sentence begins with.
        allow_short: Take a key below 2048 bits, as of a bank's sample.
    """
    _require_extra()
    keys = _read(text, passphrase, name)
    private = [key for key in keys if hasattr(key, "private_bytes")]
    if len(private) > 1:
        raise ConfigurationError(f"{name} holds more than one private key; leave the one to use")
    if not private:
        kind = "a certificate" if isinstance(keys[0], Certificate) else "a public key"
        raise ConfigurationError(f"{name} is {kind}; the private key is needed")
    key: RSAPrivateKey = check_private_key(private[0], name=name, allow_short=allow_short)
    return key


def check_private_key(key: Any, *, name: str = "the key", allow_short: bool = False) -> Any:
    """Return a key that is loaded already; raise as :func:`load_private_key` if it is of no use.

    Args:
        key: An RSAPrivateKey.
        name: The setting that the sentence begins with.
        allow_short: Take a key below 2048 bits, as of a bank's sample.
    """
    _require_extra()
    return _checked(key, RSAPrivateKey, name, allow_short=allow_short)


def load_public_keys(
    text: str, *, name: str = "the key", allow_short: bool = False
) -> list[RSAPublicKey]:
    """Return every RSA public key in ``text``, in its order.

    Raises as :func:`load_private_key`.

    Args:
        text: One or more PEM blocks of SPKI, PKCS#1 or X.509 certificates, written in any of the
            ways of a private key.
        name: The setting that the sentence begins with.
        allow_short: Take keys below 2048 bits, as of a bank's sample.
    """
    _require_extra()
    found = []
    for key in _read(text, None, name):
        if hasattr(key, "private_bytes"):
            raise ConfigurationError(f"{name} is a private key; the public key is needed")
        public = key.public_key() if isinstance(key, Certificate) else key
        found.append(_checked(public, RSAPublicKey, name, allow_short=allow_short))
    return found


def _require_extra() -> None:
    if _missing is not None:
        raise ImportError(
            "RSA keys need cryptography: pip install 'permata-auth[snap]'"
        ) from _missing


def _read(text: str, passphrase: str | None, name: str) -> list[Any]:
    """Return the keys and certificates in a text, at least one."""
    try:
        return [_loaded(label, content, passphrase) for label, content in _blocks(text)]
    except _UnusableKeyError as error:
        problem = str(error)
    # Raised here, without the frames and the causes that hold the key.
    del text, passphrase
    raise ConfigurationError(f"{name} {problem}")


class _UnusableKeyError(Exception):
    """The problem of a text, as the end of a sentence."""


def _blocks(text: str) -> Iterator[tuple[str, str]]:
    """Yield (label, content) of each PEM block; base64 without a label is one, too."""
    if not isinstance(text, str):
        raise _UnusableKeyError("must be text")
    # Quotes, and line breaks that were escaped once or more often, come from files of settings.
    plain = re.sub(r"\\+[nrt]|[\"'\ufeff]", "\n", text).strip()
    if not plain:
        raise _UnusableKeyError("is empty")
    if "-----BEGIN" not in plain:
        der = _decoded(plain)
        if b"-----BEGIN" in der:
            plain = der.decode("latin-1")
        elif der.startswith(_DER_SEQUENCE):
            yield "", plain
            return
        elif re.fullmatch(r"[^\n]*[/\\.~][^\n]*", text.strip()):
            raise _UnusableKeyError("looks like a path; the text of the key is needed")
        else:
            raise _UnusableKeyError("is no key: neither PEM nor base64 of PEM or DER")
    blocks = _BLOCK.findall(plain)
    if len(blocks) != plain.count("-----BEGIN"):
        raise _UnusableKeyError("has a BEGIN line without its END line, or something between both")
    yield from ((label.replace(" ", ""), content) for label, content in blocks)


def _decoded(text: str) -> bytes:
    """Decode base64, strictly but for its whitespace; return no bytes for any other text."""
    packed = re.sub(r"\s+", "", text)
    if len(packed) % 4 or not _BASE64.fullmatch(packed):
        return b""
    return base64.b64decode(packed)


def _loaded(label: str, content: str, passphrase: str | None) -> Any:
    """Return the key or the certificate in one block."""
    if label == "OPENSSHPRIVATEKEY":
        raise _UnusableKeyError("is a key in OpenSSH's own form; convert it to PKCS#8")
    if label.startswith("EC"):
        raise _UnusableKeyError("is an EC key; an RSA key is needed")
    old = _OLD_ENCRYPTION.fullmatch(content)
    if old is not None:
        return _opened(serialization.load_pem_private_key, _old_pem(*old.groups()), passphrase)
    der = _decoded(content)
    with suppress(ValueError, UnsupportedAlgorithm):
        return _opened(serialization.load_der_private_key, der, passphrase)
    with suppress(ValueError, UnsupportedAlgorithm):
        return serialization.load_der_public_key(der)
    with suppress(ValueError, UnsupportedAlgorithm):
        return load_der_x509_certificate(der)
    raise _UnusableKeyError("cannot be read as a key: it is damaged, or of an unknown kind")


def _opened(load: Any, data: bytes, passphrase: str | None) -> Any:
    """Load a private key that is encrypted, or is not."""
    try:
        return load(data, None)
    except TypeError:  # it is encrypted
        if not passphrase:
            raise _UnusableKeyError("is encrypted, and its passphrase is missing") from None
    try:
        return load(data, passphrase.encode())
    except ValueError:
        raise _UnusableKeyError("is encrypted, and the passphrase does not open it") from None
    except UnsupportedAlgorithm:
        raise _UnusableKeyError("is encrypted in a way that is not supported") from None


def _old_pem(cipher: str, start: str, content: str) -> bytes:
    packed = re.sub(r"\s+", "", content)
    lines = "\n".join(packed[at : at + 64] for at in range(0, len(packed), 64))
    return (
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"
        f"DEK-Info: {cipher},{start}\n\n{lines}\n-----END RSA PRIVATE KEY-----\n"
    ).encode()


def _checked(key: Any, kind: type[Any], name: str, *, allow_short: bool) -> Any:
    if not isinstance(key, kind):
        algorithm = "an EC key" if hasattr(key, "curve") else "of another algorithm"
        raise ConfigurationError(f"{name} is {algorithm}; an RSA key is needed")
    if key.key_size < MIN_KEY_BITS and not allow_short:
        raise ConfigurationError(
            f"{name} is too short: {key.key_size} bits, of {MIN_KEY_BITS} at least"
        )
    return key
