"""A store shared by processes that learn at different moments that the credentials changed."""

from __future__ import annotations

import pytest

redis = pytest.importorskip("redis")
pytest.importorskip("cryptography")

from support.clients import ScriptedClient, credentials, token
from support.fleet import Host, ask_all

from permata_auth import (
    FileTokenStore,
    InvalidClientError,
    MemoryTokenStore,
    RedisTokenStore,
    RotatingCredentials,
)

NEW, NEWER = "example-new-secret", "example-newer-secret"


class Process:
    """A handler with a store and credentials of its own, as another process would have."""

    def __init__(self, make_handler, store, first) -> None:
        self.set = first
        self.asked = 0
        self.rotating = RotatingCredentials(self._load, check_secs=1e9)
        self._make_handler = make_handler
        self._store = store
        self.handler = self.start()

    def _load(self):
        self.asked += 1
        return self.set

    def start(self):
        """Return a handler that has no token yet, and knows the credentials that this one knows."""
        return self._make_handler(self.rotating, store=self._store)

    def learn(self, new) -> None:
        self.set = new
        assert self.rotating.reload()


@pytest.fixture(params=["redis", "file", "memory"])
def store(request, tmp_path, redis_servers):
    if request.param == "redis":
        server = redis_servers("redis")
        with server.client() as client:
            client.flushall()
        return RedisTokenStore(server.url)
    return FileTokenStore(tmp_path) if request.param == "file" else MemoryTokenStore()


@pytest.fixture
def start(bank, make_handler, redis_server, secrets):
    secrets.add(NEW, NEWER)
    return lambda first: Process(make_handler, RedisTokenStore(redis_server.url), first)


def test_each_process_shares_with_those_that_know_what_it_knows(bank, start):
    old = bank.credentials()
    first, second = start(old), start(old)
    shared = first.handler.get_token()
    assert second.handler.get_token() == shared
    bank.rotate(client_secret=NEW, overlap=True)
    new = bank.credentials()
    first.learn(new)
    # By the token that it knew to be there under the secret before.
    assert first.start().get_token() == shared
    assert bank.logins == 1
    renewed = first.handler.refresh().value
    assert second.start().get_token() == shared  # it lives still
    assert start(new).handler.get_token() == renewed
    second.learn(new)
    assert second.handler.get_token() == shared  # a reload ends no live token
    assert second.start().get_token() == renewed
    assert (bank.logins, bank.refused_logins) == (2, 0)


def test_a_bank_with_one_token_at_a_time_is_no_ping_pong(make_bank, make_handler, redis_server):
    bank = make_bank(single_token=True)
    old = bank.credentials()
    bank.rotate(client_secret=NEW, overlap=True)
    first, second = (
        Process(make_handler, RedisTokenStore(redis_server.url), old) for _ in range(2)
    )
    for each in (first, second):
        each.handler.note_response(each.handler.get_token(), 200)
    first.learn(bank.credentials())
    first.handler.note_response(first.handler.refresh().value, 200)
    # The bank has ended the token of the second, which does not know the new secret yet.
    second.handler.invalidate()
    second.handler.note_response(second.handler.get_token(), 200)
    for _ in range(5):  # and that login has ended the token of the first
        first.handler.invalidate()
        assert first.handler.get_token() == second.handler.get_token()
        if bank.logins == 3:
            break
    assert bank.logins == 3


def test_no_process_gets_the_token_of_another_client(bank, start):
    old = bank.credentials()
    first, second = start(old), start(old)
    shared = first.handler.get_token()
    bank.rotate(client_id="example-other-client", overlap=True)
    first.learn(bank.credentials())
    other = first.handler.refresh().value
    assert second.handler.get_token() == shared
    assert second.start().get_token() == shared
    second.learn(bank.credentials())
    assert second.start().get_token() == other
    assert bank.logins == 2


def test_a_login_tried_once_more_with_new_credentials_stores_its_token_with_them(bank, start):
    old = bank.credentials()
    first = start(old)
    bank.rotate(client_id="example-other-client")
    first.set = bank.credentials()  # known to the secret manager, not asked for yet
    taken = first.handler.get_token()
    assert (bank.logins, bank.refused_logins) == (1, 1)
    assert start(bank.credentials()).handler.get_token() == taken
    with pytest.raises(InvalidClientError):
        start(old).handler.get_token()
    assert bank.logins == 1


def test_a_refusal_of_the_fleet_does_not_hold_a_process_with_other_credentials(bank, start):
    old = bank.credentials()
    bank.rotate(client_secret=NEW)
    processes = [start(old) for _ in range(4)]
    for each in processes:
        for _ in range(5):
            with pytest.raises(InvalidClientError):
                each.handler.get_token()
    assert bank.refused_logins == 1
    for each in processes:
        each.learn(bank.credentials())
    assert len({each.handler.get_token() for each in processes}) == 1
    assert (bank.logins, bank.refused_logins) == (1, 1)


def test_an_invalid_token_is_discarded_wherever_it_is(bank, start):
    first = start(bank.credentials())
    first.handler.get_token()
    bank.rotate(client_secret=NEW, overlap=True)
    first.learn(bank.credentials())
    second = first.start()
    shared = second.get_token()
    second.note_response(shared, 200)
    second.invalidate()
    assert first.start().get_token() != shared
    assert bank.logins == 2


def test_every_kind_of_store_keeps_its_token_through_a_rotation(store, make_handler):
    sets = [credentials(), credentials(client_secret=NEW)]
    rotating = RotatingCredentials(lambda: sets[0])
    first = make_handler(rotating, store=store, client=ScriptedClientOf(rotating, token()))
    shared = first.get_token()
    sets.pop(0)
    assert rotating.reload()
    second = make_handler(rotating, store=store, client=ScriptedClientOf(rotating))
    assert second.get_token() == shared


class ScriptedClientOf(ScriptedClient):
    def __init__(self, given, *outcomes) -> None:
        super().__init__(*outcomes, then=AssertionError("no login is needed"))
        self.credentials = given


def test_hosts_whose_secrets_change_one_after_the_other(bank, redis_server, tmp_path, secrets):
    secrets.add(NEW)
    environment, mounts = bank.environment(), [tmp_path / "0", tmp_path / "1"]
    secret = environment.pop("PERMATA_CLIENT_SECRET")

    def write(mount, value):
        (mount / "new").write_text(value)
        (mount / "new").replace(mount / "permata_client_secret")

    hosts, url = [], redis_server.url
    for mount in mounts:
        mount.mkdir()
        write(mount, secret)
        there = environment | {"PERMATA_SECRETS_DIR": str(mount)}
        hosts.append(Host(there, url, processes=3))
    with hosts[0], hosts[1]:

        def call():
            answers = ask_all(hosts, "call", seconds=0.3)
            assert [error for answer in answers for error in answer["errors"]] == []

        call()
        assert bank.logins == 1
        bank.rotate(client_secret=NEW, overlap=True)
        write(mounts[0], NEW)
        bank.revoke_all_tokens()
        call()
        assert bank.logins <= 3  # one for each secret
        write(mounts[1], NEW)
        bank.rotate()
        call()
        with Host(environment | {"PERMATA_SECRETS_DIR": str(mounts[1])}, url, processes=3) as late:
            hosts.append(late)
            call()
            assert late.log == ""
        assert bank.logins <= 3
        assert bank.refused_logins == 0
        assert hosts[0].log == hosts[1].log == ""
