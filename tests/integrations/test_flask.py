from __future__ import annotations

import io
import threading

import pytest

flask = pytest.importorskip("flask")

from flask.testing import EnvironBuilder
from werkzeug.test import run_wsgi_app

from permata_auth import ConfigurationError
from permata_auth.integrations.flask import PermataAuthExtension, blueprint

from .webhooks import RECEIPT, SECRET, signature


@pytest.fixture
def make_app(monkeypatch):
    """Make apps for banks: ``make_app(bank, PERMATA_BACKGROUND=False)``; stop them at the end."""
    apps = []
    for name in ("TOKEN_URL", "API_KEY", "CLIENT_ID", "CLIENT_SECRET", "STATIC_KEY"):
        monkeypatch.delenv(f"PERMATA_{name}", raising=False)

    def make(bank=None, extension=None, **config):
        app = flask.Flask("test")
        app.config.update(bank.environment() if bank else {}, **config)
        (extension or PermataAuthExtension()).init_app(app)
        app.register_blueprint(blueprint, url_prefix="/permata")
        apps.append(app)
        return app

    yield make
    for app in apps:
        app.extensions["permata_auth"].close()


def _has_started(app) -> bool:
    return bool(app.extensions["permata_auth"]._made)


def test_a_request_calls_the_bank_with_a_signed_session(make_app, bank):
    permata = PermataAuthExtension()
    app = make_app(bank, permata)

    @app.get("/balance")
    def balance():
        return permata.session.post(f"{bank.url}/apiservice/balance/inq", json={"a": "b c"}).json()

    answer = app.test_client().get("/balance")

    assert answer.json["StatusCode"] == "00"
    assert (bank.logins, bank.calls_by_status) == (1, {"200": 1})


def test_the_constructor_takes_the_app(bank):
    app = flask.Flask("test")
    app.config.update(bank.environment(), PERMATA_BACKGROUND=False)
    permata = PermataAuthExtension(app)

    with app.app_context():
        assert permata.handler.get_token()
        assert permata.handler.info().next_refresh_at is None


def test_nothing_is_started_or_read_before_the_first_use(make_app, bank):
    threads = threading.active_count()
    app = make_app(None)  # has no settings at all

    assert not _has_started(app)
    assert threading.active_count() <= threads  # those of tests before this one may end

    app.config.update(bank.environment())
    with app.app_context():
        assert PermataAuthExtension().handler.get_token()


def test_missing_settings_are_named_at_the_first_use(make_app):
    app = make_app(None)

    with app.app_context(), pytest.raises(ConfigurationError) as caught:
        _ = PermataAuthExtension().handler

    assert "PERMATA_TOKEN_URL" in str(caught.value)
    assert "PERMATA_CLIENT_SECRET" in str(caught.value)


def test_the_environment_fills_in_what_the_config_lacks(make_app, bank, monkeypatch):
    given = bank.environment()
    monkeypatch.setenv("PERMATA_CLIENT_SECRET", given.pop("PERMATA_CLIENT_SECRET"))
    monkeypatch.setenv("PERMATA_TOKEN_URL", "https://bank.invalid/never")
    app = make_app(None, **given)

    with app.app_context():
        assert PermataAuthExtension().handler.get_token()


def test_two_apps_of_one_extension_have_handlers_of_their_own(make_app, make_bank):
    permata = PermataAuthExtension()
    banks = [make_bank(), make_bank()]
    handlers = []
    for bank in banks:
        with make_app(bank, permata).app_context():
            permata.handler.get_token()
            handlers.append(permata.handler)

    assert handlers[0] is not handlers[1]
    assert [bank.logins for bank in banks] == [1, 1]


def test_a_given_handler_serves_every_app(make_app, make_handler, bank):
    handler = make_handler(bank.credentials())
    permata = PermataAuthExtension(handler=handler)
    for app in (make_app(None, permata), make_app(None, permata)):
        with app.app_context():
            assert permata.handler is handler


def test_the_session_is_one_for_all_requests_and_never_waits_for_ever(make_app, bank):
    app = make_app(bank)
    with app.app_context():
        session = PermataAuthExtension().session
    with app.app_context():
        assert PermataAuthExtension().session is session
    sent = []
    session.mount("http://", _Adapter(sent))

    with app.app_context():
        session.get(f"{bank.url}/apiservice/x")
        session.get(f"{bank.url}/apiservice/x", timeout=1.5)

    assert sent == [(5.0, 30.0), 1.5]


class _Adapter:
    def __init__(self, sent):
        from requests.adapters import HTTPAdapter

        self._adapter, self._sent = HTTPAdapter(), sent

    def send(self, request, **how):
        self._sent.append(how["timeout"])
        return self._adapter.send(request, **how)

    def close(self):
        self._adapter.close()


def test_margins_and_event_hook_reach_the_handler(make_app, bank):
    events = []
    permata = PermataAuthExtension(on_event=events.append)
    app = make_app(bank, permata, PERMATA_REFRESH_BUFFER_SECS=100, PERMATA_MIN_SCHEDULE_TIME_SECS=1)

    with app.app_context():
        permata.handler.get_token()
        config = permata.handler.scheduler.config

    assert (config.refresh_buffer_secs, config.min_schedule_time_secs) == (100.0, 1.0)
    assert "LoginSucceeded" in [type(event).__name__ for event in events]


@pytest.mark.parametrize(
    "wrong",
    [
        {"PERMATA_REFRESH_BUFFER_SECS": "soon"},
        {"PERMATA_MIN_SCHEDULE_TIME_SECS": -1},
        {"PERMATA_BACKGROUND": "perhaps"},
        {"PERMATA_TOKEN_STORE": "ftp://somewhere"},
    ],
)
def test_a_wrong_setting_is_named(make_app, bank, wrong):
    app = make_app(bank, **wrong)

    with app.app_context(), pytest.raises(ConfigurationError, match="|".join(_words(wrong))):
        _ = PermataAuthExtension().handler


def _words(wrong):
    names = [name.removeprefix("PERMATA_") for name in wrong]
    return names + [name.lower() for name in names]


def test_without_init_app_the_error_says_so(bank):
    with flask.Flask("test").app_context(), pytest.raises(RuntimeError, match="init_app"):
        _ = PermataAuthExtension().handler


# The blueprint.


def test_a_webhook_is_forwarded_and_answered_by_the_bank(make_app, bank):
    app = make_app(bank, PERMATA_APP_SECRETS=[SECRET, "example-next-secret"])

    answer = app.test_client().post(
        "/permata/webhook", data=RECEIPT, headers={"X-Hub-Signature-256": signature(RECEIPT)}
    )

    assert (answer.status_code, answer.json["StatusCode"]) == (200, "00")
    assert bank.deliveries == (RECEIPT,)


def test_a_webhook_with_a_wrong_signature_is_refused(make_app, bank):
    app = make_app(bank, PERMATA_APP_SECRETS=SECRET)

    answer = app.test_client().post(
        "/permata/webhook", data=RECEIPT, headers={"X-Hub-Signature-256": "sha256=00"}
    )

    assert (answer.status_code, answer.json["StatusCode"]) == (401, "06")
    assert not bank.deliveries


@pytest.mark.parametrize("limit", [{"PERMATA_MAX_BODY_BYTES": 20}, {"MAX_CONTENT_LENGTH": 20}])
def test_a_webhook_that_is_too_large_is_refused(make_app, bank, limit):
    answer = make_app(bank, **limit).test_client().post("/permata/webhook", data=RECEIPT)

    assert (answer.status_code, answer.json["StatusCode"]) == (413, "06")
    assert not bank.deliveries


class Stream(io.RawIOBase):
    """An endless stream, or one that ends with ``body``; gives ``step`` bytes at a time."""

    def __init__(self, step, body=None):
        self.given = 0
        self._step, self._body = step, body

    def readable(self):
        return True

    def readinto(self, buffer):
        size = min(len(buffer), self._step)
        if self._body is not None:
            size = min(size, len(self._body) - self.given)
            buffer[:size] = self._body[self.given : self.given + size]
        self.given += size
        return size


def _post(app, stream):
    environ = EnvironBuilder(app, "/permata/webhook", method="POST").get_environ()
    environ |= {"wsgi.input": stream, "wsgi.input_terminated": True}
    return run_wsgi_app(app, environ)[1]


def test_no_more_of_a_body_is_read_than_is_allowed(make_app, bank):
    stream = Stream(100)

    assert _post(make_app(bank, PERMATA_MAX_BODY_BYTES=1000), stream).startswith("413")
    assert stream.given == 1001


def test_a_body_that_arrives_bit_by_bit_is_read_to_its_end(make_app, bank):
    assert _post(make_app(bank), Stream(7, RECEIPT)).startswith("200")
    assert bank.deliveries == (RECEIPT,)


def test_health_without_a_need_for_a_token_is_good(make_app, bank):
    answer = make_app(bank).test_client().get("/permata/health")

    assert (answer.status_code, answer.json["status"]) == (200, "success")
    assert bank.login_attempts == 0


def test_health_tells_the_seconds_left(make_app, bank):
    app = make_app(bank)
    with app.app_context():
        PermataAuthExtension().handler.get_token()

    answer = app.test_client().get("/permata/health")

    assert answer.status_code == 200
    assert 890 < answer.json["token_seconds_left"] <= 900


def test_health_is_bad_after_a_failed_login_and_good_after_the_next_one(make_app, bank):
    app = make_app(bank)
    client = app.test_client()
    bank.fail_next(1, status=401, on="token")
    with app.app_context():
        permata = PermataAuthExtension()
        with pytest.raises(Exception, match="401"):
            permata.handler.get_token()
        failed = client.get("/permata/health")
        permata.handler.refresh()
        good = client.get("/permata/health")
        permata.handler.invalidate()
        dropped = client.get("/permata/health")

    assert (failed.status_code, failed.json["status"]) == (503, "error")
    assert (good.status_code, dropped.status_code) == (200, 200)


def test_health_does_not_wait_for_a_login(make_app, bank):
    app = make_app(bank)
    with app.app_context():
        handler = PermataAuthExtension().handler
    gate = bank.hold_next(1, on="token")
    waiting = threading.Thread(target=handler.get_token, daemon=True)
    waiting.start()
    assert gate.arrived.wait(10)

    answer = app.test_client().get("/permata/health")

    gate.release()
    waiting.join(10)
    assert answer.status_code == 200


def test_health_without_settings_is_bad_and_names_no_value(make_app):
    answer = make_app(None).test_client().get("/permata/health")

    assert answer.status_code == 503
    assert "PERMATA" not in answer.text


# The commands.


def test_the_token_command_prints_one_token(make_app, bank):
    ran = make_app(bank).test_cli_runner().invoke(args=["permata", "token"])

    assert ran.exit_code == 0
    assert ran.output.strip() in bank._tokens


def test_the_status_command_logs_nobody_in(make_app, bank, tmp_path):
    app = make_app(bank, PERMATA_TOKEN_STORE=tmp_path.as_uri())

    before = app.test_cli_runner().invoke(args=["permata", "status"])
    with app.app_context():
        value = PermataAuthExtension().handler.get_token()
    after = app.test_cli_runner().invoke(args=["permata", "status"])

    assert "token in it: none" in before.output
    assert "s left" in after.output
    assert value not in after.output
    assert bank.logins == 1


def test_the_status_command_without_settings_names_them(make_app):
    ran = make_app(None).test_cli_runner().invoke(args=["permata", "status"])

    assert ran.exit_code == 1
    assert "PERMATA_TOKEN_URL" in ran.output
    assert "Traceback" not in ran.output
