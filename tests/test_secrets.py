"""No secret where people look: errors and their frames, pickles, reprs, log records."""

from __future__ import annotations

import copy
import logging
import pickle
import traceback

import pytest
import requests
from support.certificates import Authority
from support.wire import RawServer, always, once, read_request, reply

from permata_auth import (
    AccessToken,
    CallbackStatusClient,
    ConfigurationError,
    LoginClient,
    LoginHandler,
    PermataAuth,
    PermataAuthError,
    PermataCredentials,
    RetryPolicy,
    WebhookProcessor,
    _clock,
    sign_request,
)
from permata_auth._http import Connections, exchange
from permata_auth.schemes.base import TokenRequest, TokenResponse

QUICK = RetryPolicy(attempts=2, wait_initial=0.01, wait_max=0.01, timeout=0.6)
BAD_TOKEN = "example-bad-token with-a-space"


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    """Take away the machine's own proxies and certificates."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates"))


# Each way to fail gives credentials for a bank, or a server, that fails in this way.


def _injected(fault, **arguments):
    def fail(bank, stack, authority):
        bank.fail_for(60, fault, **arguments)
        return bank.credentials()

    return fail


def _misconfigured(**fields):
    return lambda bank, stack, authority: bank.credentials(**fields)


def _served(handle, *, is_tls=False):
    def fail(bank, stack, authority):
        server = RawServer(handle, context=authority.context() if is_tls else None)
        stack.enter_context(server)
        return bank.credentials(token_url=server.token_url)

    return fail


def _down(bank, stack, authority):
    bank.go_down()
    return bank.credentials()


def _echo(status, shape):
    """Answer with all that was received, as a bank might that explains itself too well."""

    def handle(sock):
        while (request := read_request(sock)) is not None:
            text = request.decode("latin-1")
            words = " ".join(text.split())
            body = {
                "oauth": {"error": words, "error_description": words},
                "bank": {"ErrorCode": words, "ErrorDescription": words},
                "html": f"<html><pre>{text}</pre></html>".encode(),
                "token": {"access_token": words, "expires_in": words},
            }[shape]
            sock.sendall(reply(body, status=status, head=f"X-Echo: {words}"))

    return handle


FAILURES = {
    "wrong secret": _misconfigured(client_secret="example-wrong-secret"),
    "wrong static key": _misconfigured(static_key="example-wrong-key"),
    "wrong path": lambda bank, *_: bank.credentials(token_url=bank.url + "/?q=example-query"),
    "host that cannot be one": lambda bank, *_: bank.credentials(token_url="https://a..invalid/"),
    "connection refused": _down,
    "clock": _injected("clock"),
    "redirect": _injected("redirect", location="https://bank.invalid/?q=example-query"),
    "unavailable": _injected("status", status=503),
    "drop": _injected("drop"),
    "reset amid the body": _injected("reset", at="body"),
    "truncated": _injected("truncated"),
    "drip of the headers": _injected("drip", interval=0.05, part="headers"),
    "drip of the body": _injected("drip", interval=0.05),
    "huge": _injected("huge"),
    "html": _injected("html"),
    "bad token": _injected("json", json_fields={"access_token": BAD_TOKEN}),
    "bad lifetime": _injected("json", json_fields={"expires_in": "abc"}),
    "half a document": _injected("json", raw='{"access_token": "example-bad-token with-a'),
    "latin-1": _injected("json", raw=b'{"access_token": "example-bad-token with-a-space\xe9"}'),
    "bytes that are no HTTP": _served(once(b"nonsense\r\n\r\n")),
    "certificate": _served(always(reply()), is_tls=True),
    "malformed chunks": _served(
        once(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nexample\r\n0\r\n\r\n")
    ),
    **{
        f"{shape} that echoes, {status}": _served(_echo(status, shape))
        for shape in ("oauth", "bank", "html", "token")
        for status in ("200 OK", "400 Bad", "401 Bad", "403 Bad", "500 Bad", "302 Found")
    },
}


@pytest.fixture(params=FAILURES.values(), ids=list(FAILURES))
def failing(request, bank, authority, secrets):
    """Credentials with which every login fails, in one of all ways."""
    from contextlib import ExitStack

    secrets.add(
        "example-wrong-secret",
        "example-wrong-key",
        "example-bad-token",
        "with-a-space",
    )
    with ExitStack() as stack:
        yield request.param(bank, stack, authority)


def _check(error: BaseException, secrets) -> None:
    """Look at an error in every way in which one may come to be shown."""
    assert isinstance(error, PermataAuthError)
    assert error.__cause__ is error.__context__ is None
    # Frames of the network libraries hold the request: none may hang on to the error.
    files = {frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)}
    assert not [file for file in files if "permata_auth" not in file and "tests" not in file]
    assert not secrets.found_in_error(error)
    ours = traceback.TracebackException.from_exception(error, capture_locals=True)
    frames = [frame for frame in ours.stack if "permata_auth" in frame.filename]
    assert frames, "it is raised by the library"
    assert not secrets.found_in(repr([frame.locals for frame in frames]))
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        pickled = pickle.dumps(error, protocol)
        assert not secrets.found_in(pickled.decode("latin-1"))
        assert type(pickle.loads(pickled)) is type(error)
    assert not secrets.found_in_error(copy.copy(error))


def test_no_error_of_a_login_shows_a_secret(failing, secrets):
    with LoginClient(failing, retry=QUICK) as client:
        with pytest.raises(PermataAuthError) as caught:
            client.login()
        _check(caught.value, secrets)
        assert not secrets.found_in(repr(client))


def test_no_error_of_a_handler_shows_a_secret(failing, secrets):
    events = []
    with LoginClient(failing, retry=QUICK) as client:
        handler = LoginHandler(failing, client=client, on_event=events.append)
        for ask in (handler.get_token, handler.get_access_token, handler.refresh):
            with pytest.raises(PermataAuthError) as caught:
                ask()
            _check(caught.value, secrets)
        info = handler.info()
        handler.shutdown()
    assert info.last_error
    assert events
    assert not secrets.found_in(repr(info), str(info), repr(handler), repr(events))
    assert not secrets.found_in(pickle.dumps(info).decode("latin-1"))


def test_no_error_of_a_signed_call_shows_a_secret(failing, secrets):
    with LoginClient(failing, retry=QUICK) as client:
        handler = LoginHandler(failing, client=client)
        with pytest.raises(PermataAuthError) as caught:
            sign_request(handler, "POST", "https://bank.invalid/", b"{}")
        _check(caught.value, secrets)
        handler.shutdown()


def test_an_error_of_the_environment_shows_no_variable(secrets):
    secrets.add("example-marked")
    environ = {
        f"PERMATA_{name}": "example-marked\0"
        for name in ("TOKEN_URL", "API_KEY", "CLIENT_ID", "CLIENT_SECRET", "STATIC_KEY")
    }
    with pytest.raises(ConfigurationError) as caught:
        PermataCredentials.from_env(environ)
    error = caught.value
    assert not secrets.found_in_error(error)
    assert not secrets.found_in(pickle.dumps(error).decode("latin-1"))


def test_an_error_of_the_constructor_says_no_value(secrets):
    secrets.add("example-marked")
    with pytest.raises(ConfigurationError) as caught:
        PermataCredentials(
            token_url="http://example-marked.invalid/",
            api_key="example-marked\n",
            client_id="example-marked:",
            client_secret="example-marked ",
            static_key=b"example-marked",
        )
    error = caught.value
    assert error.__cause__ is error.__context__ is None
    assert not secrets.found_in(str(error), repr(error), repr(vars(error)), repr(error.args))


def test_what_is_public_shows_no_secret(bank, make_handler, secrets):
    scheme = bank.credentials()
    secrets.add("example-app-secret")
    handler = make_handler(bank.credentials())
    token = handler.get_access_token()
    sender = CallbackStatusClient(handler, bank.callback_status_url)
    shown = [
        scheme,
        scheme.token_request(),
        scheme.read_token_response(b'{"access_token": "%b"}' % token.value.encode()),
        token,
        handler,
        handler.info(),
        handler.scheduler,
        handler.scheduler.info(),
        handler.scheduler.config,
        handler._client,
        handler._client.retry,
        PermataAuth(handler),
        sender,
        sender.send({"xid": "1", "error": None}),
        WebhookProcessor(sender, app_secrets=["example-app-secret"]),
        *bank.requests,
        *bank.tokens_issued,
        bank,
    ]
    sender.close()
    for each in shown:
        found = secrets.found_in(repr(each), str(each), f"{each}", repr([each]))
        assert not found, type(each)
    for value in (scheme, token, handler, handler._client, sender):
        with pytest.raises(TypeError):
            pickle.dumps(value)


@pytest.mark.parametrize("kind", [TokenRequest, TokenResponse])
def test_no_field_with_a_secret_takes_part_in_a_repr(kind, secrets):
    secrets.add("example-secret")
    if kind is TokenRequest:
        made = TokenRequest(
            url="https://x", headers={"Authorization": "example-secret"}, body=b"example-secret"
        )
    else:
        made = TokenResponse(value="example-secret", lifetime=1.0)
    assert not secrets.found_in(repr(made), str(made))


def test_a_query_of_the_token_url_is_shown_by_nothing_of_ours(bank, caplog):
    caplog.set_level(logging.DEBUG)
    scheme = bank.credentials(token_url=bank.token_url + "/none?q=example-query")
    with LoginClient(scheme, retry=QUICK) as client:
        handler = LoginHandler(scheme, client=client)
        with pytest.raises(PermataAuthError) as caught:
            handler.get_token()
        shown = [str(caught.value), repr(caught.value), repr(client), repr(handler), repr(scheme)]
        shown.append(repr(scheme.token_request()))
    # urllib3 by itself logs the whole path at DEBUG.
    shown += [repr(vars(r)) for r in caplog.records if r.name.startswith("permata_auth.")]
    assert not [text for text in shown if "example-query" in text]


def test_an_answer_of_the_bank_does_not_show_itself(secrets):
    secrets.add("example-secret")
    body = {"access_token": "example-secret"}
    connections = Connections(None)
    with RawServer(always(reply(body, head="Set-Cookie: example-secret=1"))) as server:
        answer = exchange(
            connections.get().session,
            "POST",
            server.url,
            headers={"Authorization": "Basic example-secret"},
            body=b"example-secret",
            timeout=(5, 5),
            deadline=_clock.now() + 5,
        )
        assert b"example-secret" in answer.body
        assert not secrets.found_in(repr(answer), repr(connections.get()))
    connections.close()


def test_log_records_of_the_whole_life_of_a_token_show_nothing(bank, caplog, secrets):
    caplog.set_level(logging.DEBUG)
    scheme = bank.credentials()
    with LoginHandler(scheme, client=LoginClient(scheme, retry=QUICK)) as handler:
        bank.fail_next(1, status=503)
        token = handler.get_token()
        with requests.Session() as session:
            session.auth = PermataAuth(handler)
            session.post(f"{bank.url}/apiservice/InquiryServices/BalanceInfo/inq", json={"a": 1})
            bank.revoke(token)
            session.post(f"{bank.url}/apiservice/InquiryServices/BalanceInfo/inq", json={"a": 1})
        handler.invalidate()
        bank.fail_next(5, status=401)
        with pytest.raises(PermataAuthError):
            handler.get_token()
        handler._client.close()
    loggers = {record.name.partition(".")[0] for record in caplog.records}
    assert {"permata_auth", "urllib3"} <= loggers
    texts = [f"{record.getMessage()} {vars(record)!r}" for record in caplog.records]
    assert not secrets.found_in(*texts)


def test_the_search_would_find_what_it_looks_for(bank, secrets):
    """The checks above are worth no more than this one."""
    token = LoginClient(bank.credentials()).login()
    sent = bank.requests[0].headers
    for secret in (
        token.value,
        sent["OAUTH-Signature"],
        sent["Authorization"].removeprefix("Basic "),
        "example-client-secret",
        "example-static-key",
        "example-api-key",
    ):
        assert secrets.found_in(f"before {secret} after"), "unknown secret"
        assert secrets.found_in_error(ValueError(secret))
        assert secrets.found_in_error(_caused(secret))


def _caused(secret):
    error = ValueError("harmless")
    error.__context__ = RuntimeError(secret)
    return error


def test_tokens_compare_by_value_yet_never_say_it(secrets):
    secrets.add("example-token")
    token = AccessToken(value="example-token", expires_at=_clock.to_datetime(_clock.wall() + 9))
    with pytest.raises(AssertionError) as caught:
        assert token == 7, token
    assert not secrets.found_in(str(caught.value))
