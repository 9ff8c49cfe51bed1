"""How the bank changes the credentials that it has given out."""

from __future__ import annotations

import pytest

from permata_auth import InvalidClientError, LoginClient, TokenEndpointError
from permata_auth.sandbox import Sandbox

from .client import Client

NEW = {"client_secret": "example-new-secret", "static_key": "example-new-key"}


@pytest.fixture(autouse=True)
def _new_secrets(secrets):
    secrets.add(*NEW.values())


def log_in(credentials):
    with LoginClient(credentials) as client:
        return client.login()


def test_only_the_new_credentials_are_good():
    with Sandbox() as bank:
        old = bank.credentials()
        bank.rotate(client_secret=NEW["client_secret"])
        with pytest.raises(InvalidClientError):
            log_in(old)
        assert log_in(bank.credentials())
        assert bank.environment()["PERMATA_CLIENT_SECRET"] == NEW["client_secret"]


def test_with_an_overlap_both_sets_are_good_and_no_mixture_of_them():
    with Sandbox() as bank:
        old = bank.credentials()
        bank.rotate(**NEW, overlap=True)
        for good in (old, bank.credentials()):
            assert log_in(good)
        for name in NEW:
            with pytest.raises(TokenEndpointError):
                log_in(bank.credentials(**{name: getattr(old, name)}))
        bank.rotate()
        with pytest.raises(InvalidClientError):
            log_in(old)
        assert log_in(bank.credentials())


def test_what_is_no_credential_is_refused_and_changes_nothing():
    with Sandbox() as bank:
        for wrong in ({"secret": "x"}, {"client_secret": None}):
            with pytest.raises(TypeError):
                bank.rotate(**wrong)
        assert log_in(bank.credentials())


def test_other_processes_rotate_by_http(bank):
    with Client(bank) as client:
        assert client.admin("POST", "rotate", {**NEW, "overlap": True}).status == 200
        assert bank.environment()["PERMATA_STATIC_KEY"] == NEW["static_key"]
        assert client.admin("POST", "rotate", {"secret": "x"}).status == 400
