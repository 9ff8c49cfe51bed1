"""Certificates for servers on loopback, made for one test run."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """A certificate authority of its own; ``bundle`` is the file that clients trust it by."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("example test authority")
        self._serial = 0
        self._certificate = self._sign(self._builder(self._name, self._key), is_ca=True)
        self.bundle = folder / "authority.pem"
        self.bundle.write_bytes(_pem(self._certificate))

    def context(
        self,
        *,
        address: str = "127.0.0.1",
        days: int = 1,
        is_self_signed: bool = False,
        clients: Authority | None = None,
    ) -> ssl.SSLContext:
        """Return a server's context with a certificate for ``address`` that ends in ``days``.

        With ``clients`` it demands a certificate that this authority has signed.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(_name(address), key, days=days).add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]),
            critical=False,
        )
        if is_self_signed:
            builder = builder.issuer_name(_name(address))
            certificate = builder.sign(key, hashes.SHA256())
        else:
            certificate = self._sign(builder)
        file = self._folder / f"server-{self._serial}.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        file.write_bytes(_pem(certificate) + private)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        if clients is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(clients.bundle)
        return context

    def client(
        self, name: str, *, days: float = 1, begins: float = -30, password: str | None = None
    ) -> tuple[bytes, bytes]:
        """Return a client's certificate and key in PEM, valid between two days from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = x509.CertificateBuilder(
            subject_name=_name(name),
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now + datetime.timedelta(days=begins),
            not_valid_after=now + datetime.timedelta(days=days),
        )
        locked = serialization.NoEncryption()
        if password is not None:
            locked = serialization.BestAvailableEncryption(password.encode())
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked
        )
        return _pem(self._sign(builder)), private

    def _builder(self, name, key, *, days: int = 1) -> x509.CertificateBuilder:
        self._serial += 1
        now = datetime.datetime.now(datetime.timezone.utc)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .public_key(key.public_key())
            .serial_number(self._serial)
            .not_valid_before(now - datetime.timedelta(days=30))
            .not_valid_after(now + datetime.timedelta(days=days))
        )

    def _sign(self, builder: x509.CertificateBuilder, *, is_ca: bool = False) -> x509.Certificate:
        own = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.issuer_name(self._name).add_extension(
            x509.BasicConstraints(ca=is_ca, path_length=None), critical=True
        )
        if is_ca:
            # Python 3.13 and later verify strictly by RFC 5280, which asks for both of these.
            usage = dict.fromkeys(
                [
                    "digital_signature",
                    "content_commitment",
                    "key_encipherment",
                    "data_encipherment",
                    "key_agreement",
                    "encipher_only",
                    "decipher_only",
                ],
                False,
            )
            builder = builder.add_extension(
                x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), critical=True
            ).add_extension(
                x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False
            )
        else:
            builder = builder.add_extension(own, critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
