"""The tables of inbound SNAP, over HTTP: the frameworks change none of the verified bytes."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import pytest
from snap_inbound.test_calls import ROWS as CALL_ROWS
from snap_inbound.test_token_requests import ROWS as TOKEN_ROWS
from support.inbound import NOTIFY_PATH, SECRET, TOKEN_PATH, Caller, receiver
from support.threads import until

from permata_auth.snap_inbound import SnapRefusal, SnapResponse

flask = pytest.importorskip("flask")


class OverFlask:
    """A receiver behind a Flask application, by the interface of a receiver."""

    def __init__(self, made):
        from permata_auth.integrations.flask_snap import snap_blueprint

        app = flask.Flask(__name__)
        app.register_blueprint(snap_blueprint(made))
        app.register_blueprint(snap_blueprint(made), url_prefix="/example/prefix", name="other")
        self._client = app.test_client()

    def process(self, method, path, headers, body):
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        answer = self._client.open(path, method=method, headers=list(pairs), data=body)
        return SnapResponse(
            http_status=answer.status_code, headers=dict(answer.headers), body=answer.data
        )


class OverDjango:
    """A receiver behind a Django view."""

    def __init__(self, made):
        pytest.importorskip("django")
        from django.test import RequestFactory

        from integrations import django_settings  # noqa: F401 - configures Django
        from permata_auth.integrations.django.snap import snap_view

        self._factory = RequestFactory()
        self._view = snap_view(made)

    def process(self, method, path, headers, body):
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        environ = {}
        for name, value in pairs:  # as a WSGI server joins them
            key = name.upper().replace("-", "_")
            key = key if key == "CONTENT_TYPE" else f"HTTP_{key}"
            environ[key] = f"{environ[key]},{value}" if key in environ else value
        environ = {"CONTENT_TYPE": "", **environ, "RAW_URI": path}
        request = self._factory.generic(method, path, body, **environ)
        answer = self._view(request)
        return SnapResponse(
            http_status=answer.status_code, headers=dict(answer.headers), body=answer.content
        )


@pytest.fixture
def reached():
    return []


@pytest.fixture
def made(secrets, reached):
    secrets.add(SECRET)
    made = receiver(partner_id="example-partner", channel_id="12345")
    made.on(NOTIFY_PATH.removeprefix("/v1.0"), 52, lambda call: reached.append(call) or {})
    return made


@pytest.fixture(params=[OverFlask, OverDjango])
def bank(request, made):
    return Caller(request.param(made))


def _can_be_sent(changes):
    """Leave out rows that no HTTP client sends, and the method that Flask knows by itself."""
    texts = [each for each in changes.values() if isinstance(each, str)]
    return all(text.isascii() and text.isprintable() for text in texts) and (
        changes.get("path", "/").startswith("/") and changes.get("method") != "post"
    )


@pytest.mark.parametrize(
    "row", [row for row, (changes, *_) in TOKEN_ROWS.items() if _can_be_sent(changes)]
)
def test_token_requests(bank, row):
    changes, code, message = TOKEN_ROWS[row]
    answer = bank.ask_token(**changes)
    assert answer.code == code
    assert message is None or answer.message == message


@pytest.mark.parametrize(
    "row", [row for row, (changes, *_) in CALL_ROWS.items() if _can_be_sent(changes)]
)
def test_calls_of_services(bank, reached, row):
    changes, code, message = CALL_ROWS[row]
    answer = bank.call(**changes)
    assert answer.code == code
    assert message is None or answer.message == message
    assert reached == []


@pytest.mark.parametrize("name", ["X-SIGNATURE", "X-TIMESTAMP", "X-EXTERNAL-ID", "CHANNEL-ID"])
def test_a_repeated_header_is_refused(bank, reached, name):
    headers = bank.headers()
    answer = bank.call(headers=[*headers.items(), (name, headers[name])])
    assert answer.code == "4005201"
    assert reached == []


@pytest.mark.parametrize("prefix", ["", "/example/prefix"])
@pytest.mark.parametrize("query", ["", "?a=%20b&c=%2B"])
def test_the_path_is_verified_as_it_was_sent(bank, reached, prefix, query):
    path = f"{prefix}{NOTIFY_PATH}{query}"
    assert bank.call(path=path).code == "2005200"
    assert bank.call(path=path, headers=bank.headers(path=f"{path}x")).code == "4015200"
    assert len(reached) == 1


def test_ten_megabytes_are_refused(bank, reached):
    assert bank.call(b" " * 10 * 1024 * 1024).code == "4005200"
    assert bank.ask_token(body=b" " * 10 * 1024 * 1024).code == "4007300"
    assert reached == []


def test_every_method_is_answered_by_the_receiver(bank):
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        assert bank.ask_token(method=method, path=TOKEN_PATH).code == "4057300"


# Database connections of the merchant's function, in Django.


@pytest.fixture
def opened():
    """The connections that functions have opened, each to a SQLite file."""
    pytest.importorskip("django")
    from integrations import django_settings  # noqa: F401 - configures Django

    found = []
    yield found
    for connection in found:
        connection.inc_thread_sharing()  # each belongs to its thread
        connection.close()


def over_django(function, **changes):
    made = receiver(**changes)
    made.on(NOTIFY_PATH.removeprefix("/v1.0"), 52, function)
    return Caller(OverDjango(made))


def query(opened):
    """Use the database, as a merchant's function does."""
    from django.db import connections

    connection = connections["default"]
    with connection.cursor() as cursor:
        assert cursor.execute("select 1").fetchone() == (1,)
    assert connection.connection is not None
    opened.append(connection)
    return {}


def answers(function, opened):
    """Return a function that uses the database first."""

    def answer(call):
        query(opened)
        return function(call)

    return answer


def test_connections_of_a_function_are_closed_before_the_answer(secrets, opened):
    secrets.add(SECRET)

    def refuse(call):
        raise SnapRefusal("12", "Bill not found")

    def fail(call):
        raise ValueError

    for function, code in ((lambda call: {}, "2005200"), (refuse, "4045212"), (fail, "5005200")):
        assert over_django(answers(function, opened)).call().code == code
        assert opened[-1].connection is None
    assert len({id(connection) for connection in opened}) == 3


def test_connections_of_a_slow_function_are_closed_when_it_ends(secrets, opened):
    secrets.add(SECRET)
    gate, queried = threading.Event(), threading.Event()

    def wait(call):
        queried.set()
        gate.wait(30)
        return {}

    bank = over_django(answers(wait, opened), time_limit_secs=0.05)
    assert bank.call().code == "5045200"
    assert queried.wait(30)
    assert opened[0].connection is not None
    gate.set()
    until(lambda: opened[0].connection is None, what="the connection is closed")


def test_connections_of_the_request_stay_open(secrets, opened):
    from django.db import connections

    secrets.add(SECRET)
    query(opened)
    mine = connections["default"]
    assert over_django(lambda call: query(opened)).call().code == "2005200"
    assert mine.connection is not None
    assert opened[1].connection is None


def test_a_connection_that_cannot_be_closed_changes_no_answer(secrets, opened, caplog):
    secrets.add(SECRET)
    calls = []

    def spoil(call):
        calls.append(call)
        opened[-1].close = fail
        return {}

    def fail():
        raise ConnectionError("example-secret-text")

    bank = over_django(answers(spoil, opened))
    headers = bank.headers()
    assert [bank.call(headers=headers).code for _ in range(2)] == ["2005200", "4095200"]
    assert len(calls) == 1
    told = [r.getMessage() for r in caplog.records if "could not be closed" in r.getMessage()]
    assert told == ["A database connection could not be closed: ConnectionError"]
    del opened[-1].close
