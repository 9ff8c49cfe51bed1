"""Wrong clocks: their measure, its moment, and its cost in requests and calls."""

from __future__ import annotations

import json
import logging
from email.utils import formatdate

import pytest
import requests
from support.certificates import Authority
from support.clients import ScriptedClient, ScriptedWire, credentials
from support.threads import Call, logins_told, together
from support.wire import Forwarder

from permata_auth import (
    CallbackStatusClient,
    ClockError,
    ConfigurationError,
    LoginClient,
    PermataAuth,
    RetryPolicy,
    TokenEndpointUnavailableError,
    _clock,
    _clock_offset,
    login,
    sign_request,
)
from permata_auth._clock_offset import ClockOffset, Offset, Reading
from permata_auth._remedies import Remedies

PATH = "/apiservice/InquiryServices/BalanceInfo/inq"
REJECTED = b'{"ErrorCode":"403","ErrorDescription":"Failed Authentication OAuth2"}'
REFUSED = {"ErrorCode": "403", "ErrorDescription": "Invalid Timestamp Value"}
OFF = [40.0, -40.0, 3600.0, -3600.0]
#: The precision of an offset that an exchange of less than eight seconds has measured.
NEAR = 4.5


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.delenv("PERMATA_CLOCK_CORRECTION", raising=False)


@pytest.fixture
def strict_bank(make_bank):
    return make_bank(timestamp_tolerance=20.0)


@pytest.fixture
def handler(strict_bank, make_handler):
    return make_handler(strict_bank.credentials())


@pytest.fixture
def session(handler):
    with requests.Session() as session:
        session.trust_env = False
        session.auth = PermataAuth(handler)
        yield session


@pytest.fixture
def callback_status(handler, strict_bank):
    with CallbackStatusClient(handler, strict_bank.callback_status_url) as client:
        yield client


@pytest.fixture
def call(request, handler, session, callback_status, strict_bank):
    """Make one call in one of the ways there are; return its HTTP status."""
    url = strict_bank.url + PATH

    def by_sign_request(*, is_second=False):
        token = handler.get_token()
        headers = {**sign_request(handler, "POST", url, b"{}"), "Content-Type": "application/json"}
        answer = requests.post(url, b"{}", headers=headers, timeout=10)
        if handler.note_response(
            token,
            answer.status_code,
            answer.content,
            is_second=is_second,
            url=url,
            headers=answer.headers,
            took=answer.elapsed.total_seconds(),
        ):
            return by_sign_request(is_second=True)
        return answer.status_code

    return {
        "PermataAuth": lambda: session.post(url, json={}).status_code,
        "CallbackStatusClient": lambda: callback_status.send({}).http_status,
        "sign_request": by_sign_request,
    }[request.param]


every_way = pytest.mark.parametrize(
    "call", ["PermataAuth", "CallbackStatusClient", "sign_request"], indirect=True
)


def clock_warnings(caplog):
    logins_told()
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "permata_auth._clock_offset" and record.levelno == logging.WARNING
    ]


def statuses(bank):
    return [request.status for request in bank.requests]


# Logins


@pytest.mark.parametrize("skew", OFF)
def test_a_login_with_a_wrong_clock_costs_one_more_request(strict_bank, handler, caplog, skew):
    strict_bank.clock_skew = skew
    token = handler.get_access_token()
    assert statuses(strict_bank) == [403, 200]
    assert handler.info().clock_offset == pytest.approx(skew, abs=NEAR)
    assert "timestamps corrected by" in str(handler.info())
    assert (handler.info().logins, handler.info().failed_logins) == (1, 0)
    assert len(clock_warnings(caplog)) == 1
    # A lifetime is no timestamp: it is counted by the clocks of this machine alone.
    assert token.expires_in() == pytest.approx(900, abs=60)
    assert token.expires_at.timestamp() - _clock.wall() == pytest.approx(900, abs=60)
    handler.refresh()
    assert statuses(strict_bank) == [403, 200, 200]


def test_a_right_clock_is_not_touched(strict_bank, handler, caplog):
    strict_bank.clock_skew = -15.0  # not 15: a pause of the machine would come on top
    handler.get_token()
    assert (statuses(strict_bank), handler.info().clock_offset) == ([200], 0.0)
    assert not clock_warnings(caplog)


@pytest.mark.parametrize("step", OFF)
def test_a_clock_that_is_right_again_is_believed(strict_bank, handler, step):
    strict_bank.clock_skew = step
    strict_bank.timestamp_tolerance = 30.0
    handler.get_token()
    strict_bank.clock_skew, strict_bank.timestamp_tolerance = 0.0, 5000.0
    handler.refresh()  # accepted with the old offset, and its response shows the bank's clock
    assert handler.info().clock_offset == 0.0
    assert statuses(strict_bank) == [403, 200, 200]


def test_an_offset_follows_a_clock_that_drifts(strict_bank, handler, caplog):
    strict_bank.clock_skew = 40.0
    handler.get_token()
    strict_bank.clock_skew = 30.0  # not 50: a pause of the machine would come on top
    handler.refresh()
    assert handler.info().clock_offset == pytest.approx(30.0, abs=NEAR)
    assert statuses(strict_bank) == [403, 200, 200]
    assert len(clock_warnings(caplog)) == 1


def test_steps_during_a_run_cost_one_request_each(strict_bank, handler):
    for step, skew in enumerate([0.0, 40.0, -3600.0, 3600.0, -40.0, 0.0]):
        strict_bank.clock_skew = skew
        handler.refresh()
        assert len(statuses(strict_bank)) == 2 * step + 1
        assert handler.info().clock_offset == pytest.approx(skew, abs=NEAR)
    assert handler.info().clock_offset == 0.0
    assert handler.info().failed_logins == 0


def test_a_refresh_in_the_background_corrects_the_clock_too(make_bank, make_handler):
    bank = make_bank(token_lifetime=4.0, timestamp_tolerance=20.0)
    handler = make_handler(bank.credentials())
    handler.get_token()
    bank.clock_skew = 3600.0
    while handler.info().logins < 2:
        handler.get_token()
    assert handler.info().failed_logins == 0
    assert statuses(bank)[:3] == [200, 403, 200]


def test_threads_that_log_in_together_make_one_request_more(strict_bank, handler, caplog):
    strict_bank.clock_skew = 3600.0
    calls = together(32, handler.get_token)
    assert len({call.value() for call in calls}) == 1
    assert statuses(strict_bank) == [403, 200]
    assert len(clock_warnings(caplog)) == 1


@pytest.mark.parametrize(
    ("fields", "requests"),
    [
        ({"Date": None}, 1),
        ({"Date": "yesterday"}, 1),
        ({"Date": ""}, 1),
        ({"Date": "Thu, 01 Jan 1970 00:00:00 GMT"}, 1),
        ({"Date": "Fri, 31 Dec 9999 23:59:59 GMT"}, 1),
        ({"Age": "0"}, 1),
        ({"age": "120"}, 1),
        ({"Date": formatdate(2_000_000_000, usegmt=True)}, 2),
    ],
    ids=str,
)
def test_a_date_that_shows_nothing_is_not_gone_by(strict_bank, handler, fields, requests):
    strict_bank.clock_skew = 3600.0
    strict_bank.fail_for(600, "headers", on="token", fields=fields)
    with pytest.raises(ClockError, match="correct this machine's clock"):
        handler.get_token()
    assert statuses(strict_bank) == [403] * requests
    assert handler.info().clock_offset == 0.0
    strict_bank.clear_faults()
    handler.refresh()
    assert handler.info().clock_offset == pytest.approx(3600.0, abs=NEAR)


def test_a_refused_timestamp_that_is_right_is_an_error_at_once(strict_bank, handler):
    strict_bank.fail_next(1, "clock")
    with pytest.raises(ClockError):
        handler.get_token()
    assert (statuses(strict_bank), handler.info().clock_offset) == ([403], 0.0)


def test_an_offset_that_is_refused_is_dropped(strict_bank, handler):
    strict_bank.clock_skew = 3600.0
    handler.get_token()
    assert handler.info().clock_offset
    strict_bank.fail_next(1, "clock")
    with pytest.raises(ClockError):
        handler.refresh()
    assert (statuses(strict_bank), handler.info().clock_offset) == ([403, 200, 403], 0.0)


def test_a_refused_second_try_drops_the_offset(strict_bank, handler):
    strict_bank.clock_skew = 3600.0
    strict_bank.fail_next(2, "clock")
    with pytest.raises(ClockError):
        handler.get_token()
    assert (statuses(strict_bank), handler.info().clock_offset) == ([403, 403], 0.0)


def test_an_offset_outlives_a_bank_that_is_down_at_the_second_try(strict_bank):
    strict_bank.clock_skew = 3600.0
    strict_bank.fail_next(1, "clock")
    strict_bank.fail_next(1, status=503)
    retry = RetryPolicy(attempts=1)
    with LoginClient(strict_bank.credentials(), retry=retry) as client:
        with pytest.raises(TokenEndpointUnavailableError):
            client.login()
        client.login()
    assert statuses(strict_bank) == [403, 503, 200]


def test_slow_responses_are_measured_in_their_middle(strict_bank, handler):
    strict_bank.clock_skew = -3600.0
    strict_bank.latency = 2.0
    handler.get_token()
    assert statuses(strict_bank) == [403, 200]
    assert handler.info().clock_offset == pytest.approx(-3600.0, abs=NEAR + 1.0)


def test_a_login_is_measured_by_the_running_clock(clock, strict_bank, monkeypatch):
    def exchange(*arguments, **request):
        answer = real(*arguments, **request)
        clock.jump(20.0)
        clock.step_wall(-20.0)  # the bank's has not moved
        return answer

    real = login.exchange
    monkeypatch.setattr(login, "exchange", exchange)
    strict_bank.clock_skew = -3600.0
    with LoginClient(strict_bank.credentials(), retry=RetryPolicy(timeout=60.0)) as client:
        client.login()
        assert client.clock.current.secs == pytest.approx(-3590.0, abs=NEAR)


@pytest.mark.parametrize(
    ("took", "secs"), [(0.0, 100.5), (40.0, 120.5), (60.0, 130.5), (60.1, None)]
)
def test_the_middle_of_the_exchange_counts(clock, took, secs):
    date = formatdate(clock.wall() + 100, usegmt=True)
    reading = Reading(url="https://bank.invalid", headers={"Date": date}, took=took)
    assert reading.secs == secs


@pytest.mark.parametrize(
    ("url", "is_trusted"),
    [
        ("https://bank.invalid/x", True),
        ("http://127.0.0.1:1/x", True),
        ("http://[::1]:1/x", True),
        ("http://localhost/x", True),
        ("http://bank.invalid/x", False),
        ("", False),
    ],
)
def test_a_date_counts_only_where_nobody_on_the_way_can_write_it(clock, url, is_trusted):
    date = formatdate(clock.wall() + 100, usegmt=True)
    reading = Reading(url=url, headers={"date": date}, took=0.0)
    assert (reading.secs is not None) == is_trusted


@pytest.mark.parametrize(("ahead", "offset"), [(4, 0.0), (5, 5.5), (-5, 0.0), (-6, -5.5)])
def test_five_seconds_are_the_least(clock, ahead, offset):
    clock_offset = ClockOffset(True)
    date = formatdate(clock.wall() + ahead, usegmt=True)
    reading = Reading(
        url="https://bank.invalid", headers={"Date": date}, took=0, used=clock_offset.current
    )
    assert clock_offset.correct(reading) is (offset != 0)
    assert clock_offset.current.secs == offset


def test_plain_http_elsewhere_is_not_believed(monkeypatch):
    date = formatdate(_clock.wall() + 3600, usegmt=True)
    wire = ScriptedWire((403, REFUSED, {"Date": date}))
    monkeypatch.setattr(login, "exchange", wire)
    scheme = credentials(token_url="http://bank.invalid/token", allow_insecure_http=True)
    with LoginClient(scheme) as client, pytest.raises(ClockError):
        client.login()
    assert len(wire.calls) == 1


def test_a_date_over_tls_is_believed(strict_bank, tmp_path, monkeypatch, make_handler):
    authority = Authority(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.bundle))
    monkeypatch.setattr(_clock_offset, "is_loopback", lambda host: False)
    strict_bank.clock_skew = 3600.0
    port = int(strict_bank.url.rpartition(":")[2])
    with Forwarder(port, context=authority.context()) as server:
        handler = make_handler(strict_bank.credentials(token_url=server.token_url))
        handler.get_token()
        assert handler.info().clock_offset == pytest.approx(3600.0, abs=NEAR)
        handler.shutdown()
    assert statuses(strict_bank) == [403, 200]


# Calls


@every_way
@pytest.mark.parametrize("skew", OFF)
def test_calls_go_by_what_the_login_has_measured(strict_bank, call, skew):
    strict_bank.clock_skew = skew
    assert [call(), call()] == [200, 200]
    assert statuses(strict_bank) == [403, 200, 200, 200]


@every_way
def test_a_step_between_calls_costs_one_request(strict_bank, handler, call, caplog):
    assert call() == 200
    for step, skew in enumerate([40.0, -40.0, 3600.0, -3600.0, 0.0], start=1):
        strict_bank.clock_skew = skew
        assert [call(), call()] == [200, 200]
        assert handler.info().clock_offset == pytest.approx(skew, abs=NEAR)
        assert len(statuses(strict_bank)) == 2 + 3 * step
        assert len(clock_warnings(caplog)) == min(step, 4)  # none for the way back
    assert handler.info().clock_offset == 0.0
    assert strict_bank.login_attempts == 1


@every_way
@pytest.mark.parametrize("fields", [{"Date": None}, {"Age": "3"}], ids=str)
def test_a_call_is_refused_where_the_clock_cannot_be_told(strict_bank, handler, call, fields):
    handler.get_token()
    strict_bank.clock_skew = 3600.0
    strict_bank.fail_for(600, "headers", fields=fields)
    assert call() == 403
    assert (statuses(strict_bank), handler.info().clock_offset) == ([200, 403], 0.0)
    strict_bank.clear_faults()
    assert call() == 200


@every_way
def test_an_offset_ends_where_the_clock_is_right_again_but_not_shown(strict_bank, handler, call):
    strict_bank.clock_skew = 3600.0
    assert call() == 200
    strict_bank.clock_skew = 0.0
    strict_bank.fail_for(600, "headers", fields={"Date": None})
    assert call() == 200
    assert (statuses(strict_bank), handler.info().clock_offset) == ([403, 200, 200, 403, 200], 0.0)


@every_way
def test_a_call_is_sent_once_more_and_no_oftener(strict_bank, handler, call):
    handler.get_token()
    strict_bank.clock_skew = 3600.0
    strict_bank.fail_for(600, "clock", on="calls")
    assert call() == 403
    assert (statuses(strict_bank), handler.info().clock_offset) == ([200, 403, 403], 0.0)


@every_way
@pytest.mark.parametrize("status", [400, 403])
def test_a_refused_timestamp_is_known_by_its_words(strict_bank, handler, call, status):
    handler.get_token()
    strict_bank.clock_skew = 3600.0
    strict_bank.fail_next(1, "status", status=status, body=REFUSED, on="calls")
    assert call() == 200
    assert statuses(strict_bank) == [200, status, 200]


@pytest.mark.parametrize("call", ["PermataAuth", "CallbackStatusClient"], indirect=True)
def test_a_dead_token_and_a_wrong_clock_in_one_call(strict_bank, handler, call):
    handler.get_token()
    strict_bank.clock_skew = 3600.0
    strict_bank.fail_next(1, "clock", on="calls")
    strict_bank.revoke_all_tokens()
    assert call() == 200
    assert statuses(strict_bank) == [200, 403, 403, 200, 200]


def test_threads_whose_calls_meet_a_step_lose_none(strict_bank, handler, session, caplog):
    url = strict_bank.url + PATH
    handler.get_token()
    for skew in (3600.0, 0.0):
        strict_bank.clock_skew = skew
        before = len(statuses(strict_bank))
        calls = together(32, lambda: session.post(url, json={}).status_code)
        assert [call.value() for call in calls] == [200] * 32
        assert statuses(strict_bank)[before:].count(403) <= 32
        before = len(statuses(strict_bank))
        assert session.post(url, json={}).status_code == 200
        assert len(statuses(strict_bank)) == before + 1
    assert len(clock_warnings(caplog)) == 1
    assert (handler.info().clock_offset, strict_bank.login_attempts) == (0.0, 1)


def test_calls_that_are_on_their_way_at_a_correction_profit_by_it(strict_bank, handler, session):
    url = strict_bank.url + PATH
    handler.get_token()
    strict_bank.clock_skew = 3600.0
    gate = strict_bank.hold_next(1, on="calls")
    late = Call(session.post, url, json={})
    assert gate.arrived.wait(20)
    with requests.Session() as other:
        other.trust_env = False
        other.auth = session.auth
        assert other.post(url, json={}).status_code == 200
    strict_bank.fail_for(600, "headers", on="calls", fields={"Date": None})
    gate.release()
    assert late.value().status_code == 200, "signed before, sent again with what is known by now"
    assert handler.info().clock_offset == pytest.approx(3600.0, abs=NEAR)


def test_of_threads_that_measure_at_once_the_first_one_counts(clock):
    clock_offset = ClockOffset(True)
    used = clock_offset.current
    readings = [
        Reading(url="https://bank.invalid", headers={"Date": date}, took=0, used=used)
        for date in (formatdate(clock.wall() + secs, usegmt=True) for secs in (100, 200))
    ]
    assert [clock_offset.correct(reading) for reading in readings] == [True, True]
    assert clock_offset.current.secs == 100.5
    assert not clock_offset.correct(readings[0], is_second=True)
    assert clock_offset.current.secs == 100.5, "the offset that was refused is gone already"


def _reading(clock, ahead, used=None):
    date = formatdate(clock.wall() + ahead, usegmt=True)
    return Reading(url="https://bank.invalid", headers={"Date": date}, took=0, used=used)


def test_a_refused_offset_takes_no_newer_one_along(clock):
    clock_offset = ClockOffset(True)
    clock_offset.correct(_reading(clock, 100, clock_offset.current))
    refused = clock_offset.current
    clock_offset.correct(_reading(clock, 200, refused))
    assert not clock_offset.correct(_reading(clock, 200, refused), is_second=True)
    assert clock_offset.current.secs == 200.5


def test_a_call_of_which_the_offset_is_not_known_is_sent_again_while_there_is_one(clock):
    clock_offset = ClockOffset(True)
    assert not clock_offset.correct(_reading(clock, 0))
    assert clock_offset.correct(_reading(clock, 100))
    assert clock_offset.correct(_reading(clock, 100))
    assert clock_offset.current.secs == 100.5


def test_each_remedy_is_tried_once_whatever_the_dates_say(clock, make_handler):
    handler = make_handler(credentials(), client=ScriptedClient(clock=clock))
    remedies, refused, rejected = Remedies(handler), json.dumps(REFUSED).encode(), REJECTED
    handler.get_token()
    outcomes = [
        remedies.apply(handler.get_token(), 403, body, _reading(clock, ahead))
        for body, ahead in [(refused, 100), (rejected, 100), (refused, 300), (rejected, 400)]
    ]
    assert outcomes == [True, True, False, False]


def test_a_call_that_is_sent_again_tells_how_long_it_took(strict_bank, handler, session):
    handler.get_token()
    strict_bank.clock_skew = 3600.0
    strict_bank.latency = 0.05
    answer = session.post(strict_bank.url + PATH, json={})
    assert (answer.status_code, len(answer.history)) == (200, 1)
    assert answer.elapsed.total_seconds() >= 0.05


# The off switch


@pytest.mark.parametrize("text", ["off", "OFF", "0", "false", "no"])
def test_the_environment_switches_it_off(strict_bank, make_handler, monkeypatch, text):
    monkeypatch.setenv("PERMATA_CLOCK_CORRECTION", text)
    handler = make_handler(strict_bank.credentials())
    strict_bank.clock_skew = 40.0
    with pytest.raises(ClockError):
        handler.get_token()
    assert statuses(strict_bank) == [403]


def test_a_switch_that_is_none_is_refused_by_name(monkeypatch):
    monkeypatch.setenv("PERMATA_CLOCK_CORRECTION", "perhaps")
    with pytest.raises(ConfigurationError, match="PERMATA_CLOCK_CORRECTION"):
        LoginClient(credentials())
    with pytest.raises(ConfigurationError, match="clock_correction"):
        LoginClient(credentials(), clock_correction="off")


@pytest.mark.parametrize("is_on", [True, False])
def test_an_argument_goes_before_the_environment(strict_bank, make_handler, monkeypatch, is_on):
    monkeypatch.setenv("PERMATA_CLOCK_CORRECTION", "off" if is_on else "on")
    handler = make_handler(strict_bank.credentials(), clock_correction=is_on)
    strict_bank.clock_skew = 40.0
    if is_on:
        handler.get_token()
    else:
        with pytest.raises(ClockError):
            handler.get_token()


def test_a_given_client_has_a_switch_of_its_own(strict_bank, make_handler):
    client = LoginClient(strict_bank.credentials(), clock_correction=False)
    handler = make_handler(strict_bank.credentials(), client=client)
    strict_bank.clock_skew = 40.0
    with pytest.raises(ClockError):
        handler.get_token()
    with pytest.raises(ConfigurationError, match="clock_correction"):
        make_handler(strict_bank.credentials(), client=client, clock_correction=True)


def test_a_scheme_that_knows_no_offset_is_asked_without_one():
    assert Offset().arguments == {}
    assert Offset(7.0).arguments == {"clock_offset": 7.0}
