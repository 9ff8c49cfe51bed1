"""Applications whose settings say that the bank's SNAP side is spoken."""

from __future__ import annotations

import io

import pytest

flask = pytest.importorskip("flask")
pytest.importorskip("django")
celery = pytest.importorskip("celery")
pytest.importorskip("cryptography")

import django.core.checks
from django.core.management import call_command
from django.test import override_settings

from permata_auth import ConfigurationError
from permata_auth.integrations import django as django_integration
from permata_auth.integrations.celery import PermataTask, init_celery
from permata_auth.integrations.flask import PermataAuthExtension, blueprint
from permata_auth.sandbox import SnapRules

from . import django_settings  # noqa: F401 - configures Django

CHECKS = ["configuration", "name", "connection", "clock", "login", "signature", "store"]


@pytest.fixture
def settings(bank):
    """Return settings as an application has them: typed, and no text where that is usual."""
    bank.snap_rules = SnapRules(sign_query=False, external_id_length=24)
    return bank.snap_environment() | {
        "PERMATA_SNAP_SIGN_QUERY": False,
        "PERMATA_SNAP_ALLOW_INSECURE_HTTP": True,
        "PERMATA_SNAP_EXTERNAL_ID_LENGTH": 24,
    }


@pytest.fixture
def url(bank):
    return f"{bank.snap_url}/v1.0/balance-inquiry?x=1"


@pytest.fixture
def make_app(monkeypatch):
    extensions = []

    def make(given):
        app = flask.Flask("test")
        app.config.update(given)
        permata = PermataAuthExtension(app)
        app.register_blueprint(blueprint, url_prefix="/permata")
        app.add_url_rule(
            "/balance",
            view_func=lambda: permata.session.post(
                app.config["BANK_URL"], json={"accountNo": "1"}
            ).json(),
        )
        extensions.append(app.extensions["permata_auth"])
        return app

    yield make
    for each in extensions:
        each.close()


@pytest.fixture
def configure():
    active = []

    def configure(given):
        keys = {name.removeprefix("PERMATA_"): value for name, value in given.items()}
        active.append(override_settings(PERMATA_AUTH=keys))
        active[-1].enable()

    yield configure
    for override in active:
        override.disable()


def verdicts(output):
    return [line.split()[:2] for line in output.splitlines()]


def test_a_flask_app_calls_the_bank(make_app, bank, settings, url):
    client = make_app(settings | {"BANK_URL": url}).test_client()
    assert [client.get("/balance").get_json()["responseCode"] for _ in range(2)] == ["2001100"] * 2
    assert client.get("/permata/health/ready").status_code == 200
    assert (bank.logins, bank.calls_by_status, bank.duplicates) == (1, {"200": 2}, 0)


def test_a_flask_app_is_examined(make_app, bank, settings, url, secrets):
    runner = make_app(settings).test_cli_runner()
    ran = runner.invoke(args=["permata", "doctor", "--url", url])
    assert verdicts(ran.output)[:-1] == [["ok", name] for name in CHECKS[:-1]], ran.output
    assert not secrets.found_in(ran.output)
    assert bank.snap_token_url in runner.invoke(args=["permata", "status"]).output


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("CLIENT_SECRET", "example-other-secret", "check PERMATA_SNAP_CLIENT_SECRET"),
        ("PARTNER_ID", "example-other", "check PERMATA_SNAP_PARTNER_ID"),
        ("CLIENT_ID", "example-other", "PERMATA_SNAP_CLIENT_ID"),
        ("TOKEN_URL", "https://bank.invalid/x", "check PERMATA_SNAP_TOKEN_URL"),
        ("CHANNEL_ID", None, "channel_id is needed to sign calls"),
        ("SIGN_QUERY", "perhaps", "PERMATA_SNAP_SIGN_QUERY must be"),
        ("PRIVATE_KEY", "nonsense", "PERMATA_SNAP_PRIVATE_KEY"),
    ],
)
def test_the_doctor_names_the_settings_of_the_scheme(make_app, settings, url, name, value, words):
    runner = make_app(settings | {f"PERMATA_SNAP_{name}": value}).test_cli_runner()
    ran = runner.invoke(args=["permata", "doctor", "--url", url])
    assert ran.exit_code != 0
    found = next(line for line in ran.output.splitlines() if line.startswith("FAIL"))
    assert words in found
    assert "PERMATA_" not in found.replace("PERMATA_SNAP_", "")


def test_a_refused_timestamp_is_the_clocks(make_app, bank, settings, url):
    bank.fail_next(2, "clock", on="calls")  # the first request asks for the clock alone
    runner = make_app(settings).test_cli_runner()
    ran = runner.invoke(args=["permata", "doctor", "--url", url])
    assert "the bank does not accept the timestamp; check this machine's clock" in ran.output


def test_missing_settings_are_those_of_the_scheme(make_app):
    app = make_app({"PERMATA_SCHEME": "snap"})
    ran = app.test_cli_runner().invoke(args=["permata", "status"])
    assert ran.exit_code == 1
    for name in ("TOKEN_URL", "CLIENT_ID", "CLIENT_SECRET", "PRIVATE_KEY"):
        assert f"PERMATA_SNAP_{name} is missing" in ran.output
    assert "API_KEY" not in ran.output


def test_a_django_project_calls_the_bank(configure, bank, settings, url):
    configure(settings)
    session = django_integration.get_session()
    assert session.post(url, json={"accountNo": "1"}).json()["responseCode"] == "2001100"
    assert (bank.logins, bank.calls_by_status) == (1, {"200": 1})
    out = io.StringIO()
    call_command("permata_doctor", url=url, stdout=out)
    assert verdicts(out.getvalue())[:-1] == [["ok", name] for name in CHECKS[:-1]]


def _found():
    found = django.core.checks.run_checks(include_deployment_checks=True)
    return [each for each in found if "permata" in each.id]


def test_the_checks_of_a_django_project_know_the_settings_of_the_scheme(configure, bank, settings):
    far = {"PERMATA_CALLBACK_STATUS_URL": "http://bank.invalid/", "PERMATA_APP_SECRETS": "example"}
    inbound = bank.merchant_environment() | {
        "PERMATA_SNAP_INBOUND_EXTERNAL_IDS": "redis://127.0.0.1:1"
    }
    configure(settings | inbound | far)  # plain http is allowed by the scheme's own setting
    assert _found() == []
    assert bank.login_attempts == 0


@pytest.mark.parametrize(
    ("changes", "number", "words"),
    [
        ({"PERMATA_SNAP_CLINT_ID": "example"}, "E001", "SNAP_CLINT_ID"),
        ({"PERMATA_SNAP_CLIENT_ID": None}, "E002", "PERMATA_SNAP_CLIENT_ID is missing"),
        ({"PERMATA_SNAP_PRIVATE_KEY": "x"}, "E002", "PERMATA_SNAP_PRIVATE_KEY"),
        ({"PERMATA_SNAP_SIGN_QUERY": "perhaps"}, "E002", "PERMATA_SNAP_SIGN_QUERY"),
        ({"PERMATA_SNAP_EXTERNAL_ID_LENGTH": 9}, "E002", "PERMATA_SNAP_EXTERNAL_ID_LENGTH"),
        ({"PERMATA_SNAP_EXTERNAL_ID_LENGTH": True}, "E002", "PERMATA_SNAP_EXTERNAL_ID_LENGTH"),
        ({"PERMATA_SCHEME": "snapp"}, "E002", "PERMATA_SCHEME must be classic or snap"),
    ],
    ids=str,
)
def test_a_wrong_setting_is_named_by_a_check(configure, settings, changes, number, words):
    configure(settings | changes)
    (found,) = _found()
    assert found.id == f"permata_auth.{number}"
    assert words in found.msg


def test_a_celery_task_calls_the_bank(bank, settings, url):
    app = celery.Celery("test", set_as_current=False)
    app.conf.task_always_eager = True
    permata = init_celery(app, settings=settings)

    @app.task(base=PermataTask)
    def balance():
        return permata.session.post(url, json={"accountNo": "1"}).json()

    try:
        assert balance.delay().get()["responseCode"] == "2001100"
    finally:
        permata.close()
    assert (bank.logins, bank.calls_by_status) == (1, {"200": 1})


def test_celery_names_what_is_missing():
    permata = init_celery(
        celery.Celery("test", set_as_current=False), settings={"PERMATA_SCHEME": "snap"}
    )
    with pytest.raises(ConfigurationError, match="PERMATA_SNAP_TOKEN_URL is missing"):
        _ = permata.handler
