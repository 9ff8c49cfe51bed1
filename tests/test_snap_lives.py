"""A handler with SNAP credentials against a bank that verifies: calls, renewals, short lives."""

from __future__ import annotations

import itertools
import threading
import time

import pytest
import requests
from support.threads import Call, together, until

from permata_auth import ClockError, LoginHandler, PermataAuth, PermataAuthError
from permata_auth.sandbox import SnapRules
from permata_auth.schemes.snap import SnapCredentials

BODY = b'{ "accountNo" : "7001234567", "note" : "two  spaces" }'


@pytest.fixture
def make_session():
    sessions = []

    def make(handler: LoginHandler) -> requests.Session:
        session = requests.Session()
        session.trust_env = False
        session.auth = PermataAuth(handler)
        sessions.append(session)
        return session

    yield make
    for session in sessions:
        session.close()


def post(session, bank, path="/v1.0/balance-inquiry", body=BODY, **arguments):
    return session.post(bank.snap_url + path, data=body, timeout=30, **arguments)


def ids(bank) -> list[str]:
    return [r.headers["X-EXTERNAL-ID"] for r in bank.requests if "X-EXTERNAL-ID" in r.headers]


def test_login_and_call(bank, make_handler, make_session):
    session = make_session(make_handler(bank.snap_credentials()))
    answers = [post(session, bank) for _ in range(3)]
    assert [answer.json()["responseCode"] for answer in answers] == ["2001100"] * 3
    assert (bank.logins, bank.login_attempts, len(set(ids(bank)))) == (1, 1, 3)
    sent = answers[0].request.headers
    assert sent["X-EXTERNAL-ID"] == ids(bank)[0]
    assert sent["Content-Type"] == "application/json"


def test_the_environment_makes_the_same_credentials(bank, make_handler, make_session):
    credentials = SnapCredentials.from_env(bank.snap_environment())
    assert credentials.key == bank.snap_credentials().key
    assert post(make_session(make_handler(credentials)), bank).status_code == 200


def test_a_rejected_token_is_renewed_once_with_a_new_id(bank, make_handler, make_session):
    session = make_session(make_handler(bank.snap_credentials()))
    assert post(session, bank).status_code == 200
    bank.revoke_all_tokens()
    assert post(session, bank).status_code == 200
    assert (bank.logins, bank.calls_by_status) == (2, {"200": 2, "401": 1})
    assert len(set(ids(bank))) == 3
    bank.reject_tokens = True
    assert post(session, bank).status_code == 401
    assert bank.duplicates == 0


def test_a_bad_signature_makes_no_login(bank, make_handler, make_session):
    wrong = bank.snap_credentials(client_secret="example-other-secret")
    session = make_session(make_handler(wrong))
    answers = [post(session, bank) for _ in range(3)]
    assert {answer.json()["responseCode"] for answer in answers} == {"4011100"}
    assert (bank.logins, bank.calls_by_status) == (1, {"401": 3})


def test_a_transfer_is_never_sent_twice(bank, make_handler, make_session):
    session = make_session(make_handler(bank.snap_credentials()))
    transfer = (
        b'{"partnerReferenceNo":"example-1","amount":{"value":"10000.00","currency":"IDR"},'
        b'"sourceAccountNo":"1","beneficiaryAccountNo":"2"}'
    )
    bank.fail_next(fault="reset", at="headers", on="calls")
    with pytest.raises(requests.ConnectionError):
        post(session, bank, "/v1.0/transfer-intrabank", transfer)
    bank.fail_next(fault="json", body={"responseCode": "5041700"}, status=504, on="calls")
    assert post(session, bank, "/v1.0/transfer-intrabank", transfer).status_code == 504
    assert (bank.transfers, bank.logins, len(ids(bank))) == (1, 1, 2)
    status = post(
        session, bank, "/v1.0/transfer/status", b'{"originalPartnerReferenceNo":"example-1"}'
    )
    assert status.json()["latestTransactionStatus"] == "00"


def test_a_query_is_signed_as_it_is_sent(bank, make_handler, make_session):
    session = make_session(make_handler(bank.snap_credentials()))
    query = {"from": "2025-09-01T00:00:00+07:00", "name": "a b&c é"}
    answer = session.get(bank.snap_url + "/v1.0/transfer-va/report", params=query, timeout=30)
    assert answer.json()["responseCode"] == "2003500"


@pytest.mark.parametrize(
    ("setting", "demanded", "other"),
    [
        ("transaction_signature", "asymmetric", "symmetric"),
        ("token_signature", "symmetric", "asymmetric"),
        ("signature_encoding", "hex", "base64"),
        ("canonicalizer", "strip_all", "minify"),
        ("canonicalizer", "raw", "minify"),
        ("sign_query", False, True),
        ("signed_prefix", "/", None),
        ("signed_prefix", "/other", None),
        ("timestamp_form", "seconds", "utc"),
        ("timestamp_form", "milliseconds", "seconds"),
        ("timestamp_form", "utc", "seconds"),
        ("external_id_length", 24, 32),
    ],
)
def test_a_bank_that_demands_a_setting_refuses_the_others(
    bank, make_handler, make_session, setting, demanded, other
):
    bank.snap_rules = SnapRules(**{setting: demanded})
    path = "/v1.0/balance-inquiry?x=a%20b"
    right = SnapCredentials.from_env(bank.snap_environment())
    assert post(make_session(make_handler(right)), bank, path).status_code == 200
    wrong = make_handler(bank.snap_credentials(**{setting: other}))
    try:
        assert post(make_session(wrong), bank, path).status_code in (400, 401)
    except PermataAuthError as error:  # the token endpoint demands it too
        assert error.status_code in (400, 401)


def test_a_clock_that_is_off_is_named(bank, make_handler):
    bank.clock_skew = 3600.0
    handler = make_handler(bank.snap_credentials())
    bank.fail_next(9, "clock", on="token")
    with pytest.raises(ClockError):
        handler.get_token()
    assert bank.logins == 0


def test_ten_thousand_ids_of_eight_threads_are_distinct(bank):
    credentials = bank.snap_credentials()
    found: list[str] = []

    def sign():
        for _ in range(1250):
            headers = credentials.sign("example-token", "POST", bank.snap_url + "/v1.0/x", b"{}")
            found.append(headers["X-EXTERNAL-ID"])

    together(8, sign)
    assert len(set(found)) == len(found) == 10_000


@pytest.mark.long
@pytest.mark.bank(token_lifetime=0.9)
def test_fifteen_lives_under_many_threads_and_an_outage(bank, make_handler, make_session):
    """Lives of nine seconds, scaled; of the threads few call the bank, which shares their cores."""
    handler = make_handler(bank.snap_credentials())
    over = threading.Event()
    handler.get_token()

    def failure(work) -> str | None:
        """Return the error of a piece of work, unless no token lived through it."""
        began = time.monotonic()
        try:
            work()
        except PermataAuthError as error:  # a machine that stood still may outlast a token
            lives = [t for t in bank.tokens_issued if t.issued_at < began]
            return repr(error) if lives[-1].expires_at > time.monotonic() else None
        return None

    def repeat(work, interval: float) -> tuple[int, list[str]]:
        found = []
        while not over.wait(interval):
            found.append(failure(work))
        return len(found), [each for each in found if each]

    def ask() -> tuple[int, list[str]]:
        return repeat(handler.get_token, 0.02)

    def call() -> tuple[int, list[str]]:
        session = make_session(handler)
        return repeat(lambda: post(session, bank), 0.3)

    calls = [Call(work) for work in [ask] * 28 + [call] * 4]
    until(lambda: bank.logins >= 15, timeout=60)
    bank.fail_for(0.6, status=503, on="token")  # over the next refresh, and not to the token's end
    until(lambda: bank.logins >= 31, timeout=60)
    over.set()
    outcomes = [each.value() for each in calls]
    assert [failure for _, failed in outcomes for failure in failed] == []
    assert all(count > 10 for count, _ in outcomes)
    refused = {r.reason for r in bank.requests if r.status not in (200, 503)}
    assert refused <= {"token expired"}  # on its way to the bank
    assert bank.calls_by_status["200"] > 100
    issued = [token.issued_at for token in bank.tokens_issued]
    gaps = [later - earlier for earlier, later in itertools.pairwise(issued)]
    assert sum(gaps) / len(gaps) > 0.9 / 2 * 0.9, gaps  # one login each time half a life is over
    assert bank.duplicates == bank.refused_logins == 0
