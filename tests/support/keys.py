"""RSA keys for tests, in every form that settings hold them in. Never use one elsewhere."""

from __future__ import annotations

import base64
import functools
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

SNAP: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors/snap.json").read_text())

PASSPHRASE = "example passphrase"
DER = base64.b64decode(SNAP["private_key"])
KEY: rsa.RSAPrivateKey = serialization.load_der_private_key(DER, None)

#: What `sign` and `verify` of a key take after the message.
RSA_SHA256 = (padding.PKCS1v15(), hashes.SHA256())

_Encoding = serialization.Encoding
_PKCS8 = serialization.PrivateFormat.PKCS8
PKCS1_FORMAT = serialization.PrivateFormat.TraditionalOpenSSL
_OPENSSH = serialization.PrivateFormat.OpenSSH
_PLAIN = serialization.NoEncryption()
ENCRYPTION = serialization.BestAvailableEncryption(PASSPHRASE.encode())


def private_pem(key: Any = KEY, form: Any = _PKCS8, encryption: Any = _PLAIN) -> str:
    return key.private_bytes(_Encoding.PEM, form, encryption).decode()


def public_pem(key: Any = KEY, form: Any = serialization.PublicFormat.SubjectPublicKeyInfo) -> str:
    return key.public_key().public_bytes(_Encoding.PEM, form).decode()


def certificate(key: Any = KEY) -> str:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "example.invalid")])
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2025, 1, 1, tzinfo=timezone.utc))
        .not_valid_after(datetime(2026, 1, 1, tzinfo=timezone.utc))
        .sign(key, hashes.SHA256())
    )
    return built.public_bytes(_Encoding.PEM).decode()


PEM = private_pem()
PKCS1 = private_pem(form=PKCS1_FORMAT)
ENCRYPTED = private_pem(encryption=ENCRYPTION)
OLD_ENCRYPTED = private_pem(form=PKCS1_FORMAT, encryption=ENCRYPTION)
OPENSSH = private_pem(form=_OPENSSH)
PUBLIC = public_pem()
PUBLIC_PKCS1 = public_pem(form=serialization.PublicFormat.PKCS1)


@functools.cache
def another() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@functools.cache
def short() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 1024)  # noqa: S505 - it is to be refused


@functools.cache
def elliptic() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _flat(pem: str) -> str:
    """Return the base64 of a PEM, on one line."""
    return "".join(line for line in pem.split("\n") if "-----" not in line)


#: Name -> how a text is written, other than as it should be.
SPELLINGS = {
    "as it is": lambda pem: pem,
    "no last line break": lambda pem: pem.rstrip(),
    "crlf": lambda pem: pem.replace("\n", "\r\n"),
    "cr": lambda pem: pem.replace("\n", "\r"),
    "bom": lambda pem: f"\ufeff{pem}",
    "indented": lambda pem: "".join(f"    \t{line}\n" for line in pem.split("\n")),
    "quoted": lambda pem: f'"{pem}"',
    "quoted singly": lambda pem: f"'{pem}'",
    "quoted, escaped": json.dumps,
    "one line": lambda pem: pem.replace("\n", " "),
    "one line without a space": lambda pem: pem.replace("\n", ""),
    "escaped": lambda pem: pem.replace("\n", r"\n"),
    "escaped twice": lambda pem: pem.replace("\n", r"\\n"),
    "escaped crlf": lambda pem: pem.replace("\n", r"\r\n"),
    "base64 of the pem": lambda pem: base64.b64encode(pem.encode()).decode(),
    "base64 of the pem, in lines": lambda pem: base64.encodebytes(pem.encode()).decode(),
    "with words around": lambda pem: f"Bag Attributes\n    friendlyName: x\n{pem}\nthe end\n",
}
#: Those that an old encrypted PEM loses its two headers in.
BARE = {
    "base64 of the der": _flat,
    "base64 of the der, in lines": lambda pem: pem.split("-----")[2].strip(),
    "base64 of the der, quoted": lambda pem: f'"{_flat(pem)}"',
}
