"""SNAP's settings, their rules, and the private key out of them."""

from __future__ import annotations

import itertools
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import attrs

from .._process import PerProcess
from .._settings import (
    Secret,
    choice_problem,
    flag_or_none,
    flag_problem,
    header_problem,
    text_problem,
    url_problem,
)
from ..exceptions import ConfigurationError
from ._snap_rules import CHOICES, SIGNATURES, prefix_problem
from ._snap_signing import SymmetricSigner

_S = TypeVar("_S", bound="SnapSettings")

MAX_EXTERNAL_ID_CHARS = 36
#: Fewer random digits than ten, beside the 14 of the time, collide within a busy day.
MIN_EXTERNAL_ID_DIGITS = 24
_MAX_KEY_FILE_BYTES = 64 * 1024

_CHOICES = {
    "timestamp_form": ("seconds", "milliseconds", "utc"),
    "transaction_signature": SIGNATURES,
    "token_signature": SIGNATURES[::-1],  # the default first
    **CHOICES,
}
_FLAGS = ("sign_query", "allow_insecure_http", "allow_short_key")


class RsaKey(Protocol):
    """A private key that cryptography has loaded, or an object with the same methods."""

    @property
    def key_size(self) -> int: ...

    def private_numbers(self) -> Any: ...

    def sign(self, data: bytes, padding: Any, algorithm: Any, /) -> bytes: ...


def from_texts(texts: Mapping[str, str], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that variables hold; a text that cannot be read stays as it is.

    Args:
        texts: By the names of the fields; blank is unset.
        defaults: The values of fields that are unset, by their names.
    """
    values: dict[str, Any] = {}
    for name, default in defaults.items():
        text = texts[name].strip()
        if not text:
            values[name] = None if default is attrs.NOTHING else default
        elif name in _FLAGS:
            values[name] = flag_or_none(text)
        elif name == "external_id_length" and re.fullmatch("[0-9]{1,3}", text):
            values[name] = int(text)
        else:
            # Spaces around a passphrase may be a part of it.
            values[name] = texts[name] if name == "private_key_passphrase" else text
    return values


def examine(
    values: Mapping[str, Any], named: Callable[[str], str] = str
) -> tuple[RsaKey | None, Exception | None]:
    """Return the private key, and one error that names all that is wrong and shows no value.

    The error is returned, so that it can be raised where no secret is at hand: error reports show
    the locals of a traceback's frames.

    Args:
        values: Of all fields, by their names.
        named: How the error names a field.
    """
    problems = _problems(values)
    key = None
    try:
        key = _private_key(values)
    except _ProblemsError as error:
        problems.update(error.problems)
    except ImportError as error:
        return None, error.with_traceback(None)
    if not problems:
        return key, None
    sentences = (f"{named(name)} {problems[name]}" for name in values if name in problems)
    return None, ConfigurationError("; ".join(sentences))


def key_text(key: RsaKey | None) -> str:
    """Return a text that is the same for one key, in whatever form it was written.

    Args:
        key: The private key; None for none, whose text is empty.
    """
    if key is None:
        return ""
    numbers = key.private_numbers()
    return f"{numbers.public_numbers.n:x} {numbers.d:x}"


def _problems(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the problem of each wrong field, by its name, apart from the private key."""
    url, is_open = values["token_url"], values["allow_insecure_http"] is True
    found = {
        "token_url": url_problem(url, allow_insecure_http=is_open) if url else "is missing",
        "client_id": text_problem(values["client_id"]),
        "origin_header": header_problem(values["origin_header"]),
        "signed_prefix": prefix_problem(values["signed_prefix"]),
        "external_id": _external_id_problem(values["external_id"]),
        "external_id_length": _length_problem(values),
    }
    for name in ("partner_id", "channel_id", "origin"):
        found[name] = None if values[name] is None else text_problem(values[name])
    if values["client_secret"] is not None or _has("symmetric", values):
        found["client_secret"] = text_problem(values["client_secret"])
    for name, choices in _CHOICES.items():
        found[name] = choice_problem(values[name], choices)
    for name in _FLAGS:
        found[name] = flag_problem(values[name])
    return {name: problem for name, problem in found.items() if problem is not None}


def _has(kind: str, values: Mapping[str, Any]) -> bool:
    return kind in (values["transaction_signature"], values["token_signature"])


def _external_id_problem(make: object) -> str | None:
    return None if make is None or callable(make) else "must be a function that returns an id"


def _length_problem(values: Mapping[str, Any]) -> str | None:
    length = values["external_id_length"]
    least = MIN_EXTERNAL_ID_DIGITS if values["external_id"] is None else 1
    is_whole = isinstance(length, int) and not isinstance(length, bool)
    if is_whole and least <= length <= MAX_EXTERNAL_ID_CHARS:
        return None
    return (
        f"must be a whole number from {MIN_EXTERNAL_ID_DIGITS} to {MAX_EXTERNAL_ID_CHARS}; "
        "shorter ids need a function that makes them, external_id"
    )


# The private key.


class _ProblemsError(Exception):
    """The problem of each wrong field, by its name."""

    def __init__(self, **problems: str) -> None:
        super().__init__()
        self.problems = problems


def _private_key(values: Mapping[str, Any]) -> RsaKey | None:
    given, file, passphrase = (
        values[name] for name in ("private_key", "private_key_file", "private_key_passphrase")
    )
    if not given and not file:
        if _has("asymmetric", values):
            raise _ProblemsError(private_key="is missing, and so is a file of it")
        return None
    if given and file:
        raise _ProblemsError(
            private_key="and a file of it are both given; leave one of the two",
            private_key_file="and the key itself are both given; leave one of the two",
        )
    if not isinstance(passphrase, str | None):
        raise _ProblemsError(private_key_passphrase="must be text")
    name = "private_key" if given else "private_key_file"
    allows_short = values["allow_short_key"] is True
    # Needs an extra.
    from .._pem import check_private_key, load_private_key  # noqa: PLC0415

    try:
        if given and hasattr(given, "private_numbers"):
            key: RsaKey = check_private_key(given, name=name, allow_short=allows_short)
            return key
        text = given or _text_of(file)
        return load_private_key(text, passphrase, name=name, allow_short=allows_short)
    except ConfigurationError as error:
        raise _ProblemsError(**{name: str(error).removeprefix(f"{name} ")}) from None


def _text_of(file: str | os.PathLike[str]) -> str:
    try:
        path = Path(file)
        if not path.is_file():  # a FIFO would block
            raise _ProblemsError(private_key_file="names no file")
        if path.stat().st_size > _MAX_KEY_FILE_BYTES:
            raise _ProblemsError(private_key_file="names a file of more than 64 KiB")
        return path.read_bytes().decode("utf-8-sig")
    except (OSError, TypeError, ValueError) as error:
        reason = "holds no text" if isinstance(error, UnicodeError) else "cannot be read"
        raise _ProblemsError(private_key_file=f"names a file that {reason}") from None


# The settings themselves.


@attrs.frozen(kw_only=True)
class SnapSettings(Secret):
    """The fields of :class:`SnapCredentials`, examined together, with all that is made of them."""

    _why_unpicklable = "it holds secrets; build it from the environment in each process"

    token_url: str = attrs.field(repr=lambda url: repr(url.partition("?")[0]))
    client_id: str = attrs.field(repr=False)
    client_secret: str | None = attrs.field(default=None, repr=False)
    private_key: str | RsaKey | None = attrs.field(default=None, repr=False, eq=False)
    private_key_file: str | os.PathLike[str] | None = attrs.field(default=None, eq=False)
    private_key_passphrase: str | None = attrs.field(default=None, repr=False, eq=False)
    partner_id: str | None = attrs.field(default=None, repr=False)
    channel_id: str | None = None
    origin: str | None = None
    origin_header: str = "ORIGIN"
    timestamp_form: str = "seconds"
    transaction_signature: str = "symmetric"
    token_signature: str = "asymmetric"
    signature_encoding: str = "base64"
    canonicalizer: str = "minify"
    sign_query: bool = True
    signed_prefix: str | None = None
    external_id_length: int = 32
    external_id: Callable[[], str] | None = None
    allow_insecure_http: bool = False
    allow_short_key: bool = False
    _numbers: PerProcess[Iterator[int]] = attrs.field(
        init=False, repr=False, eq=False, factory=lambda: PerProcess(_random_start)
    )
    _symmetric: SymmetricSigner = attrs.field(init=False, repr=False, eq=False)
    _key: Any = attrs.field(init=False, repr=False, eq=False)
    #: The same for one key, in whatever form it is written: compared, and a source of other keys.
    _key_text: str = attrs.field(init=False, repr=False, metadata={"of": "private_key"})

    def __attrs_post_init__(self) -> None:
        key, error = examine({field.name: getattr(self, field.name) for field in _FIELDS})
        if error is not None:
            raise error
        symmetric = SymmetricSigner((self.client_secret or "").encode())
        object.__setattr__(self, "_symmetric", symmetric)
        object.__setattr__(self, "_key", key)
        object.__setattr__(self, "_key_text", key_text(key))

    @classmethod
    def from_env(
        cls: type[_S],
        environ: Mapping[str, str] | None = None,
        *,
        prefix: str = "PERMATA_SNAP_",
        external_id: Callable[[], str] | None = None,
    ) -> _S:
        """Read ``PERMATA_SNAP_TOKEN_URL``, ``PERMATA_SNAP_CLIENT_ID`` and so on, one an argument.

        Blank is unset. Raises one ConfigurationError that names every variable that is missing or
        malformed.

        Args:
            environ: Where the variables are; by default this process's environment.
            prefix: Of their names.
            external_id: As of the class: no variable holds a function.
        """
        environ = os.environ if environ is None else environ
        texts = {field.name: environ.get(prefix + field.name.upper(), "") for field in _FIELDS}
        defaults = {field.name: field.default for field in _FIELDS}
        values = {**from_texts(texts, defaults), "external_id": external_id}
        key, error = examine(values, lambda name: prefix + name.upper())
        if error is not None:
            del environ, texts, values  # error reports show the locals of a traceback's frames
            raise error
        # Read once: neither the text nor the file is looked at again.
        values.update(private_key=key, private_key_file=None, private_key_passphrase=None)
        return cls(**values)


def _random_start() -> Iterator[int]:
    return itertools.count(10**23 + secrets.randbelow(10**23))  # more digits than any id takes


_FIELDS = tuple(each for each in attrs.fields(SnapSettings) if each.init)
