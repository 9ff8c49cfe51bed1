"""The settings of a receiver: read from variables, and examined together."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from .._settings import (
    choice_problem,
    finite_seconds,
    flag_or_none,
    flag_problem,
    seconds,
    text_problem,
)
from .._sources import sources
from ..exceptions import ConfigurationError
from ..schemes._snap_rules import CHOICES, SIGNATURES, prefix_problem
from ..schemes._snap_signing import SymmetricSigner
from .external_ids import ExternalIds, MemoryExternalIds, RedisExternalIds
from .issuer import derived_key
from .sources import Prepared, Source, Watched, public_keys, secrets

MIN_SKEW_SECS, MAX_SKEW_SECS = 60.0, 3600.0
MAX_TOKEN_TTL_SECS = 86_400.0
MAX_TIME_LIMIT_SECS = 60.0
MIN_TOKEN_KEY_BYTES = 16

_CHOICES = {"signature": SIGNATURES, "duplicates": ("conflict", "replay"), **CHOICES}
#: Field -> variable, after the prefix.
_VARIABLES = {
    "client_key": "INBOUND_CLIENT_KEY",
    "bank_public_keys": "BANK_PUBLIC_KEY",
    "client_secrets": "INBOUND_CLIENT_SECRET",
    "previous_secret": "INBOUND_CLIENT_SECRET_PREVIOUS",
    "external_ids": "INBOUND_EXTERNAL_IDS",
    "token_key": "INBOUND_TOKEN_KEY",
    "max_skew_secs": "INBOUND_MAX_SKEW",
    "time_limit_secs": "INBOUND_TIME_LIMIT",
    "token_ttl_secs": "INBOUND_TOKEN_TTL",
    "signed_prefix": "INBOUND_SIGNED_PREFIX",
    "partner_id": "INBOUND_PARTNER_ID",
    "channel_id": "INBOUND_CHANNEL_ID",
    "duplicates": "INBOUND_DUPLICATES",
    "signature": "INBOUND_SIGNATURE",
    "signature_encoding": "SIGNATURE_ENCODING",
    "canonicalizer": "CANONICALIZER",
    "allow_short_key": "ALLOW_SHORT_KEY",
}
#: Fields that are read again when a file of theirs changes, with those that hold their values.
_SECRETS = {
    "bank_public_keys": ("bank_public_keys",),
    "client_secrets": ("client_secrets", "previous_secret"),
    "token_key": ("token_key",),
}
#: Before the names of all settings, those of other directions too.
_HOUSE = "PERMATA_"
_DURATIONS = ("max_skew_secs", "time_limit_secs", "token_ttl_secs")


#: Of the arguments of a receiver.
DEFAULTS: dict[str, Any] = {
    "client_key": None,
    "bank_public_keys": None,
    "client_secrets": None,
    "external_ids": None,
    "token_key": None,
    "max_skew_secs": 300.0,
    "time_limit_secs": 8.0,
    "token_ttl_secs": 900.0,
    "signed_prefix": None,
    "partner_id": None,
    "channel_id": None,
    "duplicates": "conflict",
    "signature": "symmetric",
    "signature_encoding": "base64",
    "canonicalizer": "minify",
    "allow_short_key": False,
}


@attrs.frozen(kw_only=True)
class Rules:
    """The settings of a receiver, examined; keys and secrets are asked for with every request.

    Args:
        client_key: As of :class:`SnapReceiver`, and so all others.
        bank_public_keys: The keys of the bank, at least one.
        client_secrets: The secrets, the current one first; empty for asymmetric signatures alone.
        token_key: The keys of tokens; empty where they derive from the client secrets.
        external_ids: The store of seen requests.
        max_skew_secs: The seconds that X-TIMESTAMP may be off.
        time_limit_secs: The seconds that a function may take.
        token_ttl_secs: The seconds that a token lives, whole.
        signed_prefix: The text before the version segment, as the bank signs it, or None.
        partner_id: The one that is expected, or None for any.
        channel_id: The one that is expected, or None for any.
        duplicates: ``conflict`` or ``replay``.
        signature: ``symmetric`` or ``asymmetric``.
        signature_encoding: ``base64`` or ``hex``.
        canonicalizer: ``minify``, ``strip_all`` or ``raw``.
    """

    client_key: str = attrs.field(repr=False)
    bank_public_keys: Source[Any] = attrs.field(repr=False)
    client_secrets: Source[bytes] = attrs.field(repr=False)
    token_key: Source[bytes] = attrs.field(repr=False)
    external_ids: ExternalIds
    max_skew_secs: float
    time_limit_secs: float
    token_ttl_secs: int
    signed_prefix: str | None
    partner_id: str | None = attrs.field(repr=False)
    channel_id: str | None
    duplicates: str
    signature: str
    signature_encoding: str
    canonicalizer: str
    _signers: Prepared[SymmetricSigner] = attrs.field(init=False, repr=False)
    _token_keys: Prepared[SymmetricSigner] = attrs.field(init=False, repr=False)

    @_signers.default
    def _new_signers(self) -> Prepared[SymmetricSigner]:
        return Prepared(SymmetricSigner)

    @_token_keys.default
    def _new_token_keys(self) -> Prepared[SymmetricSigner]:
        return Prepared(lambda secret: derived_key(secret, self.client_key))

    def summary(self) -> dict[str, str]:
        """Describe these rules; shows neither a secret nor a key."""
        ids = repr(self.external_ids)
        if isinstance(self.external_ids, MemoryExternalIds):
            ids = "in this process's memory: several workers take a replayed request once each"
        return {
            "client key": self.client_key,
            "keys of the bank": str(len(self.bank_public_keys.get())),
            "client secrets": str(len(self.client_secrets.get())),
            "signature": f"{self.signature}, {self.signature_encoding}, {self.canonicalizer}",
            "signed prefix": self.signed_prefix or "none, the path as it is received",
            "partner and channel": f"{self.partner_id or 'any'}, {self.channel_id or 'any'}",
            "window": f"{self.max_skew_secs:g} s",
            "tokens live": f"{self.token_ttl_secs} s",
            "time limit": f"{self.time_limit_secs:g} s",
            "repeated ids": self.duplicates,
            "external ids": ids,
        }

    def signers(self) -> tuple[SymmetricSigner, ...]:
        """Return the signers that the bank may have signed a call with."""
        return self._signers.of(self.client_secrets.get())

    def token_keys(self) -> tuple[SymmetricSigner, ...]:
        """Return the keys of tokens: the one to issue with, and then those to verify with."""
        return self._token_keys.of(self.token_key.get() or self.client_secrets.get())


def from_texts(environ: Mapping[str, str], prefix: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the arguments that variables hold, and the problem of each wrong one, by field.

    Args:
        environ: The variables; blank is unset. Files may hold values in their place.
        prefix: Of their names.
    """
    found = sources(environ, _HOUSE if prefix.startswith(_HOUSE) else prefix)
    names = {field: prefix + name for field, name in _VARIABLES.items()}
    texts = {field: found.get(name, "").strip() for field, name in names.items()}
    values: dict[str, Any] = {field: text for field, text in texts.items() if text}
    problems = {
        field: f"cannot be read: {found.problems[name]}"
        for field, name in names.items()
        if name in found.problems
    }
    if values.pop("previous_secret", None) and "client_secrets" not in values:
        problems.setdefault("client_secrets", "is missing, and the one before it is set")
    if "previous_secret" in problems:
        problems.setdefault("client_secrets", problems.pop("previous_secret"))
    for field, parts in _SECRETS.items():
        if field in values:
            watched = Watched(found, [names[part] for part in parts])
            is_fixed = not any(names[part] in found.files for part in parts)
            values[field] = [texts[part] for part in parts if texts[part]] if is_fixed else watched
    for field in _DURATIONS:
        if field in values:
            values[field] = _number(values[field])
    if "allow_short_key" in values:
        values["allow_short_key"] = flag_or_none(values["allow_short_key"])
    if "external_ids" in values:
        _open_external_ids(values, problems)
    return values, problems


def read(
    environ: Mapping[str, str], prefix: str, external_ids: ExternalIds | None = None
) -> tuple[dict[str, Any], Rules | None, Exception | None]:
    """Return the arguments that variables hold, and what :func:`examine` returns for them.

    Args:
        environ: The variables; blank is unset. Files may hold values in their place.
        prefix: Of their names.
        external_ids: In place of the variable.
    """
    texts, problems = from_texts(environ, prefix)
    if external_ids is not None:
        texts["external_ids"] = external_ids
        problems.pop("external_ids", None)
    values = {**DEFAULTS, **texts}
    return values, *examine(values, problems, named(prefix))


def named(prefix: str) -> Callable[[str], str]:
    """Return a function that names the variable of a field.

    Args:
        prefix: The beginning of the names of all variables.
    """

    def name(field: str) -> str:
        return prefix + _VARIABLES[field]

    return name


def examine(
    values: Mapping[str, Any],
    problems: Mapping[str, str],
    named: Callable[[str], str] = str,
) -> tuple[Rules | None, Exception | None]:
    """Return the rules, or one error that names all that is wrong and shows no value.

    The error is returned, so that it can be raised where no secret is at hand: error reports show
    the locals of a traceback's frames. It is an ImportError without the extra ``snap``.

    Args:
        values: Of all arguments, by their names.
        problems: Those that are known already, by field.
        named: How the error names a field.
    """
    found = {**_problems(values), **problems}
    read: dict[str, Any] = {}
    for field, make in _sources(values).items():
        if field not in found:
            try:
                read[field] = make()
            except ConfigurationError as error:
                found[field] = str(error).removeprefix(f"{field} ")
            except ImportError as error:
                return None, error.with_traceback(None)
            except Exception as error:  # of a function that was given
                found[field] = f"cannot be had: {type(error).__name__}"
    has_none = "client_secrets" in read and not read["client_secrets"].get()
    if has_none and values["signature"] != "asymmetric":
        found["client_secrets"] = "is missing"
    if found:
        sentences = (f"{named(field)} {found[field]}" for field in values if field in found)
        return None, ConfigurationError("; ".join(sentences))
    ids = values["external_ids"]
    others = {field.name: values[field.name] for field in attrs.fields(Rules) if field.init}
    others |= {field: seconds(values[field]) for field in _DURATIONS}
    others |= {**read, "external_ids": MemoryExternalIds() if ids is None else ids}
    return Rules(**{**others, "token_ttl_secs": int(others["token_ttl_secs"])}), None


def _sources(values: Mapping[str, Any]) -> dict[str, Callable[[], Source[Any]]]:
    def keys(given: Any) -> tuple[Any, ...]:
        is_open = values["allow_short_key"] is True
        return public_keys(given, name="bank_public_keys", allow_short=is_open)

    def client_secrets(given: Any) -> tuple[bytes, ...]:
        return secrets(given, name="client_secrets")

    def token_keys(given: Any) -> tuple[bytes, ...]:
        found = secrets(given, name="token_key")
        if any(len(each) < MIN_TOKEN_KEY_BYTES for each in found):
            raise ConfigurationError(f"token_key must have at least {MIN_TOKEN_KEY_BYTES} bytes")
        return found

    return {
        "bank_public_keys": lambda: Source("bank_public_keys", values["bank_public_keys"], keys),
        "client_secrets": lambda: Source(
            "client_secrets", values["client_secrets"], client_secrets
        ),
        "token_key": lambda: Source("token_key", values["token_key"], token_keys),
    }


def _problems(values: Mapping[str, Any]) -> dict[str, str]:
    found = {
        "client_key": _id_problem(values["client_key"]),
        "signed_prefix": prefix_problem(values["signed_prefix"]),
        "max_skew_secs": _between(values["max_skew_secs"], MIN_SKEW_SECS, MAX_SKEW_SECS),
        "time_limit_secs": _between(values["time_limit_secs"], 0.0, MAX_TIME_LIMIT_SECS),
        "token_ttl_secs": _between(values["token_ttl_secs"], 1.0, MAX_TOKEN_TTL_SECS),
        "external_ids": _external_ids_problem(values["external_ids"]),
        "allow_short_key": flag_problem(values["allow_short_key"]),
    }
    for field in ("partner_id", "channel_id"):
        found[field] = None if values[field] is None else _id_problem(values[field])
    for field, choices in _CHOICES.items():
        found[field] = choice_problem(values[field], choices)
    return {field: problem for field, problem in found.items() if problem is not None}


def _id_problem(value: object) -> str | None:
    if isinstance(value, str) and "," in value:
        return "must have no comma: a header that came twice is known by it"
    return text_problem(value)


def _external_ids_problem(ids: object) -> str | None:
    has_both = all(callable(getattr(ids, name, None)) for name in ("add", "release"))
    if ids is None or (has_both and not isinstance(ids, type)):
        return None
    return "must be MemoryExternalIds(), RedisExternalIds(…) or an object with their methods"


def _between(value: object, least: float, most: float) -> str | None:
    try:
        found = finite_seconds("it", value, least, above=least == 0)
    except ConfigurationError:
        found = math.inf
    return None if found <= most else f"must be seconds, from {least:g} to {most:g}"


def _number(text: str) -> float:
    return float(text) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) else math.nan


def _open_external_ids(values: dict[str, Any], problems: dict[str, str]) -> None:
    url = values.pop("external_ids")
    try:
        values["external_ids"] = RedisExternalIds(url)
    except ConfigurationError as error:
        problems["external_ids"] = f"is wrong: {error}"
    except ImportError as error:
        problems["external_ids"] = f"cannot be used: {error}"
