"""Credentials from a mounted Kubernetes Secret, which change while the program runs.

    PERMATA_SECRETS_DIR=/etc/permata python kubernetes_secret.py

One file for each value: ``permata_client_secret`` and so on. They are looked at before each login,
so nothing is restarted. Without that variable a bank on this machine changes a secret of its own.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from permata_auth import LoginHandler


def main() -> None:
    if "PERMATA_SECRETS_DIR" in os.environ:  # in production there is no more to it than this
        with LoginHandler.from_env() as handler:
            handler.get_token()
            print(handler.info())
        return
    from permata_auth.sandbox import Sandbox  # noqa: PLC0415 - not in production

    with Sandbox() as bank, tempfile.TemporaryDirectory() as folder:
        mount(Path(folder), 1, bank.environment())
        with LoginHandler.from_env({"PERMATA_SECRETS_DIR": folder}) as handler:
            handler.get_token()
            bank.rotate(client_secret="example-new-secret")
            mount(Path(folder), 2, bank.environment())
            handler.refresh()  # or whenever the token nears its end
            print(handler.info().logins, "logins,", bank.refused_logins, "refused")


def mount(folder: Path, version: int, secret: dict[str, str]) -> None:
    """Put a Secret in place as the kubelet does: all of its files at once, by one link."""
    (folder / f"..{version}").mkdir()
    for name, value in secret.items():
        (folder / f"..{version}" / name.lower()).write_text(value)
        if version == 1:
            (folder / name.lower()).symlink_to(f"..data/{name.lower()}")
    (folder / "..data_tmp").symlink_to(f"..{version}")
    (folder / "..data_tmp").replace(folder / "..data")


if __name__ == "__main__":
    main()
