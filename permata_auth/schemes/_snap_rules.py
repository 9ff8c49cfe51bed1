"""The rules of settings that SNAP has in both directions: how a call is signed, and over what."""

from __future__ import annotations

import re

from ._snap_signing import ENCODINGS
from .canonical import CANONICALIZERS

#: The kinds of signature. The bank and the merchant agree on one for tokens and one for calls.
SIGNATURES = ("symmetric", "asymmetric")
#: The choices of a setting, by its name.
CHOICES: dict[str, tuple[str, ...]] = {
    "signature_encoding": ENCODINGS,
    "canonicalizer": tuple(CANONICALIZERS),
}

_PREFIX = re.compile(r"/[\x21\x22\x24-\x3e\x40-\x7e]*")  # neither query nor fragment


def prefix_problem(prefix: object) -> str | None:
    """Return the problem of a signed prefix, as :func:`signed_path` takes it; None if it has none.

    Args:
        prefix: The prefix, of any type; None for the path as it is.
    """
    if prefix is None or (isinstance(prefix, str) and _PREFIX.fullmatch(prefix)):
        return None
    return "must be a path that begins with /"
