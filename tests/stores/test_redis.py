from __future__ import annotations

import base64
import logging
import pickle
import threading
import time

import pytest

redis = pytest.importorskip("redis")
pytest.importorskip("cryptography")

from support.clients import ScriptedClient, credentials, token
from support.scripts import run
from support.threads import Call, until

from permata_auth import (
    ConfigurationError,
    RedisTokenStore,
    TokenStoreError,
    _clock,
)
from permata_auth.stores import redis as module

from .contract import KEY, StoreContract, failure


class TestRedisTokenStore(StoreContract):
    @pytest.fixture(params=["url", "client", "decoding client"])
    def make_store(self, request, redis_server):
        clients = []

        def make():
            if request.param == "url":
                store = RedisTokenStore(redis_server.url, credentials=credentials())
                clients.append(store._client)
                return store
            decodes = request.param == "decoding client"
            clients.append(redis_server.client(decode_responses=decodes))
            return RedisTokenStore(clients[-1], credentials=credentials())

        yield make
        for client in clients:
            client.close()


@pytest.fixture
def client(redis_server):
    with redis_server.client() as client:
        yield client


@pytest.fixture
def store(client):
    return RedisTokenStore(client, credentials=credentials())


def stored_names(client) -> list[bytes]:
    return sorted(client.scan_iter(b"*"))


def test_what_comes_back_is_equal_to_what_was_saved(store):
    saved = token()
    store.save(KEY, saved)
    assert store.load(KEY).value == saved.value


def test_a_reader_of_the_server_learns_nothing(store, client, secrets):
    saved = token()
    store.save(KEY, saved)
    with store.lock(KEY):
        names = stored_names(client)
        values = [client.get(name) for name in names]
    assert len(names) == 2
    shown = [text.decode("latin-1") for text in [*names, *values]]
    shown += [base64.b64decode(value).decode("latin-1") for value in values if len(value) > 40]
    secrets.add(saved.value, "resource.")
    assert not secrets.found_in(*shown)
    assert all(name.startswith(b"permata-auth:") for name in names)


def test_two_writes_of_one_token_differ(store, client):
    saved = token()
    texts = set()
    for _ in range(2):
        store.save(KEY, saved)
        texts.add(client.get(stored_names(client)[0]))
    assert len(texts) == 2


def test_a_writer_of_the_server_cannot_plant_a_token(store, client, caplog):
    foreign = RedisTokenStore(client, credentials=credentials(client_secret="example-other"))
    store.save(KEY, token())
    foreign.save(KEY, token())
    store.save("example-other-key", token())
    mine = store._name(KEY)
    genuine = client.get(mine)
    flipped = bytearray(base64.b64decode(genuine))
    flipped[20] ^= 1
    planted = [
        client.get(foreign._name(KEY)),
        client.get(store._name("example-other-key")),
        base64.b64encode(flipped),
        genuine[:-8],
        b"",
        b"\xff\x00",
        b'{"version": 1}',
    ]
    for text in planted:
        client.set(mine, text)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert store.load(KEY) is None
            assert store.load(KEY) is None
        assert [r.getMessage() for r in caplog.records if r.name == module.__name__] == [
            "Stored token passed over: it was not sealed with these credentials"
        ]
        healed = token()
        store.save(KEY, healed)
        assert store.load(KEY).value == healed.value


def test_other_secrets_of_the_same_client_have_a_token_of_their_own(client):
    old, new = (
        RedisTokenStore(client, credentials=credentials(static_key=f"example-{age}"))
        for age in ("old", "new")
    )
    mine, yours = token(), token()
    old.save(KEY, mine)
    new.save(KEY, yours)
    assert [store.load(KEY).value for store in (old, new)] == [mine.value, yours.value]


def test_the_server_drops_the_token_when_it_expires(store, client):
    store.save(KEY, token(lifetime=500))
    (name,) = stored_names(client)
    assert 470_000 < client.pttl(name) <= 500_000


@pytest.mark.parametrize("off", [-30.0, 30.0], ids=["behind", "ahead"])
def test_a_reader_whose_clock_is_off_does_not_serve_a_dead_token(store, monkeypatch, off):
    monkeypatch.setattr("permata_auth.stores._document._running_clock", lambda: None)
    store.save(KEY, token(lifetime=100))
    wall = _clock.wall
    monkeypatch.setattr(_clock, "wall", lambda: wall() + off)
    left = store.load(KEY).expires_in()
    assert 75 < left <= 100 if off < 0 else 45 < left <= 70


def test_a_life_that_somebody_prolonged_on_the_server_ends_all_the_same(store, client, monkeypatch):
    monkeypatch.setattr("permata_auth.stores._document._running_clock", lambda: None)
    store.save(KEY, token(lifetime=0.5))
    (name,) = stored_names(client)
    client.persist(name)
    until(lambda: store.load(KEY) is None, timeout=30)
    assert client.get(name)


def test_a_prefix_keeps_stores_apart(client):
    one = RedisTokenStore(client, credentials=credentials(), prefix="one:")
    two = RedisTokenStore(client, credentials=credentials(), prefix="two:")
    one.save(KEY, token())
    assert two.load(KEY) is None
    assert stored_names(client)[0].startswith(b"one:")


def test_a_lock_lives_ten_seconds_and_is_extended_while_it_is_held(store, client, monkeypatch):
    with store.lock(KEY):
        (name,) = stored_names(client)
        assert 5_000 < client.pttl(name) <= 10_000
    assert not stored_names(client)
    monkeypatch.setattr(module, "_LOCK_LIFE_MS", 400)
    with store.lock(KEY):
        until(lambda: client.pttl(name) < 320)
        until(lambda: client.pttl(name) > 350, timeout=30)
        time.sleep(0.5)
        assert client.exists(name)
    until(lambda: not [t for t in threading.enumerate() if t.name == "permata-auth-store-lock"])


def test_a_lock_that_was_lost_is_neither_extended_nor_taken_from_the_next(store, client):
    with store.lock(KEY):
        (name,) = stored_names(client)
        client.set(name, b"the fence of another", px=5_000)
    assert client.get(name) == b"the fence of another"


def test_a_killed_holders_lock_ends_by_itself(redis_server, store, client):
    code = """
        import os, sys
        from support.clients import credentials
        from permata_auth.stores import redis
        redis._LOCK_LIFE_MS = 1_000
        with redis.RedisTokenStore(sys.argv[1], credentials=credentials()).lock("example-key"):
            os.kill(os.getpid(), 9)
        """
    assert run(code, redis_server.url).status == -9
    assert client.pttl(f"{store._name(KEY)}:lock") <= 1_000
    with store.lock(KEY):
        pass


def test_a_lock_that_is_never_free_is_an_error_in_the_end(client):
    store = RedisTokenStore(client, credentials=credentials(), lock_timeout=0.2)
    client.set(f"{store._name(KEY)}:lock", b"the fence of another", px=60_000)
    with pytest.raises(TokenStoreError, match="was not free"), store.lock(KEY):
        pass


def test_a_server_that_is_gone_is_a_store_error_without_the_url(secrets):
    url = "redis://:example-password@127.0.0.1:1/0"
    secrets.add("example-password")
    store = RedisTokenStore(url, credentials=credentials())
    for use in (
        lambda: store.load(KEY),
        lambda: store.save(KEY, token()),
        lambda: store.discard(KEY, token()),
        lambda: store.lock(KEY).__enter__(),
    ):
        with pytest.raises(TokenStoreError, match="ConnectionError") as caught:
            use()
        assert not secrets.found_in_error(caught.value)
    assert not secrets.found_in(repr(store))


def test_a_server_that_does_not_answer_is_given_up_in_seconds(redis_server, client):
    store = RedisTokenStore(redis_server.url + "?socket_timeout=0.2", credentials=credentials())
    store.load(KEY)
    client.execute_command("CLIENT", "PAUSE", 1_500, "ALL")
    # Or else it would answer, at the end of the pause.
    with pytest.raises(TokenStoreError, match="TimeoutError"):
        store.load(KEY)
    client.ping()
    store._client.close()


def test_a_connection_that_the_server_closed_is_replaced_at_once(redis_server, client):
    store = RedisTokenStore(redis_server.url, credentials=credentials())
    saved = token()
    store.save(KEY, saved)
    client.client_kill_filter(_type="normal", skipme=True)
    assert store.load(KEY).value == saved.value
    store._client.close()


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.invalid",
        "nonsense",
        "",
        "redis://127.0.0.1:port",
        "redis://user:example/secret@127.0.0.1",
        "redis://[example-secret",
        "redis://127.0.0.1:0",
        "redis://127.0.0.1/example-secret",
        "redis://127.0.0.1/0/1",
        "redis://:example#secret@127.0.0.1",
        "unix://run/redis.sock",
        "unix://",
        "redis://127.0.0.1?example-secret",
        "redis://127.0.0.1?timeout=3",
        "redis://127.0.0.1?ssl=true",
        "redis://127.0.0.1?ssl_ca_certs=/ca.pem",
        "redis://127.0.0.1?connection_class=example-secret",
        "redis://127.0.0.1?retry=3",
        "redis://127.0.0.1?db=example-secret",
        "redis://127.0.0.1?db=-1",
        "redis://127.0.0.1?db=1&db=two",
        "redis://127.0.0.1?socket_timeout=0",
        "redis://127.0.0.1?socket_timeout=nan",
        "redis://127.0.0.1?socket_timeout=",
        "redis://127.0.0.1?socket_connect_timeout=inf",
        "redis://127.0.0.1?socket_keepalive=off",
        "redis://127.0.0.1?max_connections=many",
        "redis://127.0.0.1?protocol=9",
        "rediss://127.0.0.1?ssl_cert_reqs=maybe",
        "rediss://127.0.0.1?ssl_check_hostname=flase",
    ],
)
def test_a_wrong_url_is_a_configuration_error_at_once_that_quotes_nothing(url):
    with pytest.raises(ConfigurationError, match="not valid") as caught:
        RedisTokenStore(url)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_the_options_of_a_url_are_used(redis_server):
    url = redis_server.url + "?socket_timeout=7.5&health_check_interval=3&client_name=example"
    store = RedisTokenStore(url, credentials=credentials())
    options = store._client.connection_pool.connection_kwargs
    assert (options["socket_timeout"], options["health_check_interval"]) == (7.5, 3)
    saved = token()
    store.save(KEY, saved)
    assert store.load(KEY).value == saved.value
    store._client.close()
    url = "rediss://u:p@example.invalid/4?ssl_cert_reqs=none&ssl_check_hostname=false"
    options = RedisTokenStore(url)._client.connection_pool.connection_kwargs
    assert (options["db"], options["ssl_cert_reqs"]) == (4, "none")


def test_wrong_arguments_are_refused(client):
    from redis.asyncio import Redis as AsyncRedis

    for wrong in (None, 5, redis.Redis, client.connection_pool, object(), AsyncRedis()):
        with pytest.raises(ConfigurationError, match="give RedisTokenStore"):
            RedisTokenStore(wrong)
    for arguments in ({"prefix": b"x"}, {"lock_timeout": "5"}, {"lock_timeout": -1}):
        with pytest.raises(ConfigurationError, match=next(iter(arguments))):
            RedisTokenStore(client, **arguments)


@pytest.mark.parametrize(
    "fault",
    [
        redis.exceptions.RedisClusterException("no node"),
        redis.exceptions.SlotNotCoveredError("slot"),
        redis.exceptions.ClusterDownError("CLUSTERDOWN"),
        KeyError("a node that is gone"),
        AttributeError("of a connection that is None"),
        OSError("broken"),
    ],
)
def test_whatever_a_client_raises_is_a_store_error(fault):
    class Client(redis.Redis):
        def execute_command(self, *args, **options):
            raise fault

    uses_of(RedisTokenStore(Client(), credentials=credentials()), type(fault).__name__)


def uses_of(store, name):
    """Assert that every method raises a TokenStoreError that names an error, and no cause."""
    for use in (
        lambda: store.load(KEY),
        lambda: store.save(KEY, token()),
        lambda: store.discard(KEY, token()),
        lambda: store.lock(KEY).__enter__(),
        lambda: store.load_failure(KEY),
        lambda: store.save_failure(KEY, failure()),
        lambda: store.save_failure(KEY, None),
    ):
        with pytest.raises(TokenStoreError, match=name) as caught:
            use()
        assert caught.value.__cause__ is caught.value.__context__ is None


def test_a_client_of_valkey_is_as_good(redis_server):
    valkey = pytest.importorskip("valkey")
    with valkey.Valkey(port=redis_server.port) as client:
        store = RedisTokenStore(client, credentials=credentials())
        saved = token()
        store.save(KEY, saved)
        assert store.load(KEY).value == saved.value
        client.set(store._name(KEY), b"")
        client.lpush(f"{store._name('a list')}", 1)
        with pytest.raises(TokenStoreError, match="ResponseError"):
            store.load("a list")
    with valkey.Valkey(port=1) as client:
        uses_of(RedisTokenStore(client, credentials=credentials()), "ConnectionError")


def test_an_error_that_was_thrown_in_passes_through(client, monkeypatch):
    class TimeLimitExceeded(Exception):
        pass

    def interrupted(*args, **options):
        raise TimeLimitExceeded

    store = RedisTokenStore(client, credentials=credentials())
    monkeypatch.setattr(client, "execute_command", interrupted)
    with pytest.raises(TimeLimitExceeded):
        store.load(KEY)


def test_a_senseless_response_is_a_store_error(client, monkeypatch):
    store = RedisTokenStore(client, credentials=credentials())
    for reply in (None, 7, [b"x"], [b"x", None], [b"x", b"1"]):
        monkeypatch.setattr(client, "eval", lambda *args, reply=reply: reply)
        with pytest.raises(TokenStoreError, match="senseless response"):
            store.load(KEY)


def test_no_error_leaves_the_thread_that_extends_a_lock(client, monkeypatch):
    raised = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    monkeypatch.setattr(module, "_LOCK_LIFE_MS", 100)
    store = RedisTokenStore(client, credentials=credentials())
    run = client.eval

    def broken(script, *args):
        if script == module._EXTEND:
            tried.set()
            raise redis.exceptions.RedisClusterException
        return run(script, *args)

    tried = threading.Event()
    monkeypatch.setattr(client, "eval", broken)
    with store.lock(KEY):
        assert tried.wait(20)
    until(lambda: not [t for t in threading.enumerate() if t.name == "permata-auth-store-lock"])
    assert raised == []


def test_the_server_drops_a_failure_at_the_end_of_its_pause(store, client):
    store.save_failure(KEY, failure(expires_in=33.0004))
    (name,) = stored_names(client)
    assert 10_000 < client.pttl(name) <= 33_001
    client.pexpire(name, 20_000)  # the server's clock counts, too
    assert 5 < store.load_failure(KEY).expires_in <= 20
    client.set(name, b"spoilt")
    assert store.load_failure(KEY) is None


@pytest.mark.parametrize(
    ("url", "connection"),
    [
        ("rediss://example.invalid", redis.SSLConnection),
        ("valkeys://example.invalid", redis.SSLConnection),
        ("valkey://example.invalid", redis.Connection),
        ("unix:///run/example.sock", redis.UnixDomainSocketConnection),
    ],
)
def test_urls_of_every_scheme_make_the_right_connection(url, connection):
    assert RedisTokenStore(url)._client.connection_pool.connection_class is connection


def test_unbound_it_asks_for_credentials(client):
    with pytest.raises(ConfigurationError, match="RedisTokenStore needs credentials"):
        RedisTokenStore(client).load(KEY)


def test_credentials_without_keys_are_refused(client):
    with pytest.raises(ConfigurationError, match="derive_key"):
        RedisTokenStore(client, credentials=object())


def test_it_cannot_be_pickled(store):
    with pytest.raises(TypeError, match="network connections"):
        pickle.dumps(store)


def test_a_handler_binds_it_to_its_credentials(make_handler, redis_server):
    logins = ScriptedClient()
    stores = [RedisTokenStore(redis_server.url) for _ in range(2)]
    handlers = [make_handler(credentials(), client=logins, store=store) for store in stores]
    assert len({handler.get_token() for handler in handlers}) == 1
    assert len(logins.calls) == 1
    other = make_handler(credentials(client_id="example-2"), client=logins, store=stores[0])
    assert other.get_token() != handlers[0].get_token()
    for store in stores:
        store._client.close()


def test_waiting_for_the_lock_ends_when_it_is_free(store, client):
    name = f"{store._name(KEY)}:lock"
    client.set(name, b"the fence of another", px=60_000)

    def enter():
        with store.lock(KEY):
            return True

    call = Call(enter)
    time.sleep(0.1)
    assert not call.is_done
    client.delete(name)
    assert call.value()


@pytest.mark.parametrize("fork", ["os.fork()", "ctypes.PyDLL(None).fork()"], ids=["hooks", "in C"])
def test_no_connection_is_shared_with_a_forked_child(redis_server, fork):
    ended = run(
        f"""
        import ctypes, os, sys
        from support.clients import credentials, token
        from permata_auth import RedisTokenStore

        store = RedisTokenStore(sys.argv[1], credentials=credentials())
        mine = [token() for _ in range(2)]
        for each in mine:
            store.save(each.value, each)

        def hammer(each):
            for _ in range(300):
                assert store.load(each.value).value == each.value

        child = {fork}
        if child == 0:
            try:
                hammer(mine[0])
                os._exit(7)
            except BaseException as error:
                print(repr(error), file=sys.stderr, flush=True)
                os._exit(1)
        hammer(mine[1])
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        store._client.close()
        """,
        redis_server.url,
    )
    assert (ended.status, ended.err) == (0, "")
