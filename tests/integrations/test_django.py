from __future__ import annotations

import io
import json
import threading

import pytest

pytest.importorskip("django")

import django.core.checks
from django.apps import apps
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.core.management.base import SystemCheckError
from django.test import Client, RequestFactory, override_settings
from stores.contract import KEY, StoreContract
from support.clients import credentials, token
from support.scripts import run

from permata_auth import ConfigurationError, TokenStoreError
from permata_auth.integrations.django import (
    cache as cache_module,
)
from permata_auth.integrations.django import (
    get_callback_status,
    get_handler,
    get_session,
)
from permata_auth.integrations.django.cache import CacheTokenStore

from . import django_settings  # noqa: F401 - configures Django
from .webhooks import RECEIPT, SECRET, signature


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    for name in ("TOKEN_URL", "API_KEY", "CLIENT_ID", "CLIENT_SECRET", "STATIC_KEY"):
        monkeypatch.delenv(f"PERMATA_{name}", raising=False)
    yield
    caches["default"].clear()


@pytest.fixture
def configure():
    """Set ``PERMATA_AUTH`` for a bank, or to what is given, until the end of the test."""
    active = []

    def configure(bank=None, **more):
        given = {
            name.removeprefix("PERMATA_"): value
            for name, value in (bank.environment() if bank else {}).items()
        }
        active.append(override_settings(PERMATA_AUTH=given | more))
        active[-1].enable()

    yield configure
    for override in reversed(active):
        override.disable()


# Access.


def test_the_session_calls_the_bank_signed(configure, bank):
    configure(bank)

    reply = get_session().post(f"{bank.url}/apiservice/balance/inq", json={"a": "b c"})

    assert reply.json()["StatusCode"] == "00"
    assert get_session() is get_session()
    assert get_handler().info().logins == 1


def test_the_callback_status_client_is_at_hand(configure, bank):
    configure(bank)

    assert get_callback_status().send({"error": None}).status_code == "00"


def test_missing_settings_are_named_at_the_first_use(configure):
    configure()

    with pytest.raises(ConfigurationError, match="PERMATA_TOKEN_URL"):
        get_handler()


def test_the_environment_fills_in_what_the_settings_lack(configure, bank, monkeypatch):
    for name, value in bank.environment().items():
        monkeypatch.setenv(name, value)
    configure()

    assert get_handler().get_token()


def test_overridden_settings_take_effect_and_stop_what_ran(configure, make_bank):
    first, second = make_bank(), make_bank()
    configure(first)
    old = get_handler()
    old.get_token()

    configure(second)
    get_handler().get_token()

    assert not old.scheduler.is_active
    assert (first.logins, second.logins) == (1, 1)


def test_all_threads_get_one_handler(configure, bank):
    configure(bank)
    found = []
    barrier = threading.Barrier(8)

    def get():
        barrier.wait(10)
        found.append(get_handler())

    threads = [threading.Thread(target=get) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert len(set(map(id, found))) == 1


def test_margins_and_event_hook_reach_the_handler(configure, bank):
    events.clear()
    configure(bank, REFRESH_BUFFER_SECS=100, ON_EVENT=f"{__name__}.note")
    get_handler().get_token()
    assert get_handler().scheduler.config.refresh_buffer_secs == 100.0
    configure(bank, ON_EVENT=events.append)
    get_handler().get_token()
    assert len([event for event in events if type(event).__name__ == "LoginSucceeded"]) == 2


events: list = []


def note(event):
    events.append(event)


def test_starting_the_project_makes_nothing():
    ran = run(
        """
        import threading
        from integrations import django_settings
        from django.apps import apps
        from django.core.management import call_command

        assert apps.get_app_config("permata_auth")._services is None
        assert threading.active_count() == 1
        """
    )

    assert (ran.status, ran.err) == (0, "")


def test_without_the_app_the_error_says_so(monkeypatch):
    def missing(label):
        raise LookupError

    monkeypatch.setattr(apps, "get_app_config", missing)

    with pytest.raises(ImproperlyConfigured, match="INSTALLED_APPS"):
        get_handler()


# Checks.


def _found(**options):
    found = django.core.checks.run_checks(**options)
    return {each.id.removeprefix("permata_auth."): each for each in found if "permata" in each.id}


def test_the_checks_pass_for_good_settings(configure, bank):
    configure(bank, APP_SECRETS=[SECRET])

    assert _found(include_deployment_checks=True) == {}
    assert bank.login_attempts == 0


@pytest.mark.parametrize(
    ("number", "wrong", "text"),
    [
        ("E001", {"CLIENT_SECRT": "example"}, "CLIENT_SECRT"),
        ("E002", {"CLIENT_SECRET": None}, "PERMATA_CLIENT_SECRET"),
        ("E002", {"TOKEN_URL": "http://bank.invalid/"}, "PERMATA_TOKEN_URL"),
        ("E003", {"TOKEN_STORE": "cache:elsewhere"}, "elsewhere"),
        ("E003", {"TOKEN_STORE": "ftp://somewhere"}, "PERMATA_TOKEN_STORE"),
        ("E004", {"REFRESH_BUFFER_SECS": "soon"}, "PERMATA_REFRESH_BUFFER_SECS"),
        ("E004", {"BACKGROUND": "perhaps"}, "PERMATA_BACKGROUND"),
        ("E004", {"ON_EVENT": "nowhere.at_all"}, "PERMATA_ON_EVENT"),
        ("E004", {"MAX_BODY_BYTES": "many"}, "PERMATA_MAX_BODY_BYTES"),
        ("E005", {"CALLBACK_STATUS_URL": "http://bank.invalid/"}, "PERMATA_CALLBACK_STATUS_URL"),
    ],
)
def test_a_wrong_setting_is_named_by_a_check_with_a_hint(configure, bank, number, wrong, text):
    configure(bank, **wrong)

    found = _found()

    assert set(found) == {number}
    assert text in found[number].msg
    assert found[number].hint
    assert "example-client-secret" not in str(found)


def test_settings_that_are_no_dict_are_named_by_a_check():
    with override_settings(PERMATA_AUTH=["TOKEN_URL"]):
        assert set(_found()) == {"E001"}


def test_deployment_checks_warn_of_open_webhooks_and_of_a_cache_that_shares_nothing(
    configure, bank
):
    configure(bank, TOKEN_STORE="cache:default")

    assert _found() == {}
    assert set(_found(include_deployment_checks=True)) == {"W001", "W002"}


def test_manage_py_check_fails_with_the_name_of_what_is_missing(configure):
    configure()

    with pytest.raises(SystemCheckError) as caught:
        call_command("check")

    assert "permata_auth.E002" in str(caught.value)
    assert "PERMATA_STATIC_KEY" in str(caught.value)


# Views.


@pytest.fixture
def client():
    return Client(enforce_csrf_checks=True)


def _post(client, body=RECEIPT, **headers):
    return client.post("/webhook", data=body, content_type="application/json", headers=headers)


def test_a_webhook_is_forwarded_and_answered_by_the_bank(configure, bank, client):
    configure(bank, APP_SECRETS=SECRET)

    answer = _post(client, **{"X-Hub-Signature-256": signature(RECEIPT)})

    assert (answer.status_code, answer.json()["StatusCode"]) == (200, "00")
    assert bank.deliveries == (RECEIPT,)


def test_a_webhook_with_a_wrong_signature_is_refused(configure, bank, client):
    configure(bank, APP_SECRETS=SECRET)

    assert _post(client, **{"X-Hub-Signature-256": "sha256=00"}).status_code == 401
    assert not bank.deliveries


def test_a_webhook_is_posted(configure, bank, client):
    configure(bank)

    assert client.get("/webhook").status_code == 405


@pytest.mark.parametrize("limits", [(20, 2_500_000), (1_000_000, 20), (20, None)])
def test_a_webhook_that_is_too_large_is_refused(configure, bank, client, limits):
    ours, of_django = limits
    configure(bank, MAX_BODY_BYTES=ours)

    with override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=of_django):
        answer = _post(client)

    assert (answer.status_code, answer.json()["StatusCode"]) == (413, "06")
    assert not bank.deliveries


def test_a_webhook_that_breaks_off_is_refused(configure, bank):
    from permata_auth.integrations.django.views import webhook

    class Broken(io.BytesIO):
        def read(self, *_):
            raise ConnectionResetError

    configure(bank)
    request = RequestFactory().post("/webhook", data=RECEIPT, content_type="application/json")
    request._stream = Broken()
    request._read_started = False

    answer = webhook(request)

    assert (answer.status_code, json.loads(answer.content)["StatusCode"]) == (400, "06")


def test_health_follows_the_token(configure, bank, client):
    configure(bank)
    unused = client.get("/health")
    bank.fail_next(1, status=401, on="token")
    with pytest.raises(Exception, match="401"):
        get_handler().get_token()
    failed = client.get("/health")
    get_handler().refresh()
    good = client.get("/health")

    assert [each.status_code for each in (unused, failed, good)] == [200, 503, 200]
    assert good.json()["token_seconds_left"] > 890
    assert "no-cache" in good.headers["Cache-Control"]


# Commands.


def _output(command):
    out = io.StringIO()
    call_command(command, stdout=out)
    return out.getvalue()


def test_the_token_command_prints_one_token(configure, bank):
    configure(bank)

    assert _output("permata_token").strip() in bank._tokens


def test_the_status_command_logs_nobody_in(configure, bank):
    configure(bank, TOKEN_STORE="cache:default")
    assert "token in it: none" in _output("permata_status")
    value = get_handler().get_token()
    after = _output("permata_status")

    assert "s left" in after
    assert value not in after
    assert bank.logins == 1


@pytest.mark.parametrize("command", ["permata_token", "permata_status"])
def test_a_command_without_settings_names_them(configure, command):
    configure()

    with pytest.raises(CommandError, match="PERMATA_TOKEN_URL"):
        _output(command)


# The store.


# The redis client that Django keeps for each thread is closed by nobody when the thread ends.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
class TestCacheTokenStore(StoreContract):
    @pytest.fixture(params=["local memory", "redis"])
    def make_store(self, request):
        if request.param == "local memory":
            yield lambda: CacheTokenStore(credentials=credentials())
            return
        pytest.importorskip("redis")
        from support.redis_server import RedisServer, servers

        if not servers():
            pytest.skip("no redis-server here, and none from PyPI")
        server = RedisServer(next(iter(servers().values()))).come_up()
        redis = {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": server.url,
        }
        stores = []

        def make():
            stores.append(CacheTokenStore(credentials=credentials()))
            return stores[-1]

        with override_settings(CACHES={"default": redis}):
            yield make
        for connection in [each for store in stores for each in store._connections.values()]:
            for pool in connection.cache._cache._pools.values():
                pool.disconnect()
        server.close()


def _raw():
    return caches["default"]._cache  # of LocMemCache: pickles by name


def test_what_is_in_the_cache_does_not_show_the_token():
    saved = token()
    CacheTokenStore(credentials=credentials()).save(KEY, saved)

    assert _raw()
    assert all(saved.value.encode() not in value for value in _raw().values())


def test_others_can_neither_read_nor_plant_a_token():
    ours = CacheTokenStore(credentials=credentials())
    theirs = CacheTokenStore(credentials=credentials(static_key="example-other-key"))
    theirs.save(KEY, token())
    assert ours.load(KEY) is None

    ours.save(KEY, token())
    name = ours._name(KEY)
    for planted in ("example-token", b"example-token", 7, caches["default"].get(name)[:-4]):
        caches["default"].set(name, planted)
        assert ours.load(KEY) is None


def test_a_discarded_token_that_is_saved_again_is_back():
    store = CacheTokenStore(credentials=credentials())
    saved = token()
    store.save(KEY, saved)
    store.discard(KEY, saved)
    store.save(KEY, saved)

    assert store.load(KEY).value == saved.value


def test_the_lock_of_a_holder_that_died_ends_by_itself(monkeypatch):
    monkeypatch.setattr(cache_module, "_LOCK_LIFE", 1)
    store = CacheTokenStore(credentials=credentials())
    died = store.lock(KEY)
    died.__enter__()

    with store.lock(KEY):
        monkeypatch.setattr(cache_module, "_LONGEST_WAIT", 0.0)
        monkeypatch.setattr(cache_module, "_LOCK_LIFE", 60)
        with pytest.raises(TokenStoreError), store.lock(KEY):
            pass

    with store.lock(KEY):
        died.__exit__(None, None, None)  # too late: the lock is another's, and stays
        with pytest.raises(TokenStoreError), store.lock(KEY):
            pass


def test_a_cache_that_is_out_of_reach_is_a_store_error():
    store = CacheTokenStore("nowhere", credentials=credentials())

    for operation in (
        lambda: store.load(KEY),
        lambda: store.save(KEY, token()),
        lambda: store.discard(KEY, token()),
        lambda: store.lock(KEY).__enter__(),
    ):
        with pytest.raises(TokenStoreError, match="nowhere") as caught:
            operation()
        assert caught.value.__cause__ is caught.value.__context__ is None


def test_a_cache_that_is_out_of_reach_stops_no_login(configure, bank):
    configure(bank, TOKEN_STORE="cache:nowhere")

    assert get_handler().get_token()


def test_without_credentials_the_store_says_what_it_needs():
    with pytest.raises(ConfigurationError, match="credentials"):
        CacheTokenStore().load(KEY)


def test_two_processes_log_in_once(configure, bank):
    configure(bank, TOKEN_STORE="cache:default")
    first = get_handler().get_token()
    configure(bank, TOKEN_STORE="cache:default")  # a new handler, as another process has

    assert get_handler().get_token() == first
    assert bank.logins == 1
