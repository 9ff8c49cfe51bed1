"""SNAP credentials that change while a program runs: key files, secrets, stores, wrong clocks."""

from __future__ import annotations

import functools

import pytest
import requests

redis = pytest.importorskip("redis")

from cryptography.hazmat.primitives.asymmetric import rsa
from support.keys import private_pem
from support.threads import until

from permata_auth import (
    InvalidClientError,
    LoginHandler,
    PermataAuth,
    RedisTokenStore,
    RotatingCredentials,
    events,
)
from permata_auth.sandbox import Sandbox, SnapRules

NEW_SECRET = "example-new-snap-secret"


@functools.cache
def new_key() -> str:
    return private_pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))


@pytest.fixture
def files(bank, tmp_path, secrets):
    """Return the environment of the bank's SNAP side, with both secrets in files."""
    secrets.add(NEW_SECRET, *new_key().splitlines()[1:-1])
    environ = bank.snap_environment()
    for name in ("PRIVATE_KEY", "CLIENT_SECRET"):
        (tmp_path / name).write_text(environ.pop(f"PERMATA_SNAP_{name}"))
        environ[f"PERMATA_SNAP_{name}_FILE"] = str(tmp_path / name)
    return environ


@pytest.fixture
def start(files):
    """Make handlers of that environment; each notes its events."""
    handlers = []

    def start(**arguments) -> tuple[LoginHandler, list[events.Event]]:
        seen: list[events.Event] = []
        handlers.append(LoginHandler.from_env(files, on_event=seen.append, **arguments))
        return handlers[-1], seen

    yield start
    for handler in handlers:
        handler.shutdown()


def post(handler, bank):
    with requests.Session() as session:
        session.trust_env = False
        session.auth = PermataAuth(handler)
        return session.post(f"{bank.snap_url}/v1.0/balance-inquiry", json={"accountNo": "1"})


def reloads(seen) -> list[tuple[str, ...]]:
    return [each.fields for each in seen if isinstance(each, events.CredentialsReloaded)]


def test_a_new_key_signs_the_next_login_and_no_live_token_ends(bank, start, tmp_path):
    handler, seen = start()
    token = handler.get_token()
    bank.rotate(private_key=new_key())
    (tmp_path / "PRIVATE_KEY").write_text(new_key())
    assert handler.get_token() == token
    assert post(handler, bank).status_code == 200
    assert bank.logins == 1
    handler.refresh()
    assert (bank.logins, bank.refused_logins) == (2, 0)
    until(lambda: reloads(seen) == [("private_key",)])  # told once the login is over


def test_a_refused_login_has_the_new_key_looked_for(bank, start, tmp_path, secrets):
    handler, _ = start()
    handler.get_token()
    bank.rotate(private_key=new_key())
    with pytest.raises(InvalidClientError):
        handler.refresh()
    (tmp_path / "PRIVATE_KEY").write_text(new_key())
    handler.refresh()
    assert (bank.logins, bank.refused_logins) == (2, 1)


def test_a_refused_signature_has_the_new_secret_looked_for(bank, start, tmp_path):
    handler, seen = start()
    token = handler.get_token()
    bank.rotate(client_secret=NEW_SECRET)
    assert post(handler, bank).status_code == 401
    (tmp_path / "CLIENT_SECRET").write_text(NEW_SECRET)
    assert [post(handler, bank).status_code for _ in range(3)] == [200] * 3
    assert bank.calls_by_status == {"401": 2, "200": 3}
    assert (bank.logins, bank.duplicates, handler.get_token()) == (1, 0, token)
    until(lambda: reloads(seen) == [("client_secret",)])


def test_a_call_that_was_sent_again_is_not_sent_a_third_time(bank, start, tmp_path):
    """Neither is the new secret looked for: the next call finds it."""
    handler, _ = start()
    token = handler.get_token()
    bank.rotate(client_secret=NEW_SECRET)
    refused = post(handler, bank)
    (tmp_path / "CLIENT_SECRET").write_text(NEW_SECRET)
    note = functools.partial(
        handler.note_response, token, refused.status_code, refused.content, headers=refused.headers
    )
    assert not note(is_second=True)
    assert note()


def test_half_a_key_keeps_the_old_one(bank, start, tmp_path, caplog):
    handler, seen = start()
    handler.get_token()
    (tmp_path / "PRIVATE_KEY").write_text(new_key()[:200])
    handler.refresh()
    (tmp_path / "PRIVATE_KEY").unlink()
    handler.refresh()
    assert (bank.logins, reloads(seen)) == (3, [])
    assert caplog.text.count("Credentials could not be loaded") == 1


def test_keys_in_files_of_their_own_may_change_too(bank, make_handler, tmp_path):
    path = tmp_path / "key.pem"
    path.write_text(bank.snap_credentials().private_key)
    make = functools.partial(bank.snap_credentials, private_key=None, private_key_file=path)
    rotating = RotatingCredentials(make)
    handler = make_handler(rotating)
    assert not rotating.reload()
    path.write_text(new_key())
    bank.rotate(private_key=new_key())
    assert rotating.reload()
    handler.get_token()
    assert (bank.logins, bank.refused_logins) == (1, 0)


@pytest.mark.parametrize("changed", ["PRIVATE_KEY", "CLIENT_SECRET"])
def test_a_token_sealed_under_the_old_secrets_is_still_read(
    bank, start, tmp_path, one_server, changed
):
    first, _ = start(store=RedisTokenStore(one_server.url))
    shared = first.get_token()
    value = {"PRIVATE_KEY": new_key(), "CLIENT_SECRET": NEW_SECRET}[changed]
    bank.rotate(**{changed.lower(): value})
    second, _ = start(store=RedisTokenStore(one_server.url))
    (tmp_path / changed).write_text(value)
    assert second.credentials.reload()
    assert second.get_token() == shared
    assert post(second, bank).status_code == 200
    third, _ = start(store=RedisTokenStore(one_server.url))  # knows the new one alone
    third.get_token()
    assert (bank.logins, bank.refused_logins) == (2, 0)


def test_the_sandbox_takes_both_keys_for_the_time_of_an_overlap():
    with Sandbox() as bank:
        old = bank.snap_credentials()
        bank.rotate(private_key=new_key(), overlap=True)
        new = bank.snap_credentials()
        for credentials in (old, new):
            with LoginHandler(credentials) as handler:
                handler.get_token()
        bank.rotate()
        with LoginHandler(new) as handler:
            handler.get_token()
        with LoginHandler(old) as handler, pytest.raises(InvalidClientError):
            handler.get_token()
        with pytest.raises(ValueError, match=r"PEM|key"):
            bank.rotate(private_key="nonsense")
        with pytest.raises(TypeError):
            bank.rotate(private_key=7)


# Wrong clocks


@pytest.mark.parametrize("form", ["seconds", "milliseconds", "utc"])
@pytest.mark.parametrize("skew", [3600.0, -3600.0])
def test_a_wrong_clock_costs_one_request_and_no_call(make_bank, make_handler, skew, form):
    bank = make_bank(clock_skew=skew, snap_rules=SnapRules(timestamp_form=form))
    handler = make_handler(bank.snap_credentials())
    assert [post(handler, bank).status_code for _ in range(3)] == [200] * 3
    assert [each.status for each in bank.requests] == [401, 200, 200, 200, 200]
    assert handler.info().clock_offset == pytest.approx(skew, abs=20.0)
    assert (handler.info().failed_logins, bank.refused_logins, bank.duplicates) == (0, 0, 0)
    handler.refresh()
    assert bank.logins == 2


@pytest.mark.parametrize("skew", [3600.0, -3600.0])
@pytest.mark.parametrize("kind", ["symmetric", "asymmetric"])
def test_a_clock_that_goes_wrong_later_costs_one_request(make_bank, make_handler, skew, kind):
    bank = make_bank(snap_rules=SnapRules(transaction_signature=kind))
    handler = make_handler(bank.snap_credentials())
    assert post(handler, bank).status_code == 200
    bank.clock_skew = skew
    assert [post(handler, bank).status_code for _ in range(3)] == [200] * 3
    assert bank.calls_by_status == {"401": 1, "200": 4}
    assert (bank.logins, bank.duplicates) == (int(kind == "symmetric"), 0)
