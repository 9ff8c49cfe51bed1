"""The command ``permata-auth``: see a token live, print one, and help in support calls.

Each module adds its commands to the group in :mod:`permata_auth.cli.base`.
"""

from __future__ import annotations

from . import (  # noqa: F401 - importing them adds their commands
    call,
    demo,
    doctor,
    sandbox,
    send_status,
    sign,
    store,
    token,
    wait,
    watch,
)
from .base import cli, main

__all__ = ["cli", "main"]
