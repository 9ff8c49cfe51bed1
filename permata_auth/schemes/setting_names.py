"""The names of settings, for the advice of checks: each scheme has its own."""

from __future__ import annotations

import attrs

from .base import Scheme


@attrs.frozen(kw_only=True)
class SettingNames:
    """The settings of a scheme that the advice of checks names.

    Args:
        token_url: Of the token endpoint.
        signature: That a call's signature is made with.
        caller: That say whose call it is.
    """

    token_url: str = "PERMATA_TOKEN_URL"
    signature: str = "PERMATA_STATIC_KEY and PERMATA_CANONICALIZER"
    caller: str = "PERMATA_ORGANIZATION_NAME"


def setting_names(scheme: Scheme) -> SettingNames:
    """Return a scheme's own ``setting_names``, or those of the classic scheme.

    Args:
        scheme: Any.
    """
    found = getattr(scheme, "setting_names", None)
    return found if isinstance(found, SettingNames) else SettingNames()
