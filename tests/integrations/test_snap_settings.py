"""The settings of inbound SNAP in frameworks: read, checked, shown, and kept in a cache."""

from __future__ import annotations

import io
import json

import pytest
from support import keys
from support.inbound import CLIENT_KEY, SECRET, Caller
from support.threads import together

from permata_auth.exceptions import ConfigurationError, TokenStoreError

INBOUND = {
    "SNAP_INBOUND_CLIENT_KEY": CLIENT_KEY,
    "SNAP_INBOUND_CLIENT_SECRET": SECRET,
    "SNAP_BANK_PUBLIC_KEY": keys.PUBLIC,
}


@pytest.fixture(autouse=True)
def _secret(secrets):
    secrets.add(SECRET)


@pytest.fixture
def project():
    """Django with these settings for PERMATA_AUTH."""
    pytest.importorskip("django")
    from django.test import override_settings

    from integrations import django_settings  # noqa: F401 - configures Django

    overrides = []

    def use(**changes):
        overrides.append(override_settings(PERMATA_AUTH={**INBOUND, **changes}))
        overrides[-1].enable()

    yield use
    for override in reversed(overrides):
        override.disable()


@pytest.fixture
def cache(project):
    """A cache in a table, which all threads and processes share."""
    from django.core.management import call_command

    call_command("createcachetable", verbosity=0)
    from permata_auth.integrations.django.cache import CacheExternalIds

    ids = CacheExternalIds("database")
    yield ids
    ids._ask("clear")


def found(check):
    return [message.id.removeprefix("permata_auth.") for message in check()]


def test_a_right_setting_is_no_mistake_and_a_wrong_one_is_named(project, secrets):
    from permata_auth.integrations.django.checks import check_settings

    project()
    assert "E009" not in found(check_settings)
    project(SNAP_INBOUND_MAX_SKEW="1", SNAP_INBOUND_DUPLICATES="none")
    (wrong,) = [each for each in check_settings() if each.id == "permata_auth.E009"]
    assert "PERMATA_SNAP_INBOUND_MAX_SKEW must be" in wrong.msg
    assert "PERMATA_SNAP_INBOUND_DUPLICATES must be" in wrong.msg
    assert SECRET not in wrong.msg


@pytest.mark.parametrize("given", ["cache:missing", "redis", 1, object()])
def test_wrong_external_ids_are_named(project, given):
    from permata_auth.integrations.django.checks import check_settings

    project(SNAP_INBOUND_EXTERNAL_IDS=given)
    (wrong,) = [each for each in check_settings() if each.id == "permata_auth.E009"]
    assert "PERMATA_SNAP_INBOUND_EXTERNAL_IDS" in wrong.msg


def test_a_project_without_inbound_settings_is_not_asked_for_any(project):
    from permata_auth.integrations.django._settings import DjangoSettings

    project(**dict.fromkeys(INBOUND))
    assert not DjangoSettings().has_inbound()


@pytest.mark.parametrize(
    ("given", "is_shared"),
    [(None, False), ("cache:default", False), ("cache:database", True), ("redis://x", True)],
)
def test_external_ids_that_no_other_process_sees_are_told(project, given, is_shared):
    from permata_auth.integrations.django._settings import DjangoSettings

    project(SNAP_INBOUND_EXTERNAL_IDS=given)
    assert DjangoSettings().shares_external_ids() is is_shared


def test_the_command_shows_the_settings_and_no_secret(project):
    from django.core.management import CommandError, call_command

    project(SNAP_INBOUND_EXTERNAL_IDS="cache:database")
    out = io.StringIO()
    call_command("permata_snap", stdout=out)
    assert f"client key: {CLIENT_KEY}" in out.getvalue()
    assert "external ids: <CacheExternalIds 'database'>" in out.getvalue()
    assert SECRET not in out.getvalue()
    project(SNAP_INBOUND_CLIENT_KEY="a, b")
    with pytest.raises(CommandError, match="PERMATA_SNAP_INBOUND_CLIENT_KEY"):
        call_command("permata_snap")


def test_the_receiver_of_a_project_is_one_for_all(project, cache):
    from permata_auth.integrations.django.snap import get_receiver

    project(SNAP_INBOUND_EXTERNAL_IDS="cache:database")
    assert get_receiver() is get_receiver()
    paid = []
    get_receiver().on_payment(lambda value: paid.append(value) or {})
    bank = Caller(get_receiver())
    assert bank.pay().code == "2002500"
    assert bank.pay(flag="Y").code == "2002500"
    assert len(paid) == 1


def test_one_id_is_added_once_in_a_cache(cache):
    calls = together(8, lambda: cache.add("a", 60))
    assert sorted(call.value() for call in calls) == [False] * 7 + [True]
    cache.release("a")
    assert cache.add("a", 60)
    cache.keep("a", 60)
    assert cache.load("b") is None
    cache.save("b", b"value", 60)
    assert cache.load("b") == b"value"


def test_a_cache_that_is_down_or_keeps_nothing_is_an_outage(project, monkeypatch):
    from django.core.cache.backends.dummy import DummyCache

    from permata_auth.integrations.django.cache import CacheExternalIds, caches

    with pytest.raises(TokenStoreError, match="nowhere"):
        CacheExternalIds("nowhere").add("a", 60)
    monkeypatch.setattr(caches, "create_connection", lambda alias: DummyCache("", {}))
    with pytest.raises(TokenStoreError, match="does not keep"):
        CacheExternalIds("default").add("a", 60)


class JsonSerializer:
    """Keeps values as JSON, as django-redis and others are often told to."""

    def dumps(self, value):
        return json.dumps(value).encode()

    def loads(self, value):
        return json.loads(value)


def test_a_cache_that_keeps_its_values_as_json_is_as_good(project):
    pytest.importorskip("redis")
    from support.redis_server import RedisServer, servers

    if not servers():
        pytest.skip("no redis-server here, and none from PyPI")
    from django.test import override_settings

    from permata_auth.integrations.django.cache import CacheExternalIds

    server = RedisServer(next(iter(servers().values()))).come_up()
    backend = "django.core.cache.backends.redis.RedisCache"
    options = {"serializer": f"{__name__}.JsonSerializer"}
    redis = {"BACKEND": backend, "LOCATION": server.url, "OPTIONS": options}
    every_byte = bytes(range(256))
    try:
        with override_settings(CACHES={"default": redis}):
            ids = CacheExternalIds("default")
            assert [ids.add("a", 60), ids.add("a", 60)] == [True, False]
            ids.save("b", every_byte, 60)
            assert ids.load("b") == every_byte
    finally:
        server.close()


def test_flask_reads_its_config_and_shows_it():
    flask = pytest.importorskip("flask")
    from permata_auth.integrations.flask import PermataAuthExtension
    from permata_auth.integrations.flask_snap import snap_receiver

    app = flask.Flask(__name__)
    app.config.update({f"PERMATA_{name}": value for name, value in INBOUND.items()})
    PermataAuthExtension(app)
    assert Caller(snap_receiver(app)).ask_token().code == "2007300"
    shown = app.test_cli_runner().invoke(args=["permata", "snap"])
    assert (shown.exit_code, SECRET in shown.output) == (0, False)
    assert "keys of the bank: 1" in shown.output
    assert "memory" in shown.output
    app.config["PERMATA_SNAP_INBOUND_CLIENT_KEY"] = ""
    with pytest.raises(ConfigurationError, match="INBOUND_CLIENT_KEY"):
        snap_receiver(app)
    refused = app.test_cli_runner().invoke(args=["permata", "snap"])
    assert (refused.exit_code, "INBOUND_CLIENT_KEY" in refused.output) == (1, True)
