"""Credentials from a secret manager, asked again once a minute and after a refusal.

python secret_manager.py

The secret manager and the bank are on this machine here, and made up.
"""

from __future__ import annotations

from permata_auth import LoginHandler, PermataCredentials, RotatingCredentials
from permata_auth.sandbox import Sandbox


class SecretManager:
    """Stands in for the client of yours."""

    def __init__(self, secrets: dict[str, str]) -> None:
        self.secrets = secrets
        self.asked = 0

    def get(self) -> dict[str, str]:
        self.asked += 1
        return self.secrets


def main() -> None:
    with Sandbox() as bank:
        manager = SecretManager(bank.environment())
        credentials = RotatingCredentials(lambda: PermataCredentials.from_env(manager.get()))
        with LoginHandler(credentials) as handler:
            handler.get_token()
            bank.rotate(client_secret="example-new-secret")
            manager.secrets = bank.environment()
            handler.refresh()  # refused with the old secret, tried at once with the new one
            print(handler.info().logins, "logins,", bank.refused_logins, "refused")
            print("asked", manager.asked, "times")


if __name__ == "__main__":
    main()
