from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest
from support import keys
from support.inbound import (
    NOTIFY_PATH,
    SECRET,
    Answer,
    Caller,
    compact,
    new_id,
    receiver,
    rsa,
    stamp,
    symmetric,
)
from support.threads import Call, until

from permata_auth.snap_inbound import SnapAnswer, SnapRefusal, issuer


def test_a_right_call_reaches_the_function(bank, calls):
    at = stamp()
    answer = bank.call(b'{ "a" : 1 }', timestamp=at, **{"X-SIGNATURE": sign(bank, b'{"a":1}', at)})

    assert (answer.http_status, answer.code, answer.message) == (200, "2005200", "Successful")
    assert "X-CLIENT-KEY" not in answer.headers
    (call,) = calls
    assert (call.service, call.path, call.body) == (52, "/qr/qr-mpm-notify", {"a": 1})
    assert (call.partner_id, call.channel_id) == ("example-partner", "12345")
    assert (call.raw, call.timestamp) == (b'{ "a" : 1 }', datetime.fromisoformat(at))
    assert len(call.external_id) == 32


def sign(bank, body, at, **changes):
    return symmetric(
        **{"method": "POST", "path": NOTIFY_PATH, "token": bank.token, "body": body, **changes},
        timestamp=at,
    )


def deep(levels: int) -> bytes:
    return b'{"a":' * levels + b"1" + b"}" * levels


NAMES = ("X-TIMESTAMP", "X-SIGNATURE", "X-PARTNER-ID", "X-EXTERNAL-ID", "CHANNEL-ID")
ROWS = {
    "1 path": ({"path": "/v1.0/qr/unknown"}, "4040000", "Not Found"),
    "1 no path": ({"path": "*"}, "4040000", None),
    "1 method": ({"method": "PUT"}, "4055200", None),
    "1 size": ({"body": b" " * 65_537}, "4005200", "Bad Request. [Body size]"),
    "1 content type": ({"Content-Type": "text/json"}, "4005201", None),
    **{
        f"2 no {name}": ({name: None}, "4005202", f"Invalid Mandatory Field [{name}]")
        for name in NAMES
    },
    **{
        f"2 {name} joined": ({name: "a, a"}, "4005201", f"Invalid Field Format [{name}]")
        for name in NAMES
    },
    **{
        f"2 external id {given!r}": (
            {"X-EXTERNAL-ID": given},
            "4005201",
            "Invalid Field Format [X-EXTERNAL-ID]",
        )
        for given in ("1" * 37, "a b", "a:b", "é", "\ud800", "٣", "1\n")
    },
    "2 timestamp": ({"X-TIMESTAMP": "today"}, "4005201", "Invalid Field Format [X-TIMESTAMP]"),
    "3 no token": ({"Authorization": None}, "4015201", "Invalid Token (B2B)"),
    "3 other token": ({"token": "example-access-token"}, "4015201", None),
    "3 other scheme": ({"Authorization": "Basic YTpi"}, "4015201", None),
    "3 non-ASCII": ({"Authorization": "Bearer é"}, "4015201", None),
    "5 signature": ({"X-SIGNATURE": "AAAA"}, "4015200", "Unauthorized. [Signature]"),
    "5 no base64": ({"X-SIGNATURE": "****"}, "4015200", None),
    "5 other secret": ({"secret": "another-secret"}, "4015200", None),
    "6 partner": ({"X-PARTNER-ID": "x"}, "4015200", "Unauthorized. [Unknown client]"),
    "6 channel": ({"CHANNEL-ID": "x"}, "4015200", "Unauthorized. [Unknown client]"),
    **{
        f"8 {name}": ({"body": body}, "4005200", "Bad Request. [Body]")
        for name, body in {
            "empty": b"",
            "no json": b"a=b",
            "a list": b"[]",
            "a key twice": b'{"a":1,"a":1}',
            "NaN": b'{"a":NaN}',
            "infinite": b'{"a":1e999}',
            "no UTF-8": b'{"a":"\xff"}',
            "half a surrogate": b'{"a":"\\ud800"}',
            "half a surrogate as bytes": b'{"a":"\xed\xa0\x80"}',
            "BOM": b'\xef\xbb\xbf{"a":1}',
            "deep": deep(65),
            "very deep": deep(9_000),
            "a list very deep": b'{"a":' + b"[" * 60_000,
            "many digits": b'{"a":' + b"1" * 60_000 + b"}",
        }.items()
    },
}


@pytest.mark.parametrize("row", ROWS)
def test_every_row_has_its_answer_and_stops_there(make_bank, calls, row):
    bank = make_bank(partner_id="example-partner", channel_id="12345")
    changes, code, message = ROWS[row]

    answer = bank.call(**changes)

    assert answer.code == code
    assert message is None or answer.message == message
    assert calls == []


@pytest.mark.parametrize("name", [*NAMES, "Authorization", "Content-Type"])
def test_a_repeated_header_is_refused(bank, calls, name):
    headers = bank.headers()

    answer = bank.call(headers=[*headers.items(), (name.upper(), headers[name])])

    assert answer.code == ("4015201" if name == "Authorization" else "4005201")
    assert bank.call(headers={**headers, name: [headers[name]] * 2}).code == answer.code
    assert calls == []


def test_the_rows_are_looked_at_in_their_order(make_bank, clock):
    bank = make_bank(partner_id="another")
    body = b"[]"
    headers = {}
    stale, good = stamp(-301), stamp()
    steps = [
        ("4055200", {}),
        ("4005201", {"method": "POST"}),
        ("4005202", {"Content-Type": "application/json"}),
        ("4005201", dict.fromkeys(NAMES, "x")),
        ("4015201", {"X-TIMESTAMP": stale}),
        ("4015200 Unauthorized. [Timestamp]", {"Authorization": f"Bearer {bank.token}"}),
        ("4015200 Unauthorized. [Signature]", {"X-TIMESTAMP": good}),
        ("4015200 Unauthorized. [Unknown client]", {"X-SIGNATURE": sign(bank, body, good)}),
        ("4005200", {"X-PARTNER-ID": "another"}),
        ("4095200", {}),
    ]
    for expected, changes in steps:
        headers |= changes
        method = headers.get("method", "GET")
        sent = {name: value for name, value in headers.items() if name != "method"}
        answer = bank.call(body, method=method, headers=sent)
        assert f"{answer.code} {answer.message}".startswith(expected), changes


@pytest.mark.parametrize("offset", [-301, 301, 86_400, -1e9])
def test_stale_calls_are_refused(clock, bank, calls, offset):
    assert bank.call(timestamp=stamp(offset)).message == "Unauthorized. [Timestamp]"
    assert calls == []


@pytest.mark.parametrize(
    "text",
    [
        "2025-02-30T00:00:00+07:00",
        "2025-09-11T24:00:00+07:00",
        "2025-09-11T15:24:60+07:00",
        "2025-09-11T15:24:18+24:00",
        "2025-09-11T15:24:18+07:60",
        "2025-09-11T15:24:18+0700",
        "2025-09-11T15:24:18",
        "2025-09-11 15:24:18+07:00",
        "2025-09-11T15:24:18.+07:00",
        "2025-09-11T15:24:18.0000000001+07:00",
        "2025-09-11T15:24:18z",
        "2025-09-11t15:24:18Z",
        "2025-9-11T15:24:18Z",
        "0000-09-11T15:24:18Z",
        "+2025-09-11T15:24:18Z",
        "2025-09-11T15:24:18+07:00\n",
        "2025-09-11T15:24:18+07:00 ",
        "٢٠٢٥-09-11T15:24:18+07:00",
        "1757579058",
        "",
        "9" * 10_000,
    ],
)
def test_no_other_form_of_a_timestamp_is_taken(bank, calls, text):
    answer = bank.call(timestamp=text, **{"X-SIGNATURE": "AAAA"})

    assert answer.code in ("4005201", "4005202")
    assert answer.message.endswith("[X-TIMESTAMP]")
    assert calls == []


@pytest.mark.parametrize("year", ["0001", "9999"])
@pytest.mark.parametrize("offset", ["+23:59", "-23:59", "Z"])
def test_absurd_dates_are_merely_stale(bank, year, offset):
    answer = bank.call(timestamp=f"{year}-01-01T00:00:00{offset}")
    assert answer.message == "Unauthorized. [Timestamp]"


@pytest.mark.parametrize("form", ["+07:00", ".0+07:00", ".123456789+07:00"])
def test_every_form_of_the_standard_is_taken(bank, form):
    assert bank.call(timestamp=stamp().replace("+07:00", form)).code == "2005200"


@pytest.mark.parametrize(
    "path",
    [
        "//bank.invalid/v1.0/qr/qr-mpm-notify",
        "https://bank.invalid/v1.0/qr/qr-mpm-notify",
        "/v1.0/qr/qr-mpm-notify#x",
        "/v1.0/qr/qr-mpm-notify\n",
        "/v1.0/qr/qr-mpm-notify/",
        "/v1.0/qr/é",
        "/v1.0/\ud800",
        "",
        None,
        b"\xff",
        "x" * 1_000_000,
    ],
)
def test_only_plain_paths_are_known(bank, calls, path):
    headers = bank.headers()
    assert Answer.of(bank.receiver.process("POST", path, headers, b"{}")).code == "4040000"
    assert calls == []


@pytest.mark.parametrize(
    ("method", "headers", "body"),
    [
        (None, {}, b"{}"),
        ("POST", None, b"{}"),
        ("POST", {1: 2, None: None}, b"{}"),
        ("POST", [("a",)], b"{}"),
        ("POST", {b"content-type": b"application/json"}, b"{}"),
        ("POST", {}, None),
        ("POST", {}, "text"),
        ("POST", {}, 10**9),
        ("POST", {"Content-Type": "application/json" * 100_000}, b"x" * 10 * 1024 * 1024),
    ],
)
@pytest.mark.parametrize("path", [NOTIFY_PATH, "/v1.0/access-token/b2b", "/nowhere"])
def test_nonsense_is_answered_and_never_raises(bank, calls, path, method, headers, body):
    assert Answer.of(bank.receiver.process(method, path, headers, body)).http_status >= 400
    assert calls == []


# Paths and signatures.


def test_the_path_is_signed_as_it_was_received(make_bank, calls):
    bank = make_bank()
    behind = f"/example-prefix{NOTIFY_PATH}?a=%20b&c=%2B"

    assert bank.call(path=behind).code == "2005200"
    assert bank.call(path=behind, headers=bank.headers(path=NOTIFY_PATH)).code == "4015200"
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("prefix", "signed"), [("/", NOTIFY_PATH), ("/outside", f"/outside{NOTIFY_PATH}")]
)
def test_a_signed_prefix_is_the_only_other_path(make_bank, prefix, signed):
    bank = make_bank(signed_prefix=prefix)
    behind = f"/inside{NOTIFY_PATH}"

    assert bank.call(path=behind, headers=bank.headers(path=signed)).code == "2005200"
    assert bank.call(path=behind, headers=bank.headers(path=behind)).code == "4015200"


@pytest.mark.parametrize("vector", keys.SNAP["calls"], ids=lambda vector: vector["name"])
def test_published_vectors_verify(clock, monkeypatch, vector):
    if vector["method"] != "POST":
        pytest.skip("the bank calls by POST alone")
    bank, path, headers = at_the_time_of_the_vectors(clock, monkeypatch, vector["path"])
    headers["X-SIGNATURE"] = vector["signature"]
    body = vector["body"].encode("latin-1" if "Ã" in vector["body"] else "utf-8")

    answer = Answer.of(bank.receiver.process("POST", path, headers, body))

    # Bodies that are no strict object pass the signature, too, and fail later.
    assert answer.code in ("2005200", "4005200")


@pytest.mark.parametrize("name", ["upper-case hash", *keys.SNAP["wrong"]])
def test_no_known_wrong_form_verifies(clock, monkeypatch, name):
    h2 = next(each for each in keys.SNAP["calls"] if each["name"] == "H2")
    bank, path, headers = at_the_time_of_the_vectors(clock, monkeypatch, h2["path"])
    body, token, at = h2["body"].encode(), keys.SNAP["token"], keys.SNAP["timestamp"]
    import hashlib
    import hmac

    digest = hashlib.sha256(body).hexdigest()
    forms = {
        "upper-case hash": f"POST:{path}:{token}:{digest.upper()}:{at}",
        "Bearer in token": f"POST:{path}:Bearer {token}:{digest}:{at}",
        "host in path": f"POST:https://bank.invalid{path}:{token}:{digest}:{at}",
        "body+LF": f"POST:{path}:{token}:{hashlib.sha256(body + bytes([10])).hexdigest()}:{at}",
        "no token": f"POST:{path}:{digest}:{at}",
        "sha512 body": f"POST:{path}:{token}:{hashlib.sha512(body).hexdigest()}:{at}",
        "lower method": f"post:{path}:{token}:{digest}:{at}",
        "trailing slash": f"POST:{path}/:{token}:{digest}:{at}",
        "ts ms": f"POST:{path}:{token}:{digest}:{at.replace('+', '.000+')}",
    }
    if name not in forms:
        pytest.skip("only its beginning is known")
    signature = base64.b64encode(hmac.digest(SECRET.encode(), forms[name].encode(), "sha512"))
    headers["X-SIGNATURE"] = signature.decode()

    answer = Answer.of(bank.receiver.process("POST", path, headers, body))

    assert answer.message == "Unauthorized. [Signature]"


def at_the_time_of_the_vectors(clock, monkeypatch, path):
    monkeypatch.setattr(issuer, "is_valid", lambda token, keys: token == "example-access-token")
    at = keys.SNAP["timestamp"]
    clock.step_wall(datetime.fromisoformat(at).timestamp() - clock.wall())
    made = receiver()
    below = path.partition("?")[0].rpartition("/v1.0")[2]
    made.on(below, 52, lambda call: {})
    headers = {
        "Content-Type": "application/json",
        "Authorization": "Bearer example-access-token",
        "X-TIMESTAMP": at,
        "X-PARTNER-ID": "example-partner",
        "X-EXTERNAL-ID": "1",
        "CHANNEL-ID": "12345",
    }
    return Caller(made), path, headers


def test_asymmetric_calls_have_no_token(make_bank, calls):
    import hashlib

    bank = make_bank(signature="asymmetric", client_secrets=())
    body = compact({"a": 1})
    at = stamp()
    digest = hashlib.sha256(body).hexdigest()
    headers = {
        "Content-Type": "application/json",
        "X-TIMESTAMP": at,
        "X-SIGNATURE": rsa(f"POST:{NOTIFY_PATH}:{digest}:{at}"),
        "X-PARTNER-ID": "example-partner",
        "X-EXTERNAL-ID": new_id(),
        "CHANNEL-ID": "12345",
    }
    assert bank.call(body, headers=headers).code == "2005200"
    assert bank.call(b"{}", headers=headers).code == "4015200"
    assert len(calls) == 1


@pytest.mark.parametrize("canonicalizer", ["minify", "raw"])
def test_the_canonicaliser_is_the_configured_one(make_bank, canonicalizer):
    bank = make_bank(canonicalizer=canonicalizer)
    assert (bank.call(b'{ "a" : 1 }').code == "2005200") is (canonicalizer == "raw")


# What functions return.


def test_a_refusal_is_the_functions_own_answer(make_bank):
    def refuse(call):
        raise SnapRefusal("14", "Paid", body={"more": 1})

    bank = make_bank(refuse)
    headers = bank.headers()
    answer = bank.call(headers=headers)
    assert (answer.code, answer.message) == ("4045214", "Paid")
    assert answer.document["more"] == 1
    assert bank.call(headers=headers).code == "4095200"


@pytest.mark.parametrize(
    ("result", "code"),
    [
        ({"a": 1}, "2005200"),
        ({"responseCode": "2025200", "responseMessage": "Pending"}, "2025200"),
        ({"responseCode": 2005200}, "2005200"),
        (SnapAnswer({"a": 1}, http_status=202), "2025200"),
        (SnapAnswer({"responseCode": "4045212"}), "4045212"),
        ({"responseCode": "9995200"}, "5005200"),
        ({"responseCode": "200"}, "5005200"),
        ({"a": {1, 2}}, "5005200"),
        ({"a": float("nan")}, "5005200"),
        (None, "5005200"),
        ([], "5005200"),
        ("text", "5005200"),
    ],
)
def test_what_a_function_returns_is_answered(make_bank, result, code):
    assert make_bank(lambda call: result).call().code == code


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, RecursionError])
def test_an_exception_is_500_and_shows_nothing(make_bank, caplog, error):
    secret = "-".join(["example", "of", "a", "secret"])  # a traceback shows lines of this file

    def fail(call):
        raise error(secret)

    bank = make_bank(fail)
    headers = bank.headers()
    for _ in range(2):  # the id is free again
        answer = bank.call(headers=headers)
        assert (answer.code, answer.message) == ("5005200", "General Error")
    assert secret not in caplog.text
    assert error.__name__ in caplog.text


def test_the_function_runs_on_a_thread_that_ends_with_it(make_bank):
    threads = []
    bank = make_bank(lambda call: threads.append(threading.current_thread()) or {})
    bank.call()
    (thread,) = threads
    assert thread is not threading.current_thread()
    until(lambda: not thread.is_alive())


def test_a_slow_function_is_504_and_its_id_is_free_once_it_has_ended(make_bank, calls):
    gate, ended = threading.Event(), threading.Event()

    def wait(call):
        gate.wait(30)
        ended.set()
        return {}

    bank = make_bank(wait, time_limit_secs=0.05)
    headers = bank.headers()
    answer = bank.call(headers=headers)
    assert (answer.code, answer.message) == ("5045200", "Timeout")
    assert bank.call(headers=headers).code == "4095200"
    gate.set()
    assert ended.wait(30)
    until(lambda: bank.call(headers=headers).code == "2005200")
    assert len(calls) == 2


def test_the_claim_of_a_slow_function_is_renewed_until_it_ends(make_bank, calls, clock):
    gate = threading.Event()

    def park(call):
        clock.park(gate)
        return {}

    bank = make_bank(park, max_skew_secs=3600)
    headers = bank.headers()
    slow = Call(lambda: bank.call(headers=headers))
    clock.wait_for_sleepers(1)
    clock.advance(8)
    assert slow.value().code == "5045200"
    for _ in range(10):
        clock.advance(30)
        assert bank.call(headers=headers).code == "4095200"
    gate.set()
    clock.settle()
    assert bank.call(headers=headers).code == "2005200"
    assert len(calls) == 2


def test_a_function_runs_inside_of_what_the_framework_has_around_it(make_bank):
    told = []

    @contextmanager
    def around():
        told.append(threading.current_thread().name)
        try:
            yield
        finally:
            told.append("ended")

    def answer(call):
        told.append(threading.current_thread().name)
        return call.body["answer"]  # a KeyError for the second call

    bank = make_bank(answer)
    for body, code in ((b'{"answer":{}}', 200), (b"{}", 500), (b"x", 400)):
        response = bank.receiver.process(
            "POST", NOTIFY_PATH, bank.headers(body), body, around=around
        )
        assert response.http_status == code
    assert told == ["permata-auth-snap-function"] * 2 + ["ended"] + told[:2] + ["ended"]


# Log records and events.


def test_every_record_has_the_external_id(make_bank, caplog):
    events = []

    def fail(call):
        raise ValueError

    bank = make_bank(fail, on_event=events.append)
    caplog.set_level("DEBUG", "permata_auth.snap_inbound")
    bank.token  # noqa: B018
    caplog.clear()
    headers = bank.headers()
    bank.call(headers=headers)
    bank.call(headers={**headers, "X-SIGNATURE": "AAAA"})
    bank.call(b"x", headers={**headers, "X-SIGNATURE": sign(bank, b"x", headers["X-TIMESTAMP"])})

    records = [r for r in caplog.records if r.name.startswith("permata_auth")]
    assert len(records) >= 4
    assert {r.permata_request_id for r in records} == {headers["X-EXTERNAL-ID"]}
    told = [(e.service, e.response_code, e.outcome, e.check) for e in events[-3:]]
    assert told == [
        (52, "5005200", "failed", "Function"),
        (52, "4015200", "refused", "Signature"),
        (52, "4005200", "refused", "Body"),
    ]
    assert {e.request_id for e in events[-3:]} == {headers["X-EXTERNAL-ID"]}


def test_nothing_secret_is_shown(make_bank, secrets, caplog):
    caplog.set_level("DEBUG")
    bank = make_bank()
    headers = bank.headers()
    secrets.add(bank.token, headers["X-SIGNATURE"])
    answer = bank.call(headers={**headers, "X-EXTERNAL-ID": "x"})
    texts = [repr(bank.receiver), repr(bank.receiver._rules), repr(answer), caplog.text]
    assert not secrets.found_in(*texts, json.dumps(answer.document))


# Without assertions.


def test_the_checks_hold_without_assertions():
    """Run the tables in an interpreter that leaves assertions out of the package."""
    root = Path(__file__).parents[2]
    code = """
import sys, support.inbound as inbound
if __debug__: raise SystemExit("assertions are on")
from tests_rows import TOKEN_ROWS, CALL_ROWS
made = inbound.receiver(partner_id="example-partner", channel_id="12345")
made.on("/qr/qr-mpm-notify", 52, lambda call: {"reached": True})
bank = inbound.Caller(made)
wrong = []
for ask, rows in ((bank.ask_token, TOKEN_ROWS), (bank.call, CALL_ROWS)):
    wrong += [row for row, (changes, code, _) in rows.items() if ask(**changes).code != code]
print(wrong, bank.call().code)
"""
    rows = (
        "import sys, types\n"
        "from snap_inbound.test_token_requests import ROWS as TOKEN_ROWS\n"
        "from snap_inbound.test_calls import ROWS as CALL_ROWS\n"
        "sys.modules['tests_rows'] = module = types.ModuleType('tests_rows')\n"
        "module.TOKEN_ROWS, module.CALL_ROWS = TOKEN_ROWS, CALL_ROWS\n"
    )
    done = subprocess.run(
        [sys.executable, "-O", "-c", rows + code],
        cwd=root,
        env={"PYTHONPATH": f"{root}:{root / 'tests'}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("[] 2005200\n", 0), done.stderr
