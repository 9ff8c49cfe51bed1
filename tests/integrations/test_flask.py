from __future__ import annotations

import io
import math
import sys
import threading

import pytest

flask = pytest.importorskip("flask")

from flask.testing import EnvironBuilder
from werkzeug.test import run_wsgi_app

from permata_auth import (
    CallbackStatusClient,
    CallbackStatusResponse,
    ConfigurationError,
    LoginHandler,
)
from permata_auth.integrations.flask import PermataAuthExtension, blueprint

from .webhooks import RECEIPT, SECRET, VERIFICATION, VERIFY_TOKEN, signature, signed

OPEN = {"PERMATA_ALLOW_UNSIGNED_WEBHOOKS": "on"}


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
        permata.handler.shutdown()  # waits for the events of the login

    assert (config.refresh_buffer_secs, config.min_schedule_time_secs) == (100.0, 1.0)
    assert "LoginSucceeded" in [type(event).__name__ for event in events]


WRONG = [
    ("PERMATA_REFRESH_BUFFER_SECS", ["soon", "nan", math.inf, -1, b"5", [], True]),
    ("PERMATA_MIN_SCHEDULE_TIME_SECS", [-1, "inf", {}]),
    ("PERMATA_BACKGROUND", ["perhaps", 2, b"true", []]),
    ("PERMATA_STOP_WHEN_IDLE", ["perhaps", 2, b"true", []]),
    ("PERMATA_CLOCK_CORRECTION", ["perhaps", 2, b"off", []]),
    ("PERMATA_WARM_UP", ["perhaps", 2, b"true", []]),
    ("PERMATA_TOKEN_STORE", ["ftp://somewhere", b"file:", 5, object(), object]),
    ("PERMATA_CLIENT_SECRET", [b"example", 12345, True, ["example"]]),
    ("PERMATA_TOKEN_URL", [5, b"https://bank.invalid/"]),
    ("PERMATA_CALLBACK_STATUS_URL", [5, b"https://bank.invalid/", "http://bank.invalid/"]),
    ("PERMATA_APP_SECRETS", [b"example", 5, [""], ["example", " "], [5], [b"example"], {"a": "b"}]),
    ("PERMATA_ALLOW_UNSIGNED_WEBHOOKS", ["perhaps", 2, b"on", []]),
    ("PERMATA_WEBHOOK_VERIFY_TOKEN", [5, b"example", ["example"]]),
    ("PERMATA_MAX_BODY_BYTES", ["many", math.nan, "inf", -1, 0, 1.5, b"5", True, []]),
]


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG for value in values]
)
def test_a_wrong_setting_is_named_by_the_status_command(make_app, bank, name, value):
    app = make_app(bank, **{"PERMATA_APP_SECRETS": SECRET} | {name: value})

    ran = app.test_cli_runner().invoke(args=["permata", "status"])

    assert ran.exit_code == 1
    assert name in ran.output or (name.endswith("STATUS_URL") and "callback status" in ran.output)
    assert "Traceback" not in ran.output
    assert isinstance(ran.exception, SystemExit)


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG for value in values[:2]]
)
def test_with_a_wrong_setting_no_webhook_is_taken(make_app, bank, name, value):
    app = make_app(bank, **{"PERMATA_APP_SECRETS": SECRET} | {name: value})

    answer = app.test_client().post("/permata/webhook", data=RECEIPT, headers=signed(RECEIPT))

    assert (answer.status_code, answer.json["StatusCode"]) == (503, "06")
    assert bank.requests == ()


@pytest.mark.parametrize(
    "arguments",
    [
        {"handler": "handler"},
        {"handler": LoginHandler},
        {"on_event": "print"},
        {"on_event": 5},
        {"app": "test"},
        {"app": flask.Flask},
    ],
    ids=repr,
)
def test_misuse_is_refused_where_it_happens(arguments):
    with pytest.raises(ConfigurationError, match=next(iter(arguments))):
        PermataAuthExtension(**arguments)


@pytest.mark.parametrize("is_other", [False, True])
def test_an_app_has_one_extension(make_app, bank, is_other):
    permata = PermataAuthExtension()
    app = make_app(bank, permata)
    before = app.extensions["permata_auth"]

    with pytest.raises(ConfigurationError, match="has a PermataAuthExtension already"):
        (PermataAuthExtension() if is_other else permata).init_app(app)

    assert app.extensions["permata_auth"] is before


def test_an_extension_with_another_handler_does_not_serve_this_app(make_app, make_handler, bank):
    app = make_app(bank)
    other = PermataAuthExtension(handler=make_handler(bank.credentials()))

    with app.app_context(), pytest.raises(RuntimeError, match="another PermataAuthExtension"):
        _ = other.session


def test_init_app_returns_the_app():
    app = flask.Flask("test")
    assert PermataAuthExtension().init_app(app) is app


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


@pytest.mark.parametrize(
    "given",
    [{}, {"PERMATA_APP_SECRETS": ""}, {"PERMATA_APP_SECRETS": "  "}, {"PERMATA_APP_SECRETS": " , "},
     {"PERMATA_APP_SECRETS": []}, {"PERMATA_APP_SECRETS": [""]},
     {"PERMATA_ALLOW_UNSIGNED_WEBHOOKS": False}, {"PERMATA_ALLOW_UNSIGNED_WEBHOOKS": ""}],
    ids=repr,
)  # fmt: skip
def test_without_an_app_secret_the_endpoint_is_closed(make_app, bank, given):
    app = make_app(bank, **given)

    for headers in ({}, signed(RECEIPT)):
        answer = app.test_client().post("/permata/webhook", data=RECEIPT, headers=headers)
        assert (answer.status_code, answer.json["StatusCode"]) == (503, "06")
    verified = app.test_client().get(f"/permata/webhook?{VERIFICATION}")
    status = app.test_cli_runner().invoke(args=["permata", "status"])

    assert verified.status_code == 503
    assert bank.requests == ()
    assert "PERMATA_APP_SECRETS" in status.output
    assert status.exit_code == (1 if given == {"PERMATA_APP_SECRETS": [""]} else 0)


def test_unsigned_webhooks_are_taken_where_they_are_allowed(make_app, bank):
    app = make_app(bank, **OPEN)

    assert app.test_client().post("/permata/webhook", data=RECEIPT).status_code == 200
    assert bank.deliveries == (RECEIPT,)
    status = app.test_cli_runner().invoke(args=["permata", "status"])
    assert "webhooks: taken from anybody" in status.output


def test_the_provider_verifies_the_endpoint(make_app, bank):
    app = make_app(bank, PERMATA_APP_SECRETS=SECRET, PERMATA_WEBHOOK_VERIFY_TOKEN=VERIFY_TOKEN)

    good = app.test_client().get(f"/permata/webhook?{VERIFICATION}")
    wrong = app.test_client().get(f"/permata/webhook?{VERIFICATION}&hub.verify_token=1")
    other = app.test_client().get("/permata/webhook")

    assert (good.status_code, good.data) == (200, b"1158201444")
    assert good.content_type.startswith("text/plain")
    assert [each.status_code for each in (wrong, other)] == [403, 403]


def test_without_a_verify_token_no_verification_is_accepted(make_app, bank):
    app = make_app(bank, PERMATA_APP_SECRETS=SECRET)

    assert app.test_client().get(f"/permata/webhook?{VERIFICATION}").status_code == 403


JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
READ_AND_KEPT = {
    "get_data": lambda request: request.get_data(),
    "get_data as text": lambda request: request.get_data(as_text=True),
    "data": lambda request: request.data,
    "get_json": lambda request: request.get_json(),
    "json": lambda request: request.json,
    "silent json": lambda request: request.get_json(force=True, silent=True),
    "form of a JSON request": lambda request: request.form,
    "values": lambda request: request.values,
    "twice": lambda request: (request.get_data(), request.form, request.get_json()),
}
READ_AND_LOST = {
    "stream": lambda request: request.stream.read(),
    "a part of the stream": lambda request: request.stream.read(5),
    "a part of the input": lambda request: request.environ["wsgi.input"].read(5),
    "the whole input": lambda request: request.environ["wsgi.input"].read(),
    "get_data without a cache": lambda request: request.get_data(cache=False),
    "get_json without a cache": lambda request: request.get_json(cache=False),
}


def _read_first(app, read):
    @app.before_request
    def before():
        read(flask.request)

    return app.test_client()


@pytest.mark.parametrize("name", READ_AND_KEPT)
@pytest.mark.parametrize(
    "settings", [{"PERMATA_APP_SECRETS": SECRET}, OPEN], ids=["closed", "open"]
)
def test_a_body_that_was_read_before_is_taken_from_where_flask_keeps_it(
    make_app, bank, name, settings
):
    client = _read_first(make_app(bank, **settings), READ_AND_KEPT[name])
    headers = signed(RECEIPT)

    good = client.post("/permata/webhook", data=RECEIPT, headers=headers, content_type=JSON)
    assert (good.status_code, bank.deliveries) == (200, (RECEIPT,))
    headers["X-Hub-Signature-256"] = "sha256=00"
    bad = client.post("/permata/webhook", data=RECEIPT, headers=headers, content_type=JSON)
    assert bad.status_code == (200 if settings is OPEN else 401)


@pytest.mark.parametrize("name", READ_AND_LOST)
@pytest.mark.parametrize(
    "settings", [{"PERMATA_APP_SECRETS": SECRET}, OPEN], ids=["closed", "open"]
)
def test_a_body_that_was_read_before_and_is_lost_is_no_webhook(make_app, bank, name, settings):
    client = _read_first(make_app(bank, **settings), READ_AND_LOST[name])

    answer = client.post(
        "/permata/webhook", data=RECEIPT, headers=signed(RECEIPT), content_type=JSON
    )

    assert (answer.status_code, answer.json["StatusCode"]) == (400, "06")
    assert bank.requests == ()


@pytest.mark.parametrize("content_type", [FORM, "multipart/form-data; boundary=x"])
@pytest.mark.parametrize("read", ["form", "files", "values", "data"])
def test_a_body_that_was_read_as_a_form_is_no_webhook(make_app, bank, content_type, read):
    app = make_app(bank, PERMATA_APP_SECRETS=SECRET)
    client = _read_first(app, lambda request: getattr(request, read))

    answer = client.post(
        "/permata/webhook", data=RECEIPT, headers=signed(RECEIPT), content_type=content_type
    )

    assert (answer.status_code, answer.json["StatusCode"]) == (400, "06")
    assert bank.requests == ()


@pytest.mark.parametrize(
    "environ",
    [
        {"CONTENT_LENGTH": "abc"},
        {"CONTENT_LENGTH": "-1"},
        {"CONTENT_LENGTH": "99999"},
        {"CONTENT_LENGTH": ""},
        {"CONTENT_TYPE": "\xff; charset=\xfe"},
        {"CONTENT_TYPE": "multipart/form-data"},
        {"HTTP_X_HUB_SIGNATURE_256": "\xff\xfe"},
    ],
    ids=repr,
)
def test_an_odd_request_is_the_senders_mistake(make_app, bank, environ):
    app = make_app(bank, PERMATA_APP_SECRETS=SECRET)

    answer = app.test_client().post("/permata/webhook", data=RECEIPT, environ_overrides=environ)

    assert answer.status_code in (400, 401)
    assert answer.json["StatusCode"] == "06"
    assert bank.requests == ()


@pytest.mark.parametrize("error", [ConnectionResetError, ValueError, RuntimeError])
def test_a_body_that_breaks_off_is_no_webhook(make_app, bank, error):
    class Broken(io.RawIOBase):
        def readable(self):
            return True

        def readinto(self, buffer):
            raise error

    assert _post(make_app(bank, **OPEN), Broken()).startswith("400")
    assert bank.requests == ()


@pytest.mark.parametrize("status", [204, 205, 304, 299, 599, 799])
def test_the_banks_status_is_the_answer_with_content_only_where_http_allows_it(
    make_app, bank, monkeypatch, status
):
    app = make_app(bank, **OPEN)
    reply = CallbackStatusResponse(
        http_status=status, status_code="00", status_desc="", body={"StatusCode": "00"}
    )
    monkeypatch.setattr(CallbackStatusClient, "send", lambda *_, **__: reply)

    answer = app.test_client().post("/permata/webhook", data=RECEIPT)

    assert answer.status_code == status
    assert answer.data == (b"" if status in (204, 205, 304) else b'{"StatusCode": "00"}')


def test_a_webhook_with_a_wrong_signature_is_refused(make_app, bank):
    app = make_app(bank, PERMATA_APP_SECRETS=SECRET)

    answer = app.test_client().post(
        "/permata/webhook", data=RECEIPT, headers={"X-Hub-Signature-256": "sha256=00"}
    )

    assert (answer.status_code, answer.json["StatusCode"]) == (401, "06")
    assert not bank.deliveries


@pytest.mark.parametrize("limit", [{"PERMATA_MAX_BODY_BYTES": 20}, {"MAX_CONTENT_LENGTH": 20}])
def test_a_webhook_that_is_too_large_is_refused(make_app, bank, limit):
    answer = make_app(bank, **OPEN, **limit).test_client().post("/permata/webhook", data=RECEIPT)

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

    assert _post(make_app(bank, **OPEN, PERMATA_MAX_BODY_BYTES=1000), stream).startswith("413")
    assert stream.given == 1001


def test_a_body_that_arrives_bit_by_bit_is_read_to_its_end(make_app, bank):
    assert _post(make_app(bank, **OPEN), Stream(7, RECEIPT)).startswith("200")
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
    assert 870 < answer.json["token_seconds_left"] <= 900


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


@pytest.mark.parametrize("command", ["token", "status", "doctor"])
def test_a_command_without_the_stores_extra_says_what_to_install(
    make_app, bank, command, monkeypatch
):
    monkeypatch.setitem(sys.modules, "filelock", None)
    monkeypatch.delitem(sys.modules, "permata_auth.stores.file", raising=False)
    app = make_app(bank, PERMATA_TOKEN_STORE="file:", PERMATA_APP_SECRETS=SECRET)

    ran = app.test_cli_runner().invoke(args=["permata", command])
    webhook = app.test_client().post("/permata/webhook", data=RECEIPT, headers=signed(RECEIPT))
    health = app.test_client().get("/permata/health")

    assert ran.exit_code == 1
    assert "pip install 'permata-auth[file]'" in ran.output
    assert (webhook.status_code, health.status_code) == (503, 503)


def test_the_doctor_examines_the_apps_own_settings(make_app, bank, tmp_path, secrets):
    app = make_app(bank, PERMATA_TOKEN_STORE=tmp_path.as_uri())

    ran = app.test_cli_runner().invoke(args=["permata", "doctor"])

    assert ran.exit_code == 0, ran.output
    assert [line.split()[:2] for line in ran.output.splitlines()] == [
        ["ok", name]
        for name in (
            "configuration", "name", "connection", "clock", "login", "signature", "store"
        )
    ]  # fmt: skip
    assert bank.calls_by_status["200"] == 1
    assert not secrets.found_in(ran.output)


def test_the_doctor_says_what_is_wrong_and_whether_waiting_helps(make_app, make_handler, bank):
    def ended(app, *more):
        ran = app.test_cli_runner().invoke(args=["permata", "doctor", *more])
        return ran.exit_code, ran.output

    code, output = ended(make_app(None))
    assert code == 1
    assert "PERMATA_TOKEN_URL is missing" in output
    bank.fail_next(status=503, on="token")
    assert ended(make_app(bank))[0] == 75
    bank.clear_faults()
    permata = PermataAuthExtension(handler=make_handler(bank.credentials()))
    code, output = ended(make_app(None, permata), "--url", bank.callback_status_url)
    assert code == 0
    assert "ok    signature" in output
