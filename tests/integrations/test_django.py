from __future__ import annotations

import contextlib
import io
import json
import math
import sqlite3
import threading
import time
from unittest import mock

import pytest

pytest.importorskip("django")

import django.core.checks
from django import conf as django_conf
from django.apps import apps
from django.core.cache import caches
from django.core.cache.backends.redis import RedisCache
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.core.management.base import SystemCheckError
from django.db import connections as db_connections
from django.db import transaction
from django.db.backends.sqlite3.base import DatabaseWrapper
from django.http.multipartparser import MultiPartParserError
from django.test import Client, RequestFactory, override_settings
from stores.contract import KEY, StoreContract
from support.clients import credentials, token
from support.scripts import run

from permata_auth import (
    CallbackStatusClient,
    CallbackStatusResponse,
    ConfigurationError,
    TokenStoreError,
)
from permata_auth.integrations.django import (
    cache as cache_module,
)
from permata_auth.integrations.django import (
    get_callback_status,
    get_handler,
    get_session,
)
from permata_auth.integrations.django.cache import CacheTokenStore
from permata_auth.integrations.django.views import webhook

from . import django_settings  # noqa: F401 - configures Django
from .webhooks import RECEIPT, SECRET, VERIFICATION, VERIFY_TOKEN, signature, signed

OPEN = {"ALLOW_UNSIGNED_WEBHOOKS": True}


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    for name in ("TOKEN_URL", "API_KEY", "CLIENT_ID", "CLIENT_SECRET", "STATIC_KEY"):
        monkeypatch.delenv(f"PERMATA_{name}", raising=False)
    yield
    caches["default"].clear()


@pytest.fixture
def configure():
    """Set ``PERMATA_AUTH`` for a bank, or to these settings, until the end of the test."""
    active = []

    def configure(bank=None, caches=None, **more):
        others = {} if caches is None else {"CACHES": {"default": caches}}
        given = {
            name.removeprefix("PERMATA_"): value
            for name, value in (bank.environment() if bank else {}).items()
        }
        active.append(override_settings(PERMATA_AUTH=given | more, **others))
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


SECONDS = ["soon", "nan", "inf", math.nan, math.inf, -math.inf, -1, b"300", [], True]
WRONG = {
    ("E001", "CLIENT_SECRT"): ["example"],
    ("E001", 5): ["example"],
    ("E002", "CLIENT_SECRET"): [None, b"example", 12345, True, ["example"]],
    ("E002", "TOKEN_URL"): ["http://bank.invalid/", b"https://bank.invalid/", 5],
    ("E002", "ALLOW_INSECURE_HTTP"): ["perhaps", 2],
    ("E003", "TOKEN_STORE"): ["cache:elsewhere", "ftp://somewhere", b"file:", 5, object(), dict],
    ("E004", "REFRESH_BUFFER_SECS"): SECONDS,
    ("E004", "MIN_SCHEDULE_TIME_SECS"): SECONDS,
    ("E004", "BACKGROUND"): ["perhaps", 2, 1.0, b"true", []],
    ("E004", "STOP_WHEN_IDLE"): ["perhaps", 2, 1.0, b"true", []],
    ("E004", "CLOCK_CORRECTION"): ["perhaps", 2, 1.0, b"off", []],
    ("E004", "WARM_UP"): ["perhaps", 2, 1.0, b"true", []],
    ("E004", "ON_EVENT"): ["nowhere.at_all", "nowhere", ".", "math.pi", 5, b"builtins.print"],
    ("E004", "MAX_BODY_BYTES"): ["many", "nan", math.inf, -1, 0, 1.5, b"5", True, [], None or {}],
    ("E005", "CALLBACK_STATUS_URL"): ["http://bank.invalid/", b"https://bank.invalid/", 5],
    ("E006", "APP_SECRETS"): [
        b"example",
        5,
        [""],
        ["example", " "],
        [5],
        [b"ex"],
        {"a": "b"},
        True,
    ],
    ("E006", "ALLOW_UNSIGNED_WEBHOOKS"): ["perhaps", 2, b"on", []],
    ("E006", "WEBHOOK_VERIFY_TOKEN"): [5, b"example", ["example"]],
    ("E008", "CLIENT_CERT"): ["/nonexistent/client.pem", 5, b"example"],
    ("E008", "CLIENT_KEY"): ["/nonexistent/key.pem", True],
    ("E008", "CLIENT_KEY_PASSWORD"): ["example", b"example"],
    ("E008", "CA_BUNDLE"): ["/nonexistent/bundle.pem", False],
    ("E008", "PROXY"): ["user:example@proxy.invalid:3128", 5],
}


@pytest.mark.parametrize(
    ("number", "name", "value"),
    [(number, name, value) for (number, name), values in WRONG.items() for value in values],
)
def test_a_wrong_setting_is_named_by_a_check_with_a_hint(configure, bank, number, name, value):
    configure(bank, **{"APP_SECRETS": SECRET} | {name: value} if isinstance(name, str) else {})
    if not isinstance(name, str):
        django_conf.settings.PERMATA_AUTH[name] = value

    for found in (_found(), _found(include_deployment_checks=True)):
        assert set(found) == {number}
        assert str(name) in found[number].msg
        assert found[number].hint
        assert "example" not in str(found).replace("CLIENT_SECRT", "")


@pytest.mark.parametrize(
    "wrong",
    [(name, value) for (number, name), values in WRONG.items() for value in values[:2]
     if number != "E001"],
    ids=repr,
)  # fmt: skip
def test_with_a_wrong_setting_no_webhook_is_taken(configure, bank, client, wrong):
    name, value = wrong
    configure(bank, **{"APP_SECRETS": SECRET} | {name: value})

    answer = _post(client, **signed(RECEIPT))

    assert (answer.status_code, answer.json()["StatusCode"]) == (503, "06")
    assert bank.requests == ()


@pytest.mark.parametrize("given", [None, 5, "TOKEN_URL", ["TOKEN_URL"], b"TOKEN_URL"])
def test_settings_that_are_no_dict_are_a_mistake_everywhere(client, given):
    with override_settings(PERMATA_AUTH=given):
        assert set(_found()) == set(_found(include_deployment_checks=True)) == {"E001"}
        answers = [_post(client), client.get(f"/webhook?{VERIFICATION}"), client.get("/health")]
        assert [answer.status_code for answer in answers] == [503, 503, 503]
        for command in ("permata_token", "permata_status"):
            with pytest.raises(CommandError, match="PERMATA_AUTH must be a dict"):
                _output(command)


def test_what_is_missing_for_the_first_webhook_is_named_by_a_check(configure, bank):
    configure(bank, APP_SECRETS=SECRET, ORGANIZATION_NAME=None)

    assert set(_found()) == {"E007"}
    assert "organization_name" in str(_found()["E007"].msg)


@pytest.mark.parametrize("secrets_given", [None, "", "  ", ",", []])
def test_a_check_names_the_setting_that_closed_webhooks_lack(configure, bank, secrets_given):
    configure(bank, APP_SECRETS=secrets_given, TOKEN_STORE="cache:default")

    assert set(_found()) == {"W003"}
    assert "PERMATA_APP_SECRETS" in _found()["W003"].msg
    assert "PERMATA_ALLOW_UNSIGNED_WEBHOOKS" in _found()["W003"].msg
    assert "PERMATA_APP_SECRETS" in _output("permata_status")
    assert set(_found(include_deployment_checks=True)) == {"W002", "W003"}


def test_deployment_checks_warn_of_open_webhooks_and_of_a_cache_that_shares_nothing(
    configure, bank
):
    configure(bank, TOKEN_STORE="cache:default", **OPEN)

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


@pytest.mark.parametrize("method", ["put", "patch", "delete", "options"])
def test_a_webhook_is_posted(configure, bank, client, method):
    configure(bank, **OPEN)

    assert getattr(client, method)("/webhook").status_code == 405


@pytest.mark.parametrize("given", [{}, {"APP_SECRETS": ""}, {"APP_SECRETS": [""]},
                                   {"ALLOW_UNSIGNED_WEBHOOKS": "off"}], ids=repr)  # fmt: skip
def test_without_an_app_secret_the_endpoint_is_closed(configure, bank, client, given):
    configure(bank, **given)

    answers = [_post(client), _post(client, **signed(RECEIPT))]
    answers.append(client.get(f"/webhook?{VERIFICATION}"))

    for answer in answers:
        assert (answer.status_code, answer.json()["StatusCode"]) == (503, "06")
    assert bank.requests == ()


def test_unsigned_webhooks_are_taken_where_they_are_allowed(configure, bank, client):
    configure(bank, **OPEN)

    assert _post(client).status_code == 200
    assert bank.deliveries == (RECEIPT,)
    assert "webhooks: taken from anybody" in _output("permata_status")


def test_the_provider_verifies_the_endpoint(configure, bank, client):
    configure(bank, APP_SECRETS=SECRET, WEBHOOK_VERIFY_TOKEN=VERIFY_TOKEN)

    good = client.get(f"/webhook?{VERIFICATION}")
    wrong = client.get(f"/webhook?hub.verify_token=1&{VERIFICATION}")
    many = client.get("/webhook?" + "a=1&" * 1500)
    none = client.get("/webhook")

    assert (good.status_code, good.content) == (200, b"1158201444")
    assert good.headers["Content-Type"].startswith("text/plain")
    assert [each.status_code for each in (wrong, many, none)] == [403, 403, 403]


READ_AND_KEPT = {
    "body": lambda request: request.body,
    "POST of a JSON request": lambda request: request.POST,
    "FILES of a JSON request": lambda request: request.FILES,
    "body and POST": lambda request: (request.body, request.POST, request.read()),
}
READ_AND_LOST = {
    "read": lambda request: request.read(),
    "a part": lambda request: request.read(5),
    "a line": lambda request: request.readline(),
    "lines": list,
    "the whole input": lambda request: request.environ["wsgi.input"].read(),
    "a part of the input": lambda request: request.environ["wsgi.input"].read(5),
}


class _ReadsBodies:
    """A middleware that reads each request's body before the view does."""

    reads: list = []  # noqa: RUF012 - cleared by each test

    def __init__(self, get_response):
        self._get_response = get_response

    def __call__(self, request):
        for read in self.reads:
            read(request)
        return self._get_response(request)


@pytest.fixture
def read_first(monkeypatch):
    def read_first(read):
        monkeypatch.setattr(_ReadsBodies, "reads", [read])
        return Client(enforce_csrf_checks=True)

    name = f"{__name__}._ReadsBodies"
    with override_settings(MIDDLEWARE=["django.middleware.csrf.CsrfViewMiddleware", name]):
        yield read_first


@pytest.mark.parametrize("name", READ_AND_KEPT)
@pytest.mark.parametrize("settings", [{"APP_SECRETS": SECRET}, OPEN], ids=["closed", "open"])
def test_a_body_that_was_read_before_is_taken_from_where_django_keeps_it(
    configure, bank, read_first, name, settings
):
    configure(bank, **settings)
    client = read_first(READ_AND_KEPT[name])

    assert _post(client, **signed(RECEIPT)).status_code == 200
    assert bank.deliveries == (RECEIPT,)
    bad = _post(client, **{"X-Hub-Signature-256": "sha256=00"})
    assert bad.status_code == (200 if settings is OPEN else 401)


@pytest.mark.parametrize("name", READ_AND_LOST)
@pytest.mark.parametrize("settings", [{"APP_SECRETS": SECRET}, OPEN], ids=["closed", "open"])
def test_a_body_that_was_read_before_and_is_lost_is_no_webhook(
    configure, bank, read_first, name, settings
):
    configure(bank, **settings)

    answer = _post(read_first(READ_AND_LOST[name]), **signed(RECEIPT))

    assert (answer.status_code, answer.json()["StatusCode"]) == (400, "06")
    assert bank.requests == ()


@pytest.mark.parametrize(
    ("content_type", "is_kept"),
    [
        ("application/x-www-form-urlencoded", True),  # parsed from the body, which is kept
        ("multipart/form-data", False),
        ("multipart/form-data; boundary=x", False),
    ],
)
def test_a_form_that_was_parsed_before_is_no_webhook(
    configure, bank, read_first, content_type, is_kept
):
    configure(bank, APP_SECRETS=SECRET)

    def read(request):
        with contextlib.suppress(MultiPartParserError):
            _ = request.POST

    answer = read_first(read).post(
        "/webhook", data=RECEIPT, content_type=content_type, headers=signed(RECEIPT)
    )

    # Without a boundary nothing is parsed, and newer Djangos still have the body.
    expected = {True: [(200, "00")], False: [(400, "06")]}[is_kept]
    if content_type == "multipart/form-data":
        expected.append((200, "00"))
    assert (answer.status_code, answer.json()["StatusCode"]) in expected


@pytest.mark.parametrize(
    "environ",
    [
        {"CONTENT_LENGTH": "abc"},
        {"CONTENT_LENGTH": "-1"},
        {"CONTENT_LENGTH": "9" * 5000},
        {"CONTENT_LENGTH": "99999"},
        {"CONTENT_LENGTH": "²"},
        {"CONTENT_LENGTH": ""},
        {"CONTENT_TYPE": "\xff; charset=\xfe"},
        {"CONTENT_TYPE": "application/json; charset=base64"},
        {"CONTENT_TYPE": "multipart/form-data"},
        {"HTTP_X_HUB_SIGNATURE_256": "\xff\xfe"},
        {"QUERY_STRING": "a=%ff&" * 2000},
    ],
    ids=lambda environ: repr(environ)[:40],
)
# Django looks the charset up; Python 3.15 warns of such a name.
@pytest.mark.filterwarnings("ignore:Support for non-ascii encoding names:DeprecationWarning")
def test_an_odd_request_is_the_senders_mistake(configure, bank, environ):
    configure(bank, APP_SECRETS=SECRET)

    answer = Client().generic("POST", "/webhook", RECEIPT, **environ)

    assert answer.status_code in (400, 401, 413)
    assert answer.json()["StatusCode"] == "06"
    assert bank.requests == ()


@pytest.mark.parametrize("status", [204, 205, 304, 299, 599, 799])
def test_the_banks_status_is_the_answer_with_content_only_where_http_allows_it(
    configure, bank, client, monkeypatch, status
):
    configure(bank, **OPEN)
    reply = CallbackStatusResponse(
        http_status=status, status_code="00", status_desc="", body={"StatusCode": "00"}
    )
    monkeypatch.setattr(CallbackStatusClient, "send", lambda *_, **__: reply)

    answer = _post(client)

    assert answer.status_code == status
    assert answer.content == (b"" if status in (204, 205, 304) else b'{"StatusCode": "00"}')
    assert ("Content-Type" in answer.headers) is (status not in (204, 205, 304))


@pytest.mark.parametrize("limits", [(20, 2_500_000), (1_000_000, 20), (20, None)])
def test_a_webhook_that_is_too_large_is_refused(configure, bank, client, limits):
    ours, of_django = limits
    configure(bank, MAX_BODY_BYTES=ours, **OPEN)

    with override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=of_django):
        answer = _post(client)

    assert (answer.status_code, answer.json()["StatusCode"]) == (413, "06")
    assert not bank.deliveries


@pytest.mark.parametrize("error", [ConnectionResetError, ValueError, RuntimeError])
def test_a_webhook_that_breaks_off_is_refused(configure, bank, error):
    class Broken(io.BytesIO):
        def read(self, *_):
            raise error

    configure(bank, **OPEN)
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


def test_the_doctor_examines_the_projects_own_settings(configure, bank, secrets):
    configure(bank, TOKEN_STORE="cache:default")

    output = _output("permata_doctor")

    assert [line.split()[:2] for line in output.splitlines()] == [
        ["ok", name]
        for name in (
            "configuration", "name", "connection", "clock", "login", "signature", "store"
        )
    ]  # fmt: skip
    assert bank.calls_by_status["200"] == 1
    assert not secrets.found_in(output)


def test_the_doctor_says_what_is_wrong_and_whether_waiting_helps(configure, bank):
    configure()
    out = io.StringIO()
    with pytest.raises(CommandError) as caught:
        call_command("permata_doctor", stdout=out)
    assert caught.value.returncode == 1
    assert "PERMATA_TOKEN_URL is missing" in out.getvalue()
    configure(bank)
    bank.fail_next(status=503, on="token")
    with pytest.raises(CommandError) as caught:
        call_command("permata_doctor", url=bank.callback_status_url, stdout=out)
    assert caught.value.returncode == 75


@pytest.mark.parametrize("command", ["permata_token", "permata_status"])
def test_a_command_without_settings_names_them(configure, command):
    configure()

    with pytest.raises(CommandError, match="PERMATA_TOKEN_URL"):
        _output(command)


# The store.


@pytest.fixture
def database():
    """A table for the database cache; afterwards no connection but this thread's may be open."""
    made = []
    new = DatabaseWrapper.get_new_connection

    def get_new_connection(wrapper, parameters):
        made.append((threading.get_ident(), new(wrapper, parameters)))
        return made[-1][1]

    with mock.patch.object(DatabaseWrapper, "get_new_connection", get_new_connection):
        call_command("createcachetable", verbosity=0)
        yield made
    caches["database"].clear()
    for thread, connection in made:
        if thread != threading.get_ident():
            with pytest.raises(sqlite3.ProgrammingError, match="closed"):
                connection.execute("SELECT 1")
    db_connections.close_all()


# The redis client that Django keeps for each thread is closed by nobody when the thread ends.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
class TestCacheTokenStore(StoreContract):
    @pytest.fixture(params=["local memory", "redis", "database"])
    def make_store(self, request):
        if request.param == "local memory":
            yield lambda: CacheTokenStore(credentials=credentials())
            return
        if request.param == "database":
            request.getfixturevalue("database")
            yield lambda: CacheTokenStore("database", credentials=credentials())
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
        for connection in [
            store._connection.peek() for store in stores if store._connection.peek()
        ]:
            for pool in connection.cache._cache._pools.values():
                pool.disconnect()
        server.close()

    def test_discard_in_one_thread_spares_what_another_saves_meanwhile(self, request, store, other):
        if request.node.callspec.params["make_store"] == "database":
            pytest.skip("on SQLite Django drops one of two writes at once, and says nothing")
        super().test_discard_in_one_thread_spares_what_another_saves_meanwhile(store, other)


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
    monkeypatch.setattr(cache_module, "_LOCK_LIFE_SECS", 1)
    store = CacheTokenStore(credentials=credentials())
    died = store.lock(KEY)
    died.__enter__()

    with store.lock(KEY):
        monkeypatch.setattr(cache_module, "_MAX_WAIT_SECS", 0.0)
        monkeypatch.setattr(cache_module, "_LOCK_LIFE_SECS", 60)
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


# A cache that says no because it cannot. It cost 22 seconds of a caller's time.
FEW_SECONDS = 10.0


def _seconds_for_a_token() -> float:
    began = time.monotonic()
    assert get_handler().get_token()
    return time.monotonic() - began


class ForgivingCache(RedisCache):
    """A cache as many projects have it, whose errors are ignored."""

    def get(self, *args, **kwargs):
        with contextlib.suppress(Exception):
            return super().get(*args, **kwargs)

    def add(self, *args, **kwargs):
        with contextlib.suppress(Exception):
            return super().add(*args, **kwargs)

    def set(self, *args, **kwargs):
        with contextlib.suppress(Exception):
            super().set(*args, **kwargs)

    def delete(self, *args, **kwargs):
        with contextlib.suppress(Exception):
            return super().delete(*args, **kwargs)


def _redis_server(*options):
    pytest.importorskip("redis")
    from support.redis_server import RedisServer, servers

    if not servers():
        pytest.skip("no redis-server here, and none from PyPI")
    return RedisServer(next(iter(servers().values())), *options)


@pytest.mark.parametrize("state", ["away", "full"])
def test_a_cache_whose_errors_are_ignored_costs_a_second_and_no_login(configure, bank, state):
    server = _redis_server(*(["--maxmemory", "1"] if state == "full" else []))
    if state == "full":
        server.come_up()
    backend = {"BACKEND": f"{__name__}.ForgivingCache", "LOCATION": server.url}
    configure(bank, backend, TOKEN_STORE="cache:default")
    seconds = _seconds_for_a_token()
    server.close()

    assert seconds < FEW_SECONDS
    assert bank.logins == 1


def test_a_cache_whose_errors_are_ignored_is_shared_while_it_is_there(configure, bank):
    server = _redis_server().come_up()
    backend = {"BACKEND": f"{__name__}.ForgivingCache", "LOCATION": server.url}
    for _ in range(2):
        configure(bank, backend, TOKEN_STORE="cache:default")
        get_handler().get_token()
    server.close()

    assert bank.logins == 1


@pytest.mark.usefixtures("database")
def test_a_database_in_the_callers_transaction_costs_a_second_and_no_login(configure, bank):
    configure(bank, TOKEN_STORE="cache:database")

    with transaction.atomic():
        caches["database"].set("written", "in the transaction")
        seconds = _seconds_for_a_token()

    assert seconds < FEW_SECONDS
    assert bank.logins == 1


def test_a_database_is_shared_and_keeps_no_connection(configure, bank, database):
    for _ in range(2):
        configure(bank, TOKEN_STORE="cache:database")
        get_handler().get_token()

    assert bank.logins == 1
    # Not by distinct threads: the number of one that has ended is given to the next.
    assert len([thread for thread, _ in database if thread != threading.get_ident()]) > 1


@pytest.mark.usefixtures("database")
def test_the_connection_of_a_callers_own_thread_stays_open(bank):
    store = CacheTokenStore("database", credentials=credentials())
    with transaction.atomic():
        store.save(KEY, token())
        assert store.load(KEY) is not None
        transaction.set_rollback(True)

    assert store.load(KEY) is None


def test_a_cache_that_keeps_nothing_costs_no_time(configure, bank):
    dummy = {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}
    configure(bank, dummy, TOKEN_STORE="cache:default")

    assert _seconds_for_a_token() < FEW_SECONDS
    assert bank.logins == 1


def test_a_holder_that_outlives_its_lock_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(cache_module, "_LOCK_LIFE_SECS", 0.2)
    monkeypatch.setattr(cache_module, "_MAX_REFUSAL_SECS", 0.1)
    store = CacheTokenStore(credentials=credentials())
    caches["default"].set(f"{store._name(KEY)}:lock", "example", None)

    with pytest.raises(TokenStoreError, match="does not keep what is added"), store.lock(KEY):
        pass


def test_a_project_under_test_has_its_token_at_once(bank):
    ran = run(
        """
        import tempfile, time

        import django
        from django.conf import settings

        settings.configure(
            INSTALLED_APPS=["permata_auth.integrations.django"],
            DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
            CACHES={"default": {
                "BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "cache",
            }},
            PERMATA_AUTH={"TOKEN_STORE": "cache:default", "BACKGROUND": False},
        )
        django.setup()

        from django.core.cache import cache
        from django.test import TestCase
        from django.test.runner import DiscoverRunner

        from permata_auth.integrations.django import get_handler

        class OfTheProject(TestCase):
            def test_token(self):
                for is_written in (False, True):
                    if is_written:
                        cache.set("written", "in the transaction")
                    began = time.monotonic()
                    get_handler().clear_cache()
                    assert get_handler().get_token()
                    print(time.monotonic() - began)

        runner = DiscoverRunner(verbosity=0)
        databases = runner.setup_databases()
        ended = runner.run_suite(runner.test_loader.loadTestsFromTestCase(OfTheProject))
        runner.teardown_databases(databases)
        raise SystemExit(not ended.wasSuccessful())
        """,
        env=bank.environment(),
        timeout=60.0,
    )

    assert ran.status == 0, ran.err
    assert [float(line) < FEW_SECONDS for line in ran.out.splitlines()] == [True, True]
    assert "Warning" not in ran.err


def test_without_credentials_the_store_says_what_it_needs():
    with pytest.raises(ConfigurationError, match="credentials"):
        CacheTokenStore().load(KEY)


def test_two_processes_log_in_once(configure, bank):
    configure(bank, TOKEN_STORE="cache:default")
    first = get_handler().get_token()
    configure(bank, TOKEN_STORE="cache:default")  # a new handler, as another process has

    assert get_handler().get_token() == first
    assert bank.logins == 1
