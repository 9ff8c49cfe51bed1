from __future__ import annotations

import base64
import copy
import hashlib
import hmac
import logging
import pickle
import time
from datetime import datetime, timedelta
from email.utils import formatdate

import pytest
import requests
from support.certificates import Authority
from support.clients import credentials
from support.threads import Call, together, until
from support.wire import Forwarder, Proxy, RawServer, always, once, read_request, reply

from permata_auth import (
    AccessToken,
    CertificateError,
    ClockError,
    ConfigurationError,
    InvalidClientError,
    InvalidTokenResponseError,
    LoginClient,
    PermataAuthError,
    RequestTimeoutError,
    RetryPolicy,
    TokenEndpointError,
    TokenEndpointUnavailableError,
    TransportError,
    _clock,
)

#: How late a bounded call may be on a machine that is busy with other things.
SLACK = 20.0


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    """Take away the proxies and certificates of the machine's own environment."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def make_client():
    """Make clients that wait little, and are closed at the end."""
    clients = []

    def make(scheme, *, budget=30.0, clock_correction=None, **arguments) -> LoginClient:
        given = {name: arguments.pop(name) for name in ("timeout", "session") if name in arguments}
        retry = RetryPolicy(**{"wait_initial": 0.01, "wait_max": 0.02, **arguments}, timeout=budget)
        given = {"timeout": (5.0, 5.0), "clock_correction": clock_correction} | given
        client = LoginClient(scheme, retry=retry, **given)
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def client(bank, make_client):
    return make_client(bank.credentials())


def failure(client: LoginClient) -> PermataAuthError:
    with pytest.raises(PermataAuthError) as caught:
        client.login()
    assert caught.value.__cause__ is caught.value.__context__ is None
    return caught.value


# A login.


def test_a_login_gives_the_token_of_the_bank(bank, client):
    token = client.login()
    assert isinstance(token, AccessToken)
    assert token.fingerprint == bank.tokens_issued[0].fingerprint
    assert (token.token_type, token.scope) == ("Bearer", "resource.READ resource.WRITE")
    assert 900 - SLACK < token.expires_in() <= 900
    assert (token.expires_at - token.issued_at).total_seconds() == pytest.approx(900, abs=0.01)
    assert (bank.logins, bank.login_attempts) == (1, 1)


def test_nothing_is_cached(bank, client):
    assert client.login().value != client.login().value
    assert bank.logins == 2


def test_the_bank_gets_wib_time_and_a_signature_over_the_same_timestamp(bank, client):
    client.login()
    headers = bank.requests[0].headers
    stamp = headers["OAUTH-Timestamp"]
    message = f"example-api-key:{stamp}:grant_type=client_credentials".encode()
    expected = base64.b64encode(
        hmac.new(b"example-static-key", message, hashlib.sha256).digest()
    ).decode()
    assert headers["OAUTH-Signature"] == expected
    sent_at = datetime.fromisoformat(stamp)
    assert sent_at.utcoffset() == timedelta(hours=7)
    assert abs(sent_at.timestamp() - time.time()) < 60


@pytest.mark.parametrize("skew", [-400, 400, 7 * 3600, -7 * 3600])
def test_a_clock_that_is_off_is_told_apart_from_wrong_credentials(bank, make_client, skew):
    bank.clock_skew = skew
    error = failure(make_client(bank.credentials(), clock_correction=False))
    assert type(error) is ClockError
    assert "correct this machine's clock" in str(error)
    assert bank.login_attempts == 1


@pytest.mark.parametrize("name", ["client_id", "client_secret", "api_key"])
def test_wrong_credentials_are_refused_once(bank, make_client, name):
    error = failure(make_client(bank.credentials(**{name: "example-wrong"})))
    assert type(error) is InvalidClientError
    assert (error.status_code, error.error) == (401, "invalid_client")
    assert bank.login_attempts == 1


def test_a_wrong_static_key_is_refused_once(bank, make_client):
    error = failure(make_client(bank.credentials(static_key="example-wrong")))
    assert type(error) is TokenEndpointError
    assert error.error_description == "Signature Not Valid"
    assert "check the static key (PERMATA_STATIC_KEY)" in str(error)
    assert bank.login_attempts == 1


# Trying again.


def test_what_may_pass_is_tried_again(bank, client):
    bank.fail_next(2, status=503)
    assert client.login().expires_in() > 0
    assert (bank.login_attempts, bank.logins) == (3, 1)


@pytest.mark.parametrize(
    ("fault", "arguments"),
    [
        ("drop", {}),
        ("reset", {"at": "start"}),
        ("reset", {"at": "headers"}),
        ("reset", {"at": "body"}),
        ("truncated", {}),
        ("status", {"status": 429}),
        ("status", {"status": 500}),
        ("status", {"status": 599}),
    ],
)
def test_every_temporary_fault_is_got_over(bank, client, fault, arguments):
    bank.fail_next(1, fault, **arguments)
    assert client.login().expires_in() > 0
    assert bank.login_attempts == 2


def test_each_attempt_has_a_timestamp_and_a_signature_of_its_own(bank, client, clock):
    clock.runs_free = True
    bank.fail_next(2, status=503, retry_after=1)
    client.login()
    stamps = [request.headers["OAUTH-Timestamp"] for request in bank.requests]
    signatures = [request.headers["OAUTH-Signature"] for request in bank.requests]
    assert len(set(stamps)) == len(set(signatures)) == 3
    assert bank.replays == 0


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_the_last_error_is_raised_after_as_many_attempts_as_allowed(bank, make_client, attempts):
    if attempts > 1:
        bank.fail_next(attempts - 1, "drop")
    bank.fail_for(60, status=503)
    error = failure(make_client(bank.credentials(), attempts=attempts))
    assert type(error) is TokenEndpointUnavailableError
    assert bank.login_attempts == attempts


@pytest.mark.parametrize(
    "status",
    [201, 204, 299, 300, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 408, 413, 451],
)
def test_what_will_not_pass_is_not_tried_again(bank, client, status):
    bank.fail_for(60, status=status, body="{}")
    error = failure(client)
    assert not error.retryable
    assert error.status_code == status
    assert (type(error) is InvalidTokenResponseError) is (status < 300)
    assert str(error).count(f"HTTP {status}") == 1
    assert bank.login_attempts == 1


@pytest.mark.parametrize(
    ("fault", "arguments"),
    [("html", {}), ("empty", {}), ("json", {"body": []}), ("huge", {}), ("gzip_bomb", {})]
    + [("json", {"json_fields": {"expires_in": value}}) for value in (0, "abc", True)]
    + [("json", {"json_fields": {"access_token": value}}) for value in ("", 7, "a\nb", "é")],
    ids=repr,
)  # fmt: skip
def test_a_success_without_a_token_is_not_tried_again(bank, client, fault, arguments):
    bank.fail_for(60, fault, **arguments)
    error = failure(client)
    assert type(error) is InvalidTokenResponseError
    assert error.status_code == 200
    assert bank.login_attempts == 1


def test_waits_grow_are_jittered_and_have_a_ceiling(bank, make_client, clock):
    clock.runs_free = True
    bank.go_down()
    policy = {"attempts": 7, "wait_initial": 1.0, "wait_max": 6.0, "budget": 1000.0}
    for _ in range(12):
        failure(make_client(bank.credentials(), **policy))
    waits = [seconds for _, seconds in clock.waits]
    assert len(waits) == 6 * 12
    assert len(set(waits)) == len(waits), "jitter makes no two waits alike"
    for index, ceiling in enumerate([1.0, 2.0, 4.0, 6.0, 6.0, 6.0]):
        column = waits[index::6]
        assert all(0 <= seconds <= ceiling for seconds in column)
        # Full jitter: 12 draws all in the lowest sixth come once in two billion runs.
        assert max(column) > ceiling / 6


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_in_seconds_is_kept_to(bank, client, clock, status):
    clock.runs_free = True
    bank.fail_next(1, status=status, retry_after=7)
    client.login()
    assert [seconds for _, seconds in clock.waits] == [7.0]


def test_retry_after_as_a_date_is_kept_to(bank, client, clock):
    clock.runs_free = True
    bank.clock_skew = 100  # a date means the time of the clock that wrote it
    bank.fail_next(1, status=503, retry_after=formatdate(bank.now() + 25, usegmt=True))
    client.login()
    ((_, seconds),) = clock.waits
    assert 25 - SLACK <= seconds <= 25


@pytest.mark.parametrize("text", ["-5", "soon", "1.5", "", "Thu, 99 Jan"])
def test_a_retry_after_that_makes_no_sense_is_as_none(bank, client, clock, text):
    clock.runs_free = True
    bank.fail_next(1, status=503, retry_after=text)
    client.login()
    ((_, seconds),) = clock.waits
    assert seconds <= 0.02


@pytest.mark.parametrize("text", ["31", "86400", "9" * 30, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_retry_after_beyond_the_budget_ends_the_login_at_once(bank, client, clock, text):
    bank.fail_for(60, status=429, retry_after=text)
    error = failure(client)
    assert type(error) is TokenEndpointUnavailableError
    assert error.retry_after >= 31
    assert clock.waits == []
    assert bank.login_attempts == 1


def test_a_refusal_carries_retry_after_too_but_is_not_tried_again(bank, client):
    bank.fail_next(1, status=403, retry_after=1)
    assert failure(client).retry_after == 1
    assert bank.login_attempts == 1


def test_each_retry_is_one_warning(bank, client, caplog):
    bank.fail_next(2, status=503)
    client.login()
    records = [r for r in caplog.records if r.name == "permata_auth.login"]
    assert [r.levelno for r in records] == [logging.WARNING] * 2
    assert [r.permata_attempt for r in records] == [1, 2]
    assert records[0].getMessage().startswith("Attempt 1 failed, the next one after 0.0")
    assert " seconds: TokenEndpointUnavailableError: " in records[0].getMessage()


# Time.


def test_the_budget_bounds_many_attempts_that_are_each_slow(make_client):
    server = RawServer(lambda sock: (read_request(sock), server.wait(60)))
    with server:
        scheme = credentials(token_url=server.token_url)
        client = make_client(scheme, attempts=1000, budget=2.0, timeout=(0.15, 0.15))
        began = time.monotonic()
        error = failure(client)
        assert time.monotonic() - began < 2.0 + SLACK
        assert type(error) is RequestTimeoutError
        assert 1 < server.connections < 20


@pytest.mark.parametrize("part", ["headers", "body"])
def test_the_budget_bounds_an_answer_that_drips(bank, part):
    bank.fail_for(60, "drip", interval=0.05, part=part)
    with LoginClient(bank.credentials(), retry=RetryPolicy(timeout=0.5)) as client:
        began = time.monotonic()
        assert type(failure(client)) is RequestTimeoutError
        assert time.monotonic() - began < 0.5 + SLACK


def test_no_wait_reaches_beyond_the_budget(bank, make_client, clock):
    clock.runs_free = True
    bank.go_down()
    policy = {"attempts": 10_000, "wait_initial": 1.0, "wait_max": 2.0}
    client = make_client(bank.credentials(), budget=20.0, **policy)
    began = clock.now()
    assert type(failure(client)) is TransportError
    assert 15 < clock.now() - began < 20


def _interfere(server_reply, during):
    def handle(sock):
        read_request(sock)
        during()
        sock.sendall(server_reply)

    return handle


def test_a_life_counts_from_when_the_token_was_asked_for(make_client, clock):
    began, wall = clock.now(), clock.wall()
    with RawServer(_interfere(reply(), lambda: clock.jump(5))) as server:
        token = make_client(credentials(token_url=server.token_url)).login()
    assert clock.now() == began + 5
    assert token.expires_in() == pytest.approx(895)
    assert token.issued_at == _clock.to_datetime(wall)
    assert token.expires_at == _clock.to_datetime(wall + 900)


@pytest.mark.parametrize("step", [-7200, 7200])
def test_a_step_of_the_wall_clock_during_a_login_changes_no_life(make_client, clock, step):
    with RawServer(_interfere(reply(), lambda: clock.step_wall(step))) as server:
        token = make_client(credentials(token_url=server.token_url)).login()
    assert token.expires_in() == pytest.approx(900)
    assert token.expires_at == _clock.to_datetime(clock.wall() + 900)


def test_a_life_counts_from_the_attempt_that_succeeded(bank, client, clock):
    clock.runs_free = True
    bank.fail_next(2, status=503, retry_after=10)
    assert client.login().expires_in() == pytest.approx(900)


@pytest.mark.parametrize("took", [3, 5])
def test_a_token_whose_life_went_by_on_the_way_is_none(make_client, clock, took):
    slow = _interfere(reply({"access_token": "x", "expires_in": 3}), lambda: clock.jump(took))
    with RawServer(slow) as server:
        error = failure(make_client(credentials(token_url=server.token_url)))
        assert server.connections == 1
    assert type(error) is InvalidTokenResponseError
    assert f"it lives for 3 s, and the login took {took} s" in str(error)
    assert error.status_code == 200


def test_a_token_that_lives_a_little_longer_than_the_login_took_is_one(make_client, clock):
    slow = _interfere(reply({"access_token": "x", "expires_in": 3}), lambda: clock.jump(2))
    with RawServer(slow) as server:
        token = make_client(credentials(token_url=server.token_url)).login()
    assert token.expires_in() == pytest.approx(1)


@pytest.mark.parametrize("attempts", [1, 2])
def test_a_login_may_have_fewer_attempts_than_the_policy(bank, client, attempts):
    bank.fail_for(60, status=503)
    with pytest.raises(TokenEndpointUnavailableError):
        client.login(attempts=attempts)
    assert bank.login_attempts == attempts
    assert client.retry.attempts == 3


@pytest.mark.parametrize("attempts", [0, -1, True, 1.5, "1"])
def test_the_number_of_attempts_of_a_login_is_checked(bank, client, attempts):
    with pytest.raises(ConfigurationError, match="attempts must be a whole number"):
        client.login(attempts=attempts)
    assert bank.login_attempts == 0


def test_an_error_names_the_endpoint_and_the_seconds_that_the_bank_asks_for(bank, client, clock):
    endpoint = bank.url.removeprefix("http://")
    bank.fail_next(1, status=429, retry_after=60)
    error = failure(client)
    assert str(error).startswith(f"{endpoint}: the token endpoint gave no token (HTTP 429")
    assert str(error).endswith("; Retry-After: 60 s")
    assert error.retry_after == copy.copy(error).retry_after == 60
    bank.fail_next(1, "html")
    assert str(failure(client)).startswith(f"{endpoint} (HTTP 200): the token response is no JSON")


@pytest.mark.parametrize(
    "missing", [{"drop_fields": "expires_in"}, {"json_fields": {"expires_in": None}}]
)
def test_a_life_that_is_not_said_is_fifteen_minutes_and_one_warning(bank, client, caplog, missing):
    bank.fail_for(60, "json", **missing)
    for _ in range(3):
        assert 900 - SLACK < client.login().expires_in() <= 900
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert warnings == [
        "The token endpoint does not say how long a token lives, taken: 900 seconds"
    ]


# Connections.


def test_two_logins_share_a_connection(make_client):
    with RawServer(always(reply())) as server:
        client = make_client(credentials(token_url=server.token_url))
        for _ in range(3):
            client.login()
        assert server.connections == 1


def test_a_connection_that_the_bank_closed_in_between_costs_no_attempt(make_client):
    with RawServer(once(reply())) as server:
        client = make_client(credentials(token_url=server.token_url), attempts=1)
        for _ in range(3):
            client.login()
            server.wait_until_closed()
        assert server.connections == 3


def test_the_bank_may_restart_between_two_logins(bank, client):
    client.login()
    with bank.down():
        assert type(failure(client)) is TransportError
    client.login()
    assert bank.logins == 2


def test_many_threads_may_log_in_with_one_client(bank, client):
    calls = together(16, client.login)
    assert len({call.value().value for call in calls}) == 16
    assert bank.logins == 16


def test_a_redirect_is_refused_and_nothing_is_sent_to_its_target(bank, client):
    with RawServer(always(reply())) as elsewhere:
        for status in (301, 302, 303, 307, 308):
            bank.fail_next(1, "redirect", location=elsewhere.token_url, status=status)
            error = failure(client)
            assert type(error) is TokenEndpointError
            assert error.status_code == status
            assert "a redirect would carry the credentials elsewhere" in str(error)
        assert elsewhere.connections == 0
    assert bank.login_attempts == 5


def test_a_login_goes_through_a_proxy(bank, client, monkeypatch):
    with Proxy() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        client.login()
        assert proxy.requests == [f"POST {bank.token_url} HTTP/1.1"]
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        client.login()
        assert len(proxy.requests) == 1
    assert bank.logins == 2


def test_netrc_does_not_take_part(bank, client, monkeypatch, tmp_path):
    file = tmp_path / ".netrc"
    file.write_text("default login example-netrc-user password example-netrc-word\n")
    file.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(file))
    client.login()
    assert bank.logins == 1


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates"))


def test_a_login_goes_over_tls_to_a_bank_with_a_custom_authority(
    bank, make_client, authority, monkeypatch
):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.bundle))
    port = int(bank.url.rpartition(":")[2])
    with Forwarder(port, context=authority.context()) as front:
        client = make_client(
            bank.credentials(token_url=bank.token_url.replace(bank.url, front.url))
        )
        client.login()
        client.close()
    assert bank.logins == 1


@pytest.mark.parametrize(
    "certificate", [{"days": -1}, {"address": "127.0.0.9"}, {"is_self_signed": True}], ids=repr
)
def test_a_bad_certificate_is_not_tried_again(make_client, authority, monkeypatch, certificate):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.bundle))
    with RawServer(always(reply()), context=authority.context(**certificate)) as server:
        error = failure(make_client(credentials(token_url=server.token_url)))
        assert server.connections == 1
    assert type(error) is CertificateError


def test_a_bundle_that_is_not_there_is_a_configuration_error(make_client, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent/bundle.pem")
    error = failure(make_client(credentials(token_url="https://127.0.0.1:9/")))
    assert type(error) is ConfigurationError
    assert "check the CA bundle" in str(error)


# A session of the caller's own.


def test_a_given_session_is_used_and_left_open(bank, make_client):
    class Session(requests.Session):
        sent = closed = 0

        def send(self, *args, **kwargs):
            self.sent += 1
            return super().send(*args, **kwargs)

        def close(self):
            self.closed += 1
            super().close()

    with Session() as given:
        client = make_client(bank.credentials(), session=given)
        client.login()
        client.close()
        client.login()
        assert (given.sent, given.closed) == (2, 0)


def test_the_settings_of_a_given_session_hold_but_for_what_would_change_the_request(
    bank, make_client
):
    with Proxy() as proxy, requests.Session() as given:
        given.proxies["http"] = proxy.url
        given.headers.update({"Authorization": "Basic other", "OAUTH-Signature": "other"})
        given.headers["User-Agent"] = "example-agent"
        given.auth = ("other", "other")
        make_client(bank.credentials(), session=given).login()
        assert len(proxy.requests) == 1
    assert bank.requests[0].headers["User-Agent"] == "example-agent"


# Closing.


def test_close_ends_a_wait_between_attempts_at_once(bank, make_client):
    bank.fail_for(60, status=503, retry_after=500)
    client = make_client(bank.credentials(), budget=1000.0)
    call = Call(client.login)
    stopped = client._connections.get().stopped
    until(lambda: stopped.waiting)
    client.close()
    call.join(SLACK)
    assert type(call.error) is TransportError
    assert "closed before the next attempt" in str(call.error)
    assert bank.login_attempts == 1


def test_a_login_after_close_works(bank, client):
    client.login()
    client.close()
    client.close()
    client.login()
    assert bank.logins == 2


def test_a_login_that_fails_after_close_waits_for_its_next_attempt(bank, client):
    client.close()
    bank.fail_next(2, status=503)
    client.login()
    assert bank.logins == 1


def test_the_with_statement_closes(bank):
    with LoginClient(bank.credentials()) as client:
        client.login()
        stopped = client._connections.get().stopped
    assert stopped.is_set()


# Its arguments.


@pytest.mark.parametrize(
    "arguments",
    [
        {"retry": 3},
        {"retry": "often"},
        {"retry": {"attempts": 3}},
        {"timeout": 0},
        {"timeout": (5,)},
        {"timeout": "5"},
        {"session": "session"},
        {"session": requests},
    ],
    ids=repr,
)
def test_a_client_made_of_nonsense_is_refused(arguments):
    with pytest.raises(ConfigurationError):
        LoginClient(credentials(), **arguments)


@pytest.mark.parametrize("scheme", [None, "example", {"client_id": "x"}, object()], ids=repr)
def test_credentials_that_are_none_are_refused(scheme):
    with pytest.raises(ConfigurationError, match=r"^credentials has no attribute key, which a"):
        LoginClient(scheme)


@pytest.mark.parametrize("attempts", [0, -1, True, 1.5, 3.0, "3", None, float("inf")])
def test_the_number_of_attempts_is_a_number_from_one(attempts):
    with pytest.raises(ConfigurationError, match=r"RetryPolicy\.attempts must be a whole number"):
        RetryPolicy(attempts=attempts)


@pytest.mark.parametrize("name", ["wait_initial", "wait_max", "timeout"])
@pytest.mark.parametrize("value", [-1, -0.1, True, "5", None, float("nan"), float("inf"), 10**400])
def test_the_durations_of_a_policy_are_durations(name, value):
    with pytest.raises(ConfigurationError, match=rf"RetryPolicy\.{name} must be "):
        RetryPolicy(**{name: value})


def test_a_policy_takes_numbers_and_timedeltas():
    policy = RetryPolicy(5, timedelta(milliseconds=250), 4, timeout=timedelta(minutes=1))
    assert RetryPolicy(wait_max=timedelta(seconds=4)).wait_max == 4.0
    assert (policy.attempts, policy.wait_initial, policy.wait_max, policy.timeout) == (
        5,
        0.25,
        4.0,
        60.0,
    )
    assert RetryPolicy() == RetryPolicy(3, 0.5, 8.0, 25.0)
    with pytest.raises(ConfigurationError):
        RetryPolicy(timeout=0)
    with pytest.raises(AttributeError):
        policy.attempts = 7


@pytest.mark.parametrize("seconds", [1e7, 1e300])
def test_a_budget_may_be_longer_than_a_socket_or_a_lock_can_wait(bank, seconds):
    retry = RetryPolicy(wait_initial=0, wait_max=0, timeout=seconds)
    with LoginClient(bank.credentials(), retry=retry, timeout=seconds) as client:
        bank.fail_next(1, status=503)
        assert client.login().expires_in() > 0


def test_attempts_may_be_many_and_waits_nothing(bank, make_client):
    bank.fail_next(30, status=503)
    client = make_client(bank.credentials(), attempts=10**6, wait_initial=0, wait_max=0)
    client.login()
    assert bank.login_attempts == 31


def test_a_client_cannot_be_pickled_or_copied(client):
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="LoginClient cannot be pickled: it owns network"):
            attempt(client)


def test_an_error_that_is_not_ours_comes_through_as_it_is(bank, make_client):
    class Broken(type(bank.credentials())):
        def token_request(self):
            raise ZeroDivisionError("example")

    broken = Broken(**{f: getattr(bank.credentials(), f) for f in _FIELDS})
    with pytest.raises(ZeroDivisionError, match="example"):
        make_client(broken).login()
    assert bank.login_attempts == 0


_FIELDS = ("token_url", "api_key", "client_id", "client_secret", "static_key")
