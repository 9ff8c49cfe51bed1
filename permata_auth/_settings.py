"""The rules of all settings and arguments: flags, numbers, durations, URLs, no pickles."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeGuard
from urllib.parse import urlsplit

import attrs

from .exceptions import ConfigurationError

Seconds = float | int | timedelta

#: The size of a webhook's body above which it is refused, by default.
MAX_BODY_BYTES = 1_048_576


def seconds(value: Seconds) -> float:
    """Convert a duration to float seconds.

    Args:
        value: Any other value is returned unchanged, for a validator to refuse.
    """
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, int) and not isinstance(value, bool):
        with suppress(OverflowError):
            return float(value)
    return value


def finite_seconds(name: str, value: Any, minimum: float = 0.0, *, above: bool = False) -> float:
    """Return a duration as float seconds, or raise ConfigurationError.

    Args:
        name: The argument's name, for the error.
        value: Its value.
        minimum: The least that is allowed, in seconds.
        above: Whether ``minimum`` itself is refused too.
    """
    value = seconds(value)
    if not isinstance(value, float) or not math.isfinite(value):
        raise ConfigurationError(f"{name} must be a finite number of seconds or a timedelta")
    if value < minimum or (above and value == minimum):
        bound = "above" if above else "at least"
        raise ConfigurationError(f"{name} must be {bound} {minimum:g} seconds")
    return value


def timeout_secs(timeout: Seconds | None) -> float | None:
    """Return a method's ``timeout`` as float seconds; raise TypeError or ValueError for others.

    Args:
        timeout: Seconds, a timedelta, or None for no bound.
    """
    if timeout is None:
        return None
    value = seconds(timeout)
    if not isinstance(value, float):
        raise TypeError("timeout must be a number of seconds, a timedelta, or None")
    if math.isnan(value):
        raise ValueError("timeout must be a number of seconds, not NaN")
    return value


_FLAGS = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(
    ("false", "0", "no", "off"), False
)


def flag_or_none(value: object) -> bool | None:
    """Read a setting that is on or off; return None for any other value.

    Args:
        value: A bool, 0 or 1, or text in any case.
    """
    if isinstance(value, bool):
        return value
    text = str(value) if isinstance(value, int) else value
    return _FLAGS.get(text.strip().lower()) if isinstance(text, str) else None


def flag(name: str, value: object) -> bool:
    """Read a setting that is on or off, or raise ConfigurationError.

    Args:
        name: The setting's name, for the error.
        value: As for :func:`flag_or_none`.
    """
    found = flag_or_none(value)
    if found is None:
        raise ConfigurationError(f"{name} must be true or false (or 1, 0, yes, no, on, off)")
    return found


def number(name: str, value: object) -> float:
    """Read a setting that is a finite number, or raise ConfigurationError.

    Args:
        name: The setting's name, for the error.
        value: A number, or text.
    """
    found = math.nan
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):
            found = float(value)
    if not math.isfinite(found):
        raise ConfigurationError(f"{name} must be a finite number")
    return found


def whole_number(name: str, value: object) -> int:
    """Read a setting that is a count of at least 1, or raise ConfigurationError.

    Args:
        name: The setting's name, for the error.
        value: A number, or text.
    """
    found = number(name, value)
    if found < 1 or not found.is_integer():
        raise ConfigurationError(f"{name} must be a whole number, at least 1")
    return int(found)


def require_count(name: str, value: object) -> None:
    """Raise ConfigurationError for an argument that is no int, or below 1.

    Args:
        name: The argument's name, for the error.
        value: Its value.
    """
    if not is_int(value) or value < 1:
        raise ConfigurationError(f"{name} must be a whole number, at least 1")


def require_bool(name: str, value: object) -> None:
    """Raise ConfigurationError for an argument that is no bool.

    Args:
        name: The argument's name, for the error.
        value: Its value.
    """
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name} must be True or False")


def is_int(value: object) -> TypeGuard[int]:
    """Tell whether a value is an int: True and False are none.

    Args:
        value: Any.
    """
    return isinstance(value, int) and not isinstance(value, bool)


def duration(*, above: bool = False) -> Callable[[Any, Any, Any], None]:
    """Return an attrs validator for a field of finite seconds.

    Args:
        above: Whether the field must be above zero, and not just at least zero.
    """

    def validate(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        finite_seconds(f"{type(instance).__name__}.{attribute.name}", value, above=above)

    return validate


def require_instance(protocol: type, name: str, value: object) -> None:
    """Raise ConfigurationError for a class where an instance is needed.

    Args:
        protocol: The protocol that an instance would have, for the error.
        name: The argument's name, for the error.
        value: Its value.
    """
    if isinstance(value, type):
        raise ConfigurationError(f"{name} must be a {protocol.__name__}, not the class of one")


def require_members(protocol: type, name: str, value: object) -> None:
    """Raise ConfigurationError for a class, and for an object that lacks a protocol's member.

    An object that delegates by ``__getattr__`` is accepted. isinstance() would refuse it: since
    Python 3.12 it looks a protocol's members up without calling ``__getattr__``.

    Args:
        protocol: Its public members are needed.
        name: The argument's name, for the error.
        value: Its value.
    """
    require_instance(protocol, name, value)
    for member, declared in vars(protocol).items():
        if member.startswith("_"):
            continue
        kind = "method" if callable(declared) else "attribute"
        found = getattr(value, member, None)
        if found is None or (kind == "method" and not callable(found)):
            wanted = protocol.__name__
            raise ConfigurationError(f"{name} has no {kind} {member}, which a {wanted} has")


class Unpicklable:
    """A base for classes that no pickle must carry: live services and secrets."""

    __slots__ = ()
    _why_unpicklable: str

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(f"{type(self).__name__} cannot be pickled: {self._why_unpicklable}")


class Secret(Unpicklable):
    """A base for immutable values that hold a secret: copied by reference, never pickled."""

    __slots__ = ()

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        return self


def flag_problem(value: object) -> str | None:
    """Return the problem of a value that must be a bool; None if it has none.

    Args:
        value: Of any type.
    """
    return None if isinstance(value, bool) else "must be true or false"


def choice_problem(value: object, choices: Iterable[str]) -> str | None:
    """Return the problem of a value that must be one of a few; None if it has none.

    Args:
        value: Of any type, one without a hash too.
        choices: The values that are right.
    """
    return None if value in list(choices) else f"must be one of {', '.join(choices)}"


_PRINTABLE = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")


def text_problem(value: object) -> str | None:
    """Return the problem of a text that headers and signatures carry; None if it has none.

    Args:
        value: The text, of any type.
    """
    if value is None or value == "":
        return "is missing"
    if not isinstance(value, str) or not _PRINTABLE.fullmatch(value):
        return "must be printable ASCII with no space around it"
    return None


def header_problem(name: object) -> str | None:
    """Return the problem of an HTTP header's name (RFC 9110 section 5.1); None if it has none.

    Args:
        name: The name, of any type.
    """
    if isinstance(name, str) and re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
        return None
    return "must be the name of an HTTP header"


def url_problem(url: object, *, allow_insecure_http: bool) -> str | None:
    """Say why no secret may be sent to a URL; None where it may.

    Args:
        url: The URL, of any type.
        allow_insecure_http: Whether plain http is allowed to other machines too.
    """
    # At a backslash parsers disagree about where the host ends (RFC 3986 has none in a URL).
    if not isinstance(url, str) or not re.fullmatch(r"[\x21-\x5b\x5d-\x7e]+", url):
        return "must be a URL of printable ASCII without spaces and backslashes"
    try:
        parts = urlsplit(url)
        port = parts.port
        if "[" in parts.netloc:  # older Pythons look neither inside the brackets nor beside them
            if not re.search(r"(^|@)\[[^\[\]]*\](:[0-9]*)?$", parts.netloc):
                return "is not a valid URL"
            ipaddress.IPv6Address(parts.hostname)
    except ValueError:
        return "is not a valid URL"
    if parts.scheme not in ("https", "http") or not parts.hostname or port == 0:
        return "must be an absolute https:// URL"
    if parts.username is not None or parts.password is not None or parts.fragment:
        return "must have neither credentials nor a fragment in it"
    if parts.scheme == "http" and not (allow_insecure_http or is_loopback(parts.hostname)):
        return "must be https:// (plain http:// is for this machine's own loopback address)"
    return None


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine's loopback.

    Args:
        host: A name or an address, without a port.
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
