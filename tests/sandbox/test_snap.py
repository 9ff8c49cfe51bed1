"""The SNAP side: requests accepted, refused and with which code; its counters."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from datetime import datetime, timedelta

import pytest

from permata_auth.sandbox import Sandbox, SnapRules
from permata_auth.sandbox.messages import SNAP_TOKEN_PATH
from permata_auth.sandbox.snap import keys
from permata_auth.sandbox.snap.checks import (
    WIB,
    hmac_sha512,
    is_signed,
    read_timestamp,
    string_to_sign,
)
from permata_auth.sandbox.snap.services import PATHS

from . import client as classic
from .snap_client import (
    BALANCE_PATH,
    CALL_BODY,
    KEY,
    SECRET,
    VECTORS,
    SnapClient,
    external_id,
    hmac512,
    login,
    message,
    minify,
    rsa,
    sha,
    stamp,
)

CALLS = {vector["name"]: vector for vector in VECTORS["calls"]}
AT, TOKEN = VECTORS["timestamp"], VECTORS["token"]
CALL_HEADERS = ("X_TIMESTAMP", "X_SIGNATURE", "X_PARTNER_ID", "X_EXTERNAL_ID", "CHANNEL_ID")
VA_PATH = "/snap/v1.0/transfer-va/inquiry"
TRANSFER = {
    "partnerReferenceNo": "example-1",
    "amount": {"value": "10000.00", "currency": "IDR"},
    "sourceAccountNo": "7001234567",
    "beneficiaryAccountNo": "7007654321",
}


@pytest.fixture
def client(bank):
    with SnapClient(bank) as client:
        yield client


def code(answer) -> str:
    assert answer.headers["Content-Type"] == "application/json"
    document = answer.json()
    assert document["responseCode"].startswith(str(answer.status))
    return document["responseCode"]


def outcome(answer) -> tuple[str, str]:
    return code(answer), answer.json()["responseMessage"]


# Vectors


@pytest.mark.parametrize("vector", VECTORS["rsa"], ids=lambda vector: vector["name"])
def test_rsa_vectors_are_accepted_and_nothing_else(vector):
    value = base64.b64decode(vector["signature"])
    key = keys.private_key("merchant").public_key()
    octets = vector["message"].encode()
    checked = {"secret": SECRET, "key": key}
    assert is_signed("asymmetric", value, octets, **checked)
    assert not is_signed("asymmetric", value, octets + b" ", **checked)
    assert not is_signed("asymmetric", value[:-1] + bytes([value[-1] ^ 1]), octets, **checked)
    assert not is_signed("asymmetric", b"", octets, **checked)
    assert not is_signed("symmetric", value, octets, **checked)
    other = keys.private_key("bank").public_key()
    assert not is_signed("asymmetric", value, octets, secret=SECRET, key=other)


@pytest.mark.parametrize("vector", VECTORS["calls"], ids=lambda vector: vector["name"])
def test_symmetric_vectors_are_those_of_the_bank(vector):
    rules, body = SnapRules(), vector["body"].encode()
    assert rules.body_hash(body) == vector["sha256"]
    parts = (vector["method"], rules.signed_path(vector["path"]), TOKEN, vector["sha256"], AT)
    value = hmac_sha512(SECRET, string_to_sign(parts))
    assert rules.write_signature(value) == vector["signature"]
    assert rules.read_signature(vector["signature"]) == value


def test_the_other_forms_of_a_signature_are_rules():
    h2 = CALLS["H2"]
    value = base64.b64decode(h2["signature"])
    in_hex = SnapRules(signature_encoding="hex")
    assert in_hex.write_signature(value) == VECTORS["hex"]["signature"]
    assert in_hex.read_signature(VECTORS["hex"]["signature"]) == value
    assert in_hex.read_signature(h2["signature"]) == b""
    assert SnapRules().read_signature(VECTORS["hex"]["signature"]) != value
    stripped = SnapRules(canonicalizer="strip_all")
    assert stripped.body_hash(h2["body"].encode()) == VECTORS["strip_all"]["sha256"]


@pytest.mark.parametrize("vector", VECTORS["paths"])
def test_the_signed_path_follows_the_rules(vector):
    target = vector["url"].partition("bank.invalid")[2].partition("#")[0] or "/"
    rules = SnapRules(
        signed_prefix=vector.get("signed_prefix"), sign_query=vector.get("sign_query", True)
    )
    assert rules.signed_path(target) == vector["path"]


@pytest.mark.parametrize("vector", VECTORS["rsa"][:3], ids=lambda vector: vector["name"])
def test_a_token_vector_logs_in_while_it_is_fresh(bank, vector):
    at = vector["message"].partition("|")[2]
    moment = read_timestamp(at, "any")
    bank.clock_skew = moment.timestamp() - datetime.now(WIB).timestamp()
    with SnapClient(bank) as client:
        assert code(client.login(at=at, X_SIGNATURE=vector["signature"])) == "2007300"
        other = VECTORS["rsa"][3]["signature"]
        answer = client.login(at=at, X_SIGNATURE=other)
        assert outcome(answer) == ("4017300", "Unauthorized. [Signature]")


# Tokens


def test_a_good_login_gets_a_token_whose_life_is_a_string(bank):
    answer = login(bank)
    assert answer.json() == {
        "responseCode": "2007300",
        "responseMessage": "Successful",
        "accessToken": answer.json()["accessToken"],
        "tokenType": "Bearer",
        "expiresIn": "900",
    }
    assert answer.headers["X-CLIENT-KEY"] == "example-client"
    assert read_timestamp(answer.headers["X-TIMESTAMP"], "seconds")
    bank.token_lifetime = 0.75
    assert login(bank).json()["expiresIn"] == "0.75"
    assert (bank.logins, bank.login_attempts, bank.replays) == (2, 2, bank.replays)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"method": "GET"}, ("4057300", "Requested Function Is Not Supported")),
        ({"Content_Type": None}, ("4007301", "Invalid Field Format [Content-Type]")),
        (
            {"Content_Type": "application/json; charset=utf-8"},
            ("4007301", "Invalid Field Format [Content-Type]"),
        ),
        ({"X_CLIENT_KEY": None}, ("4007302", "Invalid Mandatory Field [X-CLIENT-KEY]")),
        ({"X_TIMESTAMP": None}, ("4007302", "Invalid Mandatory Field [X-TIMESTAMP]")),
        ({"X_SIGNATURE": None}, ("4007302", "Invalid Mandatory Field [X-SIGNATURE]")),
        ({"X_SIGNATURE": ""}, ("4007302", "Invalid Mandatory Field [X-SIGNATURE]")),
        ({"X_CLIENT_KEY": ["a", "a"]}, ("4007301", "Invalid Field Format [X-CLIENT-KEY]")),
        ({"X_CLIENT_KEY": "other"}, ("4017300", "Unauthorized. [Unknown client]")),
        ({"X_CLIENT_KEY": "é"}, ("4017300", "Unauthorized. [Unknown client]")),
        ({"X_SIGNATURE": "****"}, ("4017300", "Unauthorized. [Signature]")),
        ({"X_SIGNATURE": "é"}, ("4017300", "Unauthorized. [Signature]")),
        ({"signed": "example-client"}, ("4017300", "Unauthorized. [Signature]")),
        ({"body": b""}, ("4007300", "Bad Request")),
        ({"body": b"[]"}, ("4007300", "Bad Request")),
        ({"body": b"[" * 100_000}, ("4007300", "Bad Request")),
        ({"body": b"{}"}, ("4007302", "Invalid Mandatory Field [grantType]")),
        ({"body": b'{"grantType":"password"}'}, ("4007301", "Invalid Field Format [grantType]")),
    ],
)  # fmt: skip
def test_a_wrong_login_is_refused_with_its_code(bank, changes, expected):
    assert outcome(login(bank, **changes)) == expected
    assert (bank.logins, bank.login_attempts) == (0, 1)


BAD_TIMESTAMPS = [
    "soon",
    stamp()[:-6],
    stamp() + " ",
    stamp().replace("T", " "),
    stamp()[:19] + ".+07:00",
    stamp()[:19] + ".0000000000+07:00",
    stamp()[:19] + "+24:00",
    stamp()[:19] + "+07:60",
    stamp()[:19] + "z",
    "2025-02-30T00:00:00+07:00",
    "2025-09-11T24:00:00+07:00",
    "2025-09-11T15:24:60+07:00",
    "²025-09-11T15:24:18+07:00",
    "1757579058",
]


@pytest.mark.parametrize("at", BAD_TIMESTAMPS)
def test_a_timestamp_of_another_form_is_a_bad_field(bank, at):
    at = at.encode().decode("latin-1")
    signed = f"example-client|{at}".encode("latin-1")
    answer = login(bank, at=at, signed=signed)
    assert outcome(answer) == ("4007301", "Invalid Field Format [X-TIMESTAMP]")


def test_every_form_of_the_standard_is_taken_and_one_can_be_demanded(bank):
    now = datetime.now(WIB)
    forms = {
        "seconds": now.isoformat(timespec="seconds"),
        "milliseconds": now.isoformat(timespec="milliseconds"),
        "utc": f"{now - timedelta(hours=7):%Y-%m-%dT%H:%M:%SZ}",
        "other": f"{now - timedelta(hours=8):%Y-%m-%dT%H:%M:%S}.5-01:00",
    }
    assert [login(bank, at=at).status for at in forms.values()] == [200] * 4
    for name, at in list(forms.items())[:3]:
        bank.snap_rules = SnapRules(timestamp_form=name)
        answers = {form: login(bank, at=each).status for form, each in forms.items()}
        assert answers == {form: 200 if form == name else 400 for form in forms}
        assert login(bank, at=at).status == 200


# A pause of the machine makes a timestamp older: where that could matter there are 30 s for it.
@pytest.mark.parametrize(("offset", "status"), [(-270, 200), (299, 200), (-301, 401), (330, 401)])
def test_timestamps_are_fresh_within_the_tolerance_both_ways(bank, offset, status):
    answer = login(bank, at=stamp(offset))
    assert answer.status == status
    if status == 401:
        assert outcome(answer) == ("4017300", "Unauthorized. [Timestamp]")
    bank.clock_skew = offset
    assert login(bank, at=stamp(offset)).status == 200
    shown = read_timestamp(login(bank).headers["X-TIMESTAMP"], "seconds")
    assert abs(shown.timestamp() - bank.now()) < 60


def test_utc_digits_labelled_as_jakarta_are_stale(bank):
    assert outcome(login(bank, at=stamp(-7 * 3600)))[0] == "4017300"


def test_a_token_signature_may_be_symmetric(bank):
    bank.snap_rules = SnapRules(token_signature="symmetric")
    at = stamp()
    assert code(login(bank, at=at, X_SIGNATURE=hmac512(f"example-client|{at}"))) == "2007300"
    assert code(login(bank, at=at)) == "4017300"
    vector = VECTORS["token_hmac"][0]
    value = base64.b64decode(vector["signature"])
    key = keys.private_key("merchant").public_key()
    octets = vector["message"].encode()
    assert is_signed("symmetric", value, octets, secret=SECRET, key=key)


# Calls


def test_a_balance_is_answered(client):
    answer = client.call(client.token())
    assert outcome(answer) == ("2001100", "Successful")
    document = answer.json()
    assert document["accountNo"] == "7001234567"
    assert document["accountInfos"][0]["availableBalance"] == {
        "value": "200000.00",
        "currency": "IDR",
    }
    assert read_timestamp(answer.headers["X-TIMESTAMP"], "seconds")


@pytest.mark.parametrize("name", [name for name in CALLS if CALLS[name]["body"]])
def test_bodies_of_the_vectors_are_signed_as_they_are(client, name):
    vector = CALLS[name]
    path = vector["path"].removeprefix("/example-prefix")
    answer = client.call(
        client.token(), vector["body"].encode(), method=vector["method"], path=f"/snap{path}"
    )
    assert answer.status in (200, 404)  # 404: the vectors' own services are none of this bank
    assert "Unauthorized" not in answer.json()["responseMessage"]


def forms_of_h2(token, at):
    """Every wrong form, as the string that is signed, and the names that the vectors have."""
    h2, h3 = CALLS["H2"]["body"].encode(), CALLS["H3"]["body"].encode()
    document = json.loads(h2)
    mini, path = minify(h2), CALLS["H2"]["path"] if token == TOKEN else VA_PATH
    digest = sha(mini)

    def text(method="POST", path=path, token=token, digest=digest, at=at):
        return ":".join(part for part in (method, path, token, digest, at) if part is not None)

    return {
        "upper-case hash": text(digest=digest.upper()),
        "Bearer in token": text(token=f"Bearer {token}"),
        "host in path": text(path=f"https://merchant.invalid{path}"),
        "raw H3 hashed": text(digest=sha(h3)),
        "body+LF": text(digest=sha(h2 + b"\n")),
        "keys sorted": text(
            digest=sha(json.dumps(document, sort_keys=True, separators=(",", ":")).encode())
        ),
        "python default separators": text(digest=sha(json.dumps(document).encode())),
        "base64 body hash": text(digest=base64.b64encode(bytes.fromhex(digest)).decode()),
        "ts ms": text(at=at.replace("+07:00", ".000+07:00")),
        "ts Z": text(at=f"{read_timestamp(at, 'any') - timedelta(hours=7):%Y-%m-%dT%H:%M:%SZ}"),
        "no token": text(token=None),
        "sha512 body": text(digest=hashlib.sha512(mini).hexdigest()),
        "lower method": text(method="post"),
        "trailing slash": text(path=f"{path}/"),
    }


@pytest.mark.parametrize("form", VECTORS["wrong"])
def test_a_wrong_form_never_verifies(client, form):
    known = hmac512(forms_of_h2(TOKEN, AT)[form])
    assert known.startswith(VECTORS["wrong"][form])  # the form is that of the vector
    token, at = client.token(), stamp()
    body = CALLS["H2"]["body"].encode()
    wrong = forms_of_h2(token, at)[form]
    answer = client.call(token, body, path=VA_PATH, at=at, signed=wrong)
    assert outcome(answer) == ("4012400", "Unauthorized. [Signature]")
    assert client.call(token, body, path=VA_PATH, at=at).status == 200


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"path": "/snap/v1.0/nowhere"}, ("4040000", "Not Found")),
        ({"path": "/snap/v2.0/balance-inquiry"}, ("4040000", "Not Found")),
        ({"method": "GET"}, ("4051100", "Requested Function Is Not Supported")),
        ({"Content_Type": "text/plain"}, ("4001101", "Invalid Field Format [Content-Type]")),
        (
            {"Content_Type": "application/json;charset=utf-8"},
            ("4001101", "Invalid Field Format [Content-Type]"),
        ),
        *(
            ({name: None}, ("4001102", f"Invalid Mandatory Field [{name.replace('_', '-')}]"))
            for name in CALL_HEADERS
        ),
        *(
            ({name: ["1", "1"]}, ("4001101", f"Invalid Field Format [{name.replace('_', '-')}]"))
            for name in CALL_HEADERS
        ),
        ({"X_EXTERNAL_ID": "1" * 37}, ("4001101", "Invalid Field Format [X-EXTERNAL-ID]")),
        ({"X_EXTERNAL_ID": "abc"}, ("4001101", "Invalid Field Format [X-EXTERNAL-ID]")),
        ({"X_EXTERNAL_ID": "²"}, ("4001101", "Invalid Field Format [X-EXTERNAL-ID]")),
        ({"at": "soon"}, ("4001101", "Invalid Field Format [X-TIMESTAMP]")),
        ({"Authorization": None}, ("4011101", "Invalid Token (B2B)")),
        ({"Authorization": "Bearer unknown"}, ("4011101", "Invalid Token (B2B)")),
        ({"Authorization": "Basic eDp5"}, ("4011101", "Invalid Token (B2B)")),
        ({"X_PARTNER_ID": "other"}, ("4011100", "Unauthorized. [Unknown partner]")),
        ({"CHANNEL_ID": "1"}, ("4011100", "Unauthorized. [Unknown channel]")),
        ({"at": stamp(-864_000)}, ("4011100", "Unauthorized. [Timestamp]")),
        ({"at": stamp(864_000)}, ("4011100", "Unauthorized. [Timestamp]")),
        ({"X_SIGNATURE": "****"}, ("4011100", "Unauthorized. [Signature]")),
        ({"body": b""}, ("4001100", "Bad Request")),
        ({"body": b"[]"}, ("4001100", "Bad Request")),
        ({"body": b"{}"}, ("4001102", "Invalid Mandatory Field [accountNo]")),
        ({"body": b'{"accountNo":7}'}, ("4001101", "Invalid Field Format [accountNo]")),
    ],
)  # fmt: skip
def test_a_wrong_call_is_refused_with_its_code(client, changes, expected):
    assert outcome(client.call(client.token(), **changes)) == expected


def test_the_query_is_signed_as_it_was_sent(client):
    path = "/snap/v1.0/transfer-va/report?from=2025-09-01T00%3A00%3A00%2B07%3A00&name=a%20b"
    token = client.token()
    assert client.call(token, b"", method="GET", path=path).status == 200
    for other in (path.partition("?")[0], path.replace("%3A", ":"), path.replace("%20", "+")):
        signed = message(token, "GET", other, b"", at := stamp())
        answer = client.call(token, b"", method="GET", path=path, at=at, signed=signed)
        assert outcome(answer) == ("4013500", "Unauthorized. [Signature]")


@pytest.mark.parametrize(
    ("rules", "signed"),
    [
        ({"signed_prefix": "/"}, lambda t, at: message(t, "POST", BALANCE_PATH[5:], CALL_BODY, at)),
        (
            {"signed_prefix": "/x"},
            lambda t, at: message(t, "POST", "/x" + BALANCE_PATH[5:], CALL_BODY, at),
        ),
        (
            {"canonicalizer": "raw"},
            lambda t, at: f"POST:{BALANCE_PATH}:{t}:{sha(CALL_BODY)}:{at}",
        ),
    ],
)
def test_the_rules_of_another_bank_can_be_had(bank, client, rules, signed):
    bank.snap_rules = SnapRules(**rules)
    token, at = client.token(), stamp()
    assert client.call(token, at=at, signed=signed(token, at)).status == 200


def test_an_asymmetric_call_needs_no_token(bank, client):
    bank.snap_rules = SnapRules(transaction_signature="asymmetric")
    at = stamp()
    signature = rsa(f"POST:{BALANCE_PATH}:{sha(CALL_BODY)}:{at}")
    answer = client.call("", at=at, X_SIGNATURE=signature, Authorization=None)
    assert outcome(answer) == ("2001100", "Successful")
    assert code(client.call("", at=at)) == "4011100"


# Ids


def test_an_external_id_counts_once_a_day(bank, client):
    token, used = client.token(), external_id()
    assert client.call(token, X_EXTERNAL_ID=used).status == 200
    for path in (BALANCE_PATH, VA_PATH):
        answer = client.call(token, path=path, X_EXTERNAL_ID=used)
        assert answer.status == 409
        assert outcome(answer)[1] == "Conflict"
    assert (bank.duplicates, bank.counters()["duplicates"]) == (2, 2)
    bank.clock_skew = 86_400
    token = client.login(at=stamp(86_400)).json()["accessToken"]
    assert client.call(token, at=stamp(86_400), X_EXTERNAL_ID=used).status == 200


def test_an_id_of_a_call_that_was_refused_is_not_spent(client):
    token, used = client.token(), external_id()
    assert client.call(token, X_SIGNATURE="x", X_EXTERNAL_ID=used).status == 401
    assert client.call("unknown", X_EXTERNAL_ID=used).status == 401
    assert client.call(token, X_EXTERNAL_ID=used).status == 200


def test_of_many_calls_with_one_id_one_is_accepted(bank):
    with SnapClient(bank) as client:
        token = client.token()
    barrier, statuses, used = threading.Barrier(16), [], external_id()

    def work():
        with SnapClient(bank) as client:
            barrier.wait(20)
            statuses.append(client.call(token, X_EXTERNAL_ID=used).status)

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(statuses) == [200] + [409] * 15


# Services


def post(client, token, service, document, **changes):
    body = json.dumps(document).encode()
    return client.call(token, body, path=f"/snap/v1.0{PATHS[service]}", **changes)


def test_a_transfer_is_made_once_and_its_status_can_be_asked(bank, client):
    token = client.token()
    asked = {"originalPartnerReferenceNo": "example-1", "serviceCode": "17"}
    unknown = post(client, token, "36", asked)
    assert outcome(unknown) == ("4043601", "Transaction Not Found")
    made = post(client, token, "17", TRANSFER)
    assert outcome(made) == ("2001700", "Successful")
    assert made.json()["amount"] == TRANSFER["amount"]
    again = post(client, token, "17", TRANSFER)
    assert outcome(again) == ("4091701", "Duplicate partnerReferenceNo")
    status = post(client, token, "36", asked).json()
    assert (status["responseCode"], status["latestTransactionStatus"]) == ("2003600", "00")
    assert status["originalReferenceNo"] == made.json()["referenceNo"]
    assert bank.transfers == bank.counters()["transfers"] == 1


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"amount": None}, ("4001702", "Invalid Mandatory Field [amount]")),
        ({"amount": {"value": 10000}}, ("4001701", "Invalid Field Format [amount.value]")),
        ({"amount": {"value": "10000.0"}}, ("4001701", "Invalid Field Format [amount.value]")),
        ({"partnerReferenceNo": None}, ("4001702", "Invalid Mandatory Field [partnerReferenceNo]")),
        ({"sourceAccountNo": ""}, ("4001701", "Invalid Field Format [sourceAccountNo]")),
    ],
)
def test_a_transfer_without_its_fields_is_not_made(bank, client, change, expected):
    answer = post(client, client.token(), "17", TRANSFER | change)
    assert outcome(answer) == expected
    assert bank.transfers == 0


def test_a_transfer_whose_answer_is_lost_was_made(bank, client):
    token = client.token()
    bank.fail_next(fault="reset", at="headers", on="calls")
    with pytest.raises(OSError, match="reset"):
        post(client, token, "17", TRANSFER)
    client.http.close()
    status = post(client, token, "36", {"originalPartnerReferenceNo": "example-1"})
    assert status.json()["latestTransactionStatus"] == "00"


@pytest.mark.parametrize(
    ("service", "method"), [("12", "POST"), ("24", "POST"), ("28", "PUT"), ("31", "DELETE")]
)
def test_other_services_echo(client, service, method):
    answer = post(client, client.token(), service, {}, method=method)
    assert outcome(answer) == (f"200{service}00", "Successful")
    assert answer.json()["additionalInfo"]["method"] == method


# Dialects


def test_a_token_is_good_for_its_own_dialect_alone(bank):
    with SnapClient(bank) as snap, classic.Client(bank) as plain:
        snap_token, classic_token = snap.token(), plain.token()
        assert code(snap.call(classic_token)) == "4011101"
        assert plain.call(snap_token).status == 403
        bank.single_token = True
        snap.token()
        assert code(snap.call(snap_token)) == "4011101"
        assert plain.call(classic_token).status == 200
        bank.reuse_token = True
        assert snap.token() != plain.token()
    assert bank.logins == bank.login_attempts == 5


def test_the_records_hold_the_target_and_show_no_secret(bank, client):
    token = client.token()
    path = "/snap/v1.0/transfer-va/report?name=a%20b"
    client.call(token, b"", method="GET", path=path)
    first, second = bank.requests
    assert (first.path, second.path) == (SNAP_TOKEN_PATH, path.partition("?")[0])
    assert second.target == path
    assert first.token_fingerprint == second.token_fingerprint
    shown = repr(bank.requests) + client.admin("GET", "requests").body.decode()
    for secret in (token, first.headers["X-SIGNATURE"], "example-client", "a%20b"):
        assert secret not in shown


def test_the_remote_control_changes_the_rules(bank, client):
    answer = client.admin("POST", "settings", {"snap_rules": {"signature_encoding": "hex"}})
    assert answer.json()["snap_rules"]["signature_encoding"] == "hex"
    assert bank.snap_rules == SnapRules(signature_encoding="hex")
    for wrong in ({"signature_encoding": "octal"}, {"unknown": 1}, 7):
        assert client.admin("POST", "settings", {"snap_rules": wrong}).status == 400
    assert bank.snap_rules == SnapRules(signature_encoding="hex")


@pytest.mark.parametrize(
    "wrong",
    [
        {"transaction_signature": "x"},
        {"token_signature": "x"},
        {"canonicalizer": "x"},
        {"signed_prefix": "x"},
        {"timestamp_form": "x"},
        {"external_id_length": 0},
        {"external_id_length": 37},
        {"external_id_length": "9"},
        {"sign_query": "yes"},
    ],
)
def test_bad_rules_are_refused(wrong):
    with pytest.raises((ValueError, TypeError), match=next(iter(wrong))):
        SnapRules(**wrong)
    with pytest.raises((ValueError, TypeError)):
        Sandbox(snap_rules=wrong)


def test_the_fake_keys_are_whole_and_differ():
    assert KEY.private_numbers() == keys.private_key("merchant").private_numbers()
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    for owner in ("merchant", "bank"):
        checked = load_pem_private_key(keys.private_pem(owner).encode(), None)  # the slow way
        assert checked.private_numbers() == keys.private_key(owner).private_numbers()
    assert keys.public_pem("merchant") != keys.public_pem("bank")


def test_memory_stays_within_bounds():
    with Sandbox(max_records=2) as bank, SnapClient(bank) as client:
        token = client.token()
        for number in range(4):
            post(client, token, "17", TRANSFER | {"partnerReferenceNo": f"example-{number}"})
        asked = [{"originalPartnerReferenceNo": f"example-{number}"} for number in range(4)]
        assert [post(client, token, "36", each).status for each in asked] == [404, 404, 200, 200]
        assert bank.transfers == 4
