"""The bank calls a merchant: its requests, and every wrong form of them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import threading
from datetime import datetime, timezone

import attrs
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from permata_auth.sandbox import Sandbox, SnapRules
from permata_auth.sandbox.snap import wrong

from .snap_client import VECTORS, hmac512, minify, sha

BODY = {
    "partnerServiceId": "    1234",
    "customerNo": "08123456789",
    "virtualAccountNo": "    123408123456789",
    "inquiryRequestId": "example request 1",
    "additionalInfo": {},
}
TOKEN = "merchant-token-0123456789"


@attrs.frozen
class Received:
    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def get(self, name):
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        return values[0] if values else None


class Merchant(http.server.ThreadingHTTPServer):
    """A merchant that says yes to everything, and keeps the requests."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[Received] = []
        self.token_response = {"responseCode": "2007300", "accessToken": TOKEN, "expiresIn": "1"}
        self.token_status = 200
        self.url = f"http://127.0.0.1:{self.server_port}/mounted/snap"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self):
        self.shutdown()
        self._thread.join(10)
        self.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    def _answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        received = Received(self.command, self.path, self.headers.items(), body)
        self.server.received.append(received)
        is_token = self.path.endswith("/access-token/b2b")
        status = self.server.token_status if is_token else 200
        document = self.server.token_response if is_token else {"responseCode": "2002400"}
        payload = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Seen", "yes")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815 - names of the base class

    def log_message(self, *_):
        pass


@pytest.fixture
def merchant():
    merchant = Merchant()
    yield merchant
    merchant.close()


@pytest.fixture
def bank():
    return Sandbox()  # it calls out, and need not be open


@pytest.fixture
def settings(bank):
    return {
        name.removeprefix("PERMATA_SNAP_"): value
        for name, value in bank.merchant_environment().items()
    }


def verifies(settings, received, message) -> bool:
    key = load_pem_public_key(settings["BANK_PUBLIC_KEY"].replace(r"\n", "\n").encode())
    try:
        value = base64.b64decode(received.get("X-SIGNATURE"), validate=True)
        key.verify(value, message, padding.PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, ValueError):
        return False
    return True


def is_well_signed(received, secret, token=TOKEN, path=None) -> bool:
    parts = (
        received.method,
        path or received.target,
        token,
        sha(minify(received.body)),
        received.get("X-TIMESTAMP"),
    )
    return received.get("X-SIGNATURE") == hmac512(":".join(parts), secret)


def test_the_bank_asks_for_a_token_and_calls_as_it_does(bank, merchant, settings):
    response = bank.call_merchant(merchant.url, 24, BODY)
    assert (response.status, response.response_code) == (200, "2002400")
    assert response.headers["x-seen"] == "yes"
    assert response.json() == json.loads(response.body) == {"responseCode": "2002400"}
    asked, called = merchant.received
    assert (asked.method, asked.target) == ("POST", "/mounted/snap/v1.0/access-token/b2b")
    assert asked.get("Content-Type") == called.get("Content-Type") == "application/json"
    assert asked.get("X-CLIENT-KEY") == settings["INBOUND_CLIENT_KEY"]
    assert json.loads(asked.body) == {"grantType": "client_credentials"}
    at = asked.get("X-TIMESTAMP")
    assert verifies(settings, asked, f"{settings['INBOUND_CLIENT_KEY']}|{at}".encode())
    assert abs(datetime.fromisoformat(at).timestamp() - bank.now()) < 60
    assert (called.method, called.target) == ("POST", "/mounted/snap/v1.0/transfer-va/inquiry")
    assert called.get("Authorization") == f"Bearer {TOKEN}"
    assert called.get("X-PARTNER-ID") == settings["INBOUND_PARTNER_ID"]
    assert called.get("CHANNEL-ID") == settings["INBOUND_CHANNEL_ID"]
    assert called.get("X-EXTERNAL-ID") == response.external_id
    assert len(response.external_id) == 32
    assert response.external_id.isdigit()
    assert json.loads(called.body) == BODY
    assert b": " not in called.body
    assert is_well_signed(called, settings["INBOUND_CLIENT_SECRET"])


@pytest.mark.parametrize(
    ("service", "path"),
    [
        (24, "/transfer-va/inquiry"),
        ("25", "/transfer-va/payment"),
        (52, "/qr/qr-mpm-notify"),
        (56, "/debit/notify"),
        (28, "/transfer-va/update-va"),
        ("/own/path?x=a%20b", "/own/path?x=a%20b"),
    ],
)
def test_a_service_is_a_code_or_a_path(bank, merchant, settings, service, path):
    bank.call_merchant(merchant.url + "/", service, BODY, token=TOKEN)
    (called,) = merchant.received
    assert called.method == ("PUT" if service == 28 else "POST")
    assert called.target == f"/mounted/snap/v1.0{path}"
    assert is_well_signed(called, settings["INBOUND_CLIENT_SECRET"])


def test_bodies_of_bytes_and_text_go_out_as_they_are(bank, merchant, settings):
    for vector in VECTORS["calls"]:
        body = vector["body"].encode()
        bank.call_merchant(merchant.url, 56, body, token=TOKEN)
        bank.call_merchant(merchant.url, 56, vector["body"], token=TOKEN)
        assert [each.body for each in merchant.received[-2:]] == [body, body]
        assert is_well_signed(merchant.received[-1], settings["INBOUND_CLIENT_SECRET"])


def test_73_asks_for_a_token_alone(bank, merchant):
    response = bank.call_merchant(merchant.url, 73)
    assert (response.json()["accessToken"], response.external_id) == (TOKEN, None)
    assert len(merchant.received) == 1


@pytest.mark.parametrize(
    ("status", "document"),
    [(401, {"responseCode": "4017300"}), (200, {"responseCode": "2007300"}), (200, b"no JSON")],
)
def test_without_a_token_the_token_response_is_returned(bank, merchant, status, document):
    merchant.token_status, merchant.token_response = status, document
    response = bank.call_merchant(merchant.url, 24, BODY)
    assert (response.status, response.external_id) == (status, None)
    assert len(merchant.received) == 1


def test_ids_are_new_for_each_call_and_can_be_given(bank, merchant):
    used = {bank.call_merchant(merchant.url, 24, BODY, token=TOKEN).external_id for _ in range(50)}
    assert len(used) == 50
    given = bank.call_merchant(merchant.url, 24, BODY, token=TOKEN, external_id="7")
    assert given.external_id == merchant.received[-1].get("X-EXTERNAL-ID") == "7"


def test_the_bank_has_its_own_clock(bank, merchant):
    bank.clock_skew = 7200
    bank.call_merchant(merchant.url, 73)
    at = datetime.fromisoformat(merchant.received[0].get("X-TIMESTAMP"))
    assert abs(at.timestamp() - bank.now()) < 60


@pytest.mark.parametrize(
    ("form", "shape"),
    [("milliseconds", "%Y-%m-%dT%H:%M:%S.%f+07:00"), ("utc", "%Y-%m-%dT%H:%M:%SZ")],
)
def test_the_rules_of_another_bank_can_be_had(bank, merchant, form, shape):
    bank.inbound_rules = SnapRules(
        timestamp_form=form,
        external_id_length=9,
        signature_encoding="hex",
        signed_prefix="/",
        sign_query=False,
    )
    environment = bank.merchant_environment()
    assert environment["PERMATA_SNAP_INBOUND_SIGNED_PREFIX"] == "/"
    response = bank.call_merchant(merchant.url, "/debit/notify?x=1", BODY, token=TOKEN)
    assert len(response.external_id) == 9
    (called,) = merchant.received
    at = called.get("X-TIMESTAMP")
    assert datetime.strptime(at, shape)
    message = f"POST:/v1.0/debit/notify:{TOKEN}:{sha(minify(called.body))}:{at}"
    secret = environment["PERMATA_SNAP_INBOUND_CLIENT_SECRET"].encode()
    expected = hmac.new(secret, message.encode(), hashlib.sha512).hexdigest()
    assert called.get("X-SIGNATURE") == expected


def test_an_asymmetric_call_has_no_token(bank, merchant, settings):
    bank.inbound_rules = SnapRules(transaction_signature="asymmetric")
    assert bank.merchant_environment()["PERMATA_SNAP_INBOUND_SIGNATURE"] == "asymmetric"
    bank.call_merchant(merchant.url, 52, BODY)
    (called,) = merchant.received
    assert called.get("Authorization") is None
    parts = ("POST", called.target, sha(minify(called.body)), called.get("X-TIMESTAMP"))
    assert verifies(settings, called, ":".join(parts).encode())


# Wrong forms


@pytest.mark.parametrize("form", wrong.SIGNATURES)
def test_a_wrong_signature_of_a_call_never_verifies(bank, merchant, settings, form):
    arguments = {"form": form}
    if form in ("other_client", "other_key"):  # which a symmetric signature has not
        with pytest.raises(ValueError, match="the right one"):
            bank.call_merchant(merchant.url, 24, BODY, "signature", token=TOKEN, **arguments)
        return
    bank.call_merchant(merchant.url, 24, BODY, "signature", token=TOKEN, **arguments)
    (called,) = merchant.received
    assert json.loads(called.body) == BODY
    assert called.get("Authorization") == f"Bearer {TOKEN}"
    assert called.get("X-TIMESTAMP")[-6:] == "+07:00"
    assert not is_well_signed(called, settings["INBOUND_CLIENT_SECRET"])


def test_wrong_signatures_are_the_known_wrong_forms(bank, merchant, settings):
    """Each form signs the same text as the vectors, shown on the vectors' own call."""
    names = {
        "upper_hash": "upper-case hash",
        "bearer_in_token": "Bearer in token",
        "host_in_path": "host in path",
        "newline_hash": "body+LF",
        "sorted_keys": "keys sorted",
        "default_separators": "python default separators",
        "base64_hash": "base64 body hash",
        "milliseconds": "ts ms",
        "utc": "ts Z",
        "no_token": "no token",
        "sha512_hash": "sha512 body",
        "lower_method": "lower method",
        "trailing_slash": "trailing slash",
    }
    from permata_auth.sandbox.snap.draft import Draft

    h2 = next(vector for vector in VECTORS["calls"] if vector["name"] == "H2")
    draft = Draft(
        method="POST",
        target=h2["path"],
        body=h2["body"].encode(),
        timestamp=VECTORS["timestamp"],
        kind="symmetric",
        token=VECTORS["token"],
        secret=VECTORS["client_secret"],
    )
    rules = SnapRules()
    assert draft.signature(rules) == h2["signature"]
    for name, known in names.items():
        signature = wrong.SIGNATURES[name].signed(draft).signature(rules)
        assert signature.startswith(VECTORS["wrong"][known]), name


@pytest.mark.parametrize(
    "form",
    [
        *("other_key", "other_client", "other_timestamp", "other_kind", "hex", "line_breaks"),
        *("lower_case", "truncated", "no_padding", "not_base64", "trailing_text", "milliseconds"),
    ],
)
def test_a_wrong_signature_of_a_token_request_never_verifies(bank, merchant, settings, form):
    bank.call_merchant(merchant.url, 73, fault="signature", form=form)
    (asked,) = merchant.received
    message = f"{settings['INBOUND_CLIENT_KEY']}|{asked.get('X-TIMESTAMP')}"
    assert asked.get("X-CLIENT-KEY") == settings["INBOUND_CLIENT_KEY"]
    assert not verifies(settings, asked, message.encode())


def test_a_form_that_is_right_here_is_refused(bank, merchant):
    bank.inbound_rules = SnapRules(canonicalizer="strip_all")
    with pytest.raises(ValueError, match="the right one"):
        bank.call_merchant(
            merchant.url, 24, b'{"a":"b"}', "signature", token=TOKEN, form="strip_all_hash"
        )
    assert merchant.received == []


@pytest.mark.parametrize(
    ("service", "names"),
    [
        (73, ("X-CLIENT-KEY", "X-TIMESTAMP", "X-SIGNATURE", "Content-Type")),
        (24, ("X-TIMESTAMP", "X-SIGNATURE", "X-PARTNER-ID", "X-EXTERNAL-ID", "CHANNEL-ID")),
        (24, ("Authorization", "Content-Type")),
    ],
)
def test_headers_can_be_missing_repeated_or_others(bank, merchant, service, names):
    for name in names:
        for fault in ("missing", "repeated"):
            bank.call_merchant(merchant.url, service, BODY, fault, token=TOKEN, header=name.lower())
            count = sum(key.lower() == name.lower() for key, _ in merchant.received[-1].headers)
            assert count == (0 if fault == "missing" else 2)
        bank.call_merchant(
            merchant.url, service, BODY, "header", token=TOKEN, name=name, value="\u00e9 other"
        )
        assert merchant.received[-1].get(name) == "\u00e9 other"


@pytest.mark.parametrize("service", [73, 24])
def test_a_method_a_path_a_body_and_a_timestamp_can_be_wrong(bank, merchant, service):
    def last(fault, **arguments) -> Received:
        bank.call_merchant(merchant.url, service, BODY, fault, token=TOKEN, **arguments)
        return merchant.received[-1]

    assert last("method").method == "GET"
    assert last("method", method="PUT").method == "PUT"
    assert last("path").target == "/v1.0/nowhere"
    assert last("body", raw=b"\xff").body == b"\xff"
    assert last("body", raw='{"a":1,"a":2}').body == b'{"a":1,"a":2}'
    assert len(last("large").body) == 65_537
    assert json.loads(last("large", bytes=100_000).body)
    assert last("timestamp", value="24:00").get("X-TIMESTAMP") == "24:00"
    for seconds in (301.0, -301.0):
        at = datetime.fromisoformat(last("stale", seconds=seconds).get("X-TIMESTAMP"))
        age = datetime.now(timezone.utc) - at
        assert abs(age.total_seconds() - seconds) < 60


@pytest.mark.parametrize("fault", ["path", "large", "stale", "token"])
def test_such_a_call_is_signed_well_all_the_same(bank, merchant, settings, fault):
    bank.call_merchant(merchant.url, 24, BODY, fault, token=TOKEN)
    (called,) = merchant.received
    token = called.get("Authorization").removeprefix("Bearer ")
    assert (token != TOKEN) == (fault == "token")
    assert len(token) == len(TOKEN)
    assert is_well_signed(called, settings["INBOUND_CLIENT_SECRET"], token=token)


def test_a_token_request_can_name_another_client_or_grant(bank, merchant, settings):
    bank.call_merchant(merchant.url, 73, fault="client")
    asked = merchant.received[-1]
    assert asked.get("X-CLIENT-KEY") == "example-stranger"
    assert verifies(settings, asked, f"example-stranger|{asked.get('X-TIMESTAMP')}".encode())
    bank.call_merchant(merchant.url, 73, fault="grant_type")
    bank.call_merchant(merchant.url, 73, fault="grant_type", value=None)
    assert [json.loads(r.body) for r in merchant.received[1:]] == [{"grantType": "password"}, {}]


def test_an_id_is_sent_twice_signed_anew_or_as_it_was(bank, merchant, settings):
    response = bank.call_merchant(merchant.url, 25, BODY, "duplicate", token=TOKEN)
    first, second = merchant.received
    assert first.get("X-EXTERNAL-ID") == second.get("X-EXTERNAL-ID") == response.external_id
    assert is_well_signed(second, settings["INBOUND_CLIENT_SECRET"])
    merchant.received.clear()
    bank.call_merchant(merchant.url, 25, BODY, "duplicate", token=TOKEN, is_replay=True)
    first, second = merchant.received
    assert first == second


def test_an_expired_token_is_ours_used_late(bank, merchant, monkeypatch):
    waits = []
    monkeypatch.setattr("time.sleep", waits.append)
    bank.call_merchant(merchant.url, 24, BODY, "expired_token")
    assert merchant.received[1].get("Authorization") == f"Bearer {TOKEN}"
    assert waits == [1.5]
    merchant.token_response["expiresIn"] = "900"
    with pytest.raises(ValueError, match="shorten"):
        bank.call_merchant(merchant.url, 24, BODY, "expired_token")


@pytest.mark.parametrize(
    ("fault", "arguments"),
    [
        ("nonsense", {}),
        (None, {"header": "x"}),
        ("missing", {}),
        ("missing", {"name": "x"}),
        ("signature", {}),
        ("signature", {"form": "nonsense"}),
        ("stale", {"seconds": float("nan")}),
    ],
)
def test_an_unknown_fault_or_argument_sends_nothing(bank, merchant, fault, arguments):
    with pytest.raises(ValueError, match=r"\w"):
        bank.call_merchant(merchant.url, 24, BODY, fault, **arguments)
    assert merchant.received == []


@pytest.mark.parametrize("service", [99, "x", ""])
def test_an_unknown_service_sends_nothing(bank, merchant, service):
    with pytest.raises(ValueError, match="service"):
        bank.call_merchant(merchant.url, service, BODY)
    assert merchant.received == []


def test_no_merchant_is_an_oserror_and_another_scheme_a_valueerror(bank, merchant):
    merchant.close()
    with pytest.raises(OSError, match="refused"):
        bank.call_merchant(merchant.url, 24, BODY)
    with pytest.raises(ValueError, match="http"):
        bank.call_merchant("ftp://merchant.invalid", 24, BODY)


def test_the_documentation_names_every_fault():
    assert [name for name in wrong.FORMS if f"\n{name} " not in wrong.__doc__] == []


def test_a_response_shows_no_body(bank, merchant):
    assert TOKEN not in repr(bank.call_merchant(merchant.url, 73))
    merchant.token_response = b'{"responseCode": 2007300}'
    assert bank.call_merchant(merchant.url, 73).response_code == "2007300"
    merchant.token_response = b"[]"
    assert bank.call_merchant(merchant.url, 73).response_code == ""
