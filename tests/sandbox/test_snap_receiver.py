"""Every wrong form of the bank's calls against a merchant that verifies: each row of its tables."""

from __future__ import annotations

import http.server
import threading

import pytest

from permata_auth.sandbox import Sandbox, SnapRules
from permata_auth.sandbox.snap.wrong import SIGNATURES

snap_inbound = pytest.importorskip("permata_auth.snap_inbound")

_TOKEN_HEADERS = ("X-CLIENT-KEY", "X-TIMESTAMP", "X-SIGNATURE")
_HEADERS = ("X-TIMESTAMP", "X-SIGNATURE", "X-PARTNER-ID", "X-EXTERNAL-ID", "CHANNEL-ID")
BODY = {"partnerServiceId": "    1234", "customerNo": "0812", "inquiryRequestId": "a b"}


class Merchant(http.server.ThreadingHTTPServer):
    def __init__(self, receiver):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.receiver = receiver
        self.url = f"http://127.0.0.1:{self.server_port}"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self):
        self.shutdown()
        self._thread.join(10)
        self.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    def _answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        response = self.server.receiver.process(self.command, self.path, self.headers.items(), body)
        self.send_response(response.http_status)
        for name, value in dict(response.headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        self.wfile.write(response.body)

    do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815 - names of the base class

    def log_message(self, *_):
        pass


@pytest.fixture
def bank():
    return Sandbox()


@pytest.fixture
def calls():
    return []


@pytest.fixture
def make_merchant(bank, calls):
    merchants = []

    def make(**changes):
        settings = bank.merchant_environment() | changes
        receiver = snap_inbound.SnapReceiver.from_env(settings)
        receiver.on("/transfer-va/inquiry", 24, lambda call: calls.append(call) or {"x": 1})
        merchants.append(Merchant(receiver))
        return merchants[-1]

    yield make
    for merchant in merchants:
        merchant.close()


@pytest.mark.parametrize(
    ("fault", "arguments", "code"),
    [
        (None, {}, "2007300"),
        ("header", {"name": "Content-Type", "value": "application/json; charset=utf-8"}, "2007300"),
        ("method", {}, "4057300"),
        ("large", {}, "4007300"),
        ("header", {"name": "Content-Type", "value": "text/plain"}, "4007301"),
        *(("missing", {"header": name}, "4007302") for name in _TOKEN_HEADERS),
        *(("repeated", {"header": name}, "4007301") for name in _TOKEN_HEADERS),
        ("timestamp", {"value": "2025-02-30T00:00:00+07:00"}, "4007301"),
        ("client", {}, "4017300"),
        ("stale", {}, "4017300"),
        ("stale", {"seconds": -330}, "4017300"),
        ("signature", {"form": "other_key"}, "4017300"),
        ("signature", {"form": "other_timestamp"}, "4017300"),
        ("signature", {"form": "not_base64"}, "4017300"),
        ("signature", {"form": "hex"}, "4017300"),
        ("signature", {"form": "other_kind"}, "4017300"),
        ("body", {"raw": "no JSON"}, "4007300"),
        ("grant_type", {"value": None}, "4007302"),
        ("grant_type", {}, "4007301"),
    ],
)  # fmt: skip
def test_each_row_of_the_token_table(bank, make_merchant, fault, arguments, code):
    response = bank.call_merchant(make_merchant().url, 73, b"", fault, **arguments)
    assert response.response_code == code
    assert response.status == int(code[:3])


@pytest.mark.parametrize(
    ("fault", "arguments", "code"),
    [
        (None, {}, "2002400"),
        ("header", {"name": "Content-Type", "value": "Application/JSON;charset=utf-8"}, "2002400"),
        ("path", {}, "4040000"),
        ("method", {}, "4052400"),
        ("large", {}, "4002400"),
        ("header", {"name": "Content-Type", "value": "text/plain"}, "4002401"),
        *(("missing", {"header": name}, "4002402") for name in _HEADERS),
        *(("repeated", {"header": name}, "4002401") for name in _HEADERS),
        ("header", {"name": "X-EXTERNAL-ID", "value": "a b"}, "4002401"),
        ("header", {"name": "X-EXTERNAL-ID", "value": "1" * 37}, "4002401"),
        ("timestamp", {"value": "2025-09-11T24:00:00+07:00"}, "4002401"),
        ("missing", {"header": "Authorization"}, "4012401"),
        ("header", {"name": "Authorization", "value": "Basic eDp5"}, "4012401"),
        ("token", {}, "4012401"),
        ("token", {"value": "unknown"}, "4012401"),
        ("stale", {}, "4012400"),
        ("stale", {"seconds": -330}, "4012400"),
        *(
            ("signature", {"form": form}, "4012400")
            for form in SIGNATURES
            if form not in ("other_key", "other_client")  # of which it has none
        ),
        ("header", {"name": "X-PARTNER-ID", "value": "other"}, "4012400"),
        ("header", {"name": "CHANNEL-ID", "value": "other"}, "4012400"),
        ("duplicate", {}, "4092400"),
        ("duplicate", {"is_replay": True}, "4092400"),
        ("body", {"raw": "no JSON"}, "4002400"),
        ("body", {"raw": "[]"}, "4002400"),
        ("body", {"raw": '{"a":1,"a":2}'}, "4002400"),
        ("body", {"raw": '{"a":NaN}'}, "4002400"),
        ("body", {"raw": b'{"a":"\xff"}'}, "4002400"),
        ("body", {"raw": '{"a":' * 5000}, "4002400"),
    ],
)
def test_each_row_of_the_transaction_table(bank, make_merchant, calls, fault, arguments, code):
    response = bank.call_merchant(make_merchant().url, 24, BODY, fault, **arguments)
    if arguments == {"form": "line_breaks"}:  # no header of HTTP has them: malformed
        code = "4002401"
    assert response.response_code == code
    assert response.status == int(code[:3])
    accepted = {"2002400": 1, "4092400": 1}
    assert len(calls) == accepted.get(code, 0)


def test_a_token_of_another_client_or_past_its_time_is_refused(bank, make_merchant, calls):
    other = make_merchant(PERMATA_SNAP_INBOUND_CLIENT_SECRET="example-other-secret")
    token = bank.call_merchant(other.url, 73).json()["accessToken"]
    merchant = make_merchant(PERMATA_SNAP_INBOUND_TOKEN_TTL="1")
    response = bank.call_merchant(merchant.url, 24, BODY, token=token)
    assert response.response_code == "4012401"
    response = bank.call_merchant(merchant.url, 24, BODY, "expired_token")
    assert response.response_code == "4012401"
    assert calls == []


@pytest.mark.parametrize(
    "rules", [{"transaction_signature": "asymmetric"}, {"signed_prefix": "/other"}]
)
def test_the_settings_follow_the_rules_of_the_bank(bank, make_merchant, calls, rules):
    bank.inbound_rules = SnapRules(**rules)
    merchant = make_merchant()
    assert bank.call_merchant(merchant.url, 24, BODY).response_code == "2002400"
    wrong = bank.call_merchant(merchant.url, 24, BODY, "signature", form="other_body")
    assert wrong.response_code == "4012400"
    assert len(calls) == 1
