"""Objects of the caller's own: a scheme, a store and a source of keys need only the methods."""

from __future__ import annotations

import inspect

import pytest
import requests
from support.clients import credentials, token
from support.threads import until

from permata_auth import (
    ConfigurationError,
    LoginClient,
    LoginHandler,
    MemoryTokenStore,
    PermataAuth,
    PermataCredentials,
)
from permata_auth.schemes.base import Scheme
from permata_auth.stores.base import bound

PATH = "/apiservice/InquiryServices/BalanceInfo/inq"


class Delegate:
    """An object that has no methods in its class, and all of another object's."""

    def __init__(self, other):
        self._other = other

    def __getattr__(self, name):
        return getattr(self._other, name)


class Without(Delegate):
    """A delegate that lacks one attribute."""

    def __init__(self, other, missing):
        super().__init__(other)
        self._missing = missing

    def __getattr__(self, name):
        if name == self._missing:
            raise AttributeError(name)
        return super().__getattr__(name)


def members(protocol):
    return [
        pytest.param(name, "method" if inspect.isfunction(member) else "attribute", id=name)
        for name, member in vars(protocol).items()
        if not name.startswith("_")
    ]


@pytest.mark.bank(token_lifetime=1.0)
def test_a_scheme_that_delegates_logs_in_signs_and_is_refreshed(bank, make_handler):
    handler = make_handler(Delegate(bank.credentials()))
    with requests.Session() as session:
        session.trust_env = False
        session.auth = PermataAuth(handler)
        assert session.post(bank.url + PATH, json={"a": "b c"}).status_code == 200
        first = handler.get_token()
        until(lambda: bank.logins > 1, what="no refresh in the background")
        assert handler.refresh().value != first
        assert session.post(bank.url + PATH, json={"a": "b c"}).status_code == 200


@pytest.mark.parametrize("made", [LoginClient, LoginHandler])
@pytest.mark.parametrize(("member", "kind"), members(Scheme))
def test_what_a_scheme_lacks_is_named(made, member, kind):
    with pytest.raises(ConfigurationError) as caught:
        made(Without(credentials(), member))
    assert str(caught.value) == f"credentials has no {kind} {member}, which a Scheme has"


@pytest.mark.parametrize("made", [LoginClient, LoginHandler])
def test_a_method_that_cannot_be_called_is_a_method_that_is_missing(made):
    scheme = Delegate(credentials())
    scheme.read_token_response = {}
    with pytest.raises(ConfigurationError, match=r"^credentials has no method read_token_response"):
        made(scheme)


@pytest.mark.parametrize("made", [LoginClient, LoginHandler])
@pytest.mark.parametrize("given", [PermataCredentials, Delegate])
def test_the_class_of_a_scheme_is_no_scheme(made, given):
    with pytest.raises(ConfigurationError, match=r"^credentials must be a Scheme, not the class"):
        made(given)


def test_a_store_that_delegates_shares_the_token(bank, make_handler):
    store = Delegate(MemoryTokenStore())
    first, second = (make_handler(bank.credentials(), store=store) for _ in range(2))
    assert first.get_token() == second.get_token()
    assert bank.logins == 1


@pytest.mark.parametrize("given", [MemoryTokenStore, Delegate])
def test_the_class_of_a_store_is_no_store(given):
    with pytest.raises(ConfigurationError, match=r"^store must be a TokenStore, not the class"):
        LoginHandler(credentials(), store=given)


class Sealed:
    """A store that is none before it knows the credentials."""

    def bind(self, credentials):
        self.credentials = credentials
        return MemoryTokenStore()


def test_a_store_is_bound_by_a_method_that_it_delegates():
    scheme, store = credentials(), Sealed()
    assert type(bound(Delegate(store), scheme)) is MemoryTokenStore
    assert store.credentials is scheme


def test_the_class_of_a_store_that_seals_is_no_store():
    with pytest.raises(ConfigurationError, match=r"^store must be a TokenStore, not the class"):
        bound(Sealed, credentials())


def test_a_source_of_keys_that_delegates_seals_what_the_original_unseals():
    _seal = pytest.importorskip("permata_auth.stores._seal")
    sealed = _seal.Seal(Delegate(credentials())).seal("key", token(value="example-sealed"))
    assert _seal.Seal(credentials()).unseal("key", sealed).value == "example-sealed"


def test_what_a_source_of_keys_lacks_is_named():
    _seal = pytest.importorskip("permata_auth.stores._seal")
    with pytest.raises(ConfigurationError) as caught:
        _seal.Seal(Without(credentials(), "derive_key"))
    assert str(caught.value) == "credentials has no method derive_key, which a KeySource has"
    with pytest.raises(ConfigurationError, match=r"^credentials must be a KeySource"):
        _seal.Seal(PermataCredentials)
