from __future__ import annotations

import base64
import threading

import pytest
from support import keys
from support.inbound import CLIENT_KEY, SECRET, TOKEN_PATH, receiver, rsa, stamp

from permata_auth.snap_inbound import issuer

JSON = {"Content-Type": "application/json"}


def test_a_right_request_is_answered_with_a_token(bank):
    answer = bank.ask_token()

    assert (answer.http_status, answer.code, answer.message) == (200, "2007300", "Successful")
    assert answer.headers["X-CLIENT-KEY"] == CLIENT_KEY
    token = answer.document.pop("accessToken")
    assert answer.document == {
        "responseCode": "2007300",
        "responseMessage": "Successful",
        "tokenType": "Bearer",
        "expiresIn": "900",
    }
    assert token.isascii()
    assert token.isprintable()
    assert ":" not in token
    assert len(token) >= 22  # 128 bits and more


def repeated(name):
    def pairs(bank):
        headers = bank.token_request()
        return [*headers.items(), (name.lower(), headers[name])]

    return pairs


ROWS = {
    "1 method": ({"method": "GET"}, "4057300", None),
    "1 lower-case method": ({"method": "post"}, "4057300", None),
    "1 size": ({"body": b" " * 65_537}, "4007300", "Bad Request. [Body size]"),
    "1 content type": (
        {"Content-Type": "text/plain"},
        "4007301",
        "Invalid Field Format [Content-Type]",
    ),
    "1 no content type": ({"Content-Type": None}, "4007301", "Invalid Field Format [Content-Type]"),
    **{
        f"2 no {name}": ({name: None}, "4007302", f"Invalid Mandatory Field [{name}]")
        for name in ("X-CLIENT-KEY", "X-TIMESTAMP", "X-SIGNATURE")
    },
    "2 blank": ({"X-SIGNATURE": " "}, "4007302", "Invalid Mandatory Field [X-SIGNATURE]"),
    "2 joined": ({"X-SIGNATURE": "a,a"}, "4007301", "Invalid Field Format [X-SIGNATURE]"),
    "3 form": ({"X-TIMESTAMP": "now"}, "4007301", "Invalid Field Format [X-TIMESTAMP]"),
    "4 client": ({"X-CLIENT-KEY": "stranger"}, "4017300", "Unauthorized. [Unknown client]"),
    "6 signature": (
        {"X-SIGNATURE": rsa("another message")},
        "4017300",
        "Unauthorized. [Signature]",
    ),
    "6 no base64": ({"X-SIGNATURE": "****"}, "4017300", "Unauthorized. [Signature]"),
    "7 no json": ({"body": b"grantType=client_credentials"}, "4007300", None),
    "7 empty": ({"body": b""}, "4007300", None),
    "7 a list": ({"body": b"[]"}, "4007300", None),
    "7 absent": ({"body": b"{}"}, "4007302", "Invalid Mandatory Field [grantType]"),
    "7 null": ({"body": b'{"grantType":null}'}, "4007302", None),
    "7 other": (
        {"body": b'{"grantType":"authorization_code"}'},
        "4007301",
        "Invalid Field Format [grantType]",
    ),
    "7 no text": ({"body": b'{"grantType":["client_credentials"]}'}, "4007301", None),
}


@pytest.mark.parametrize("row", ROWS)
def test_every_row_has_its_answer(bank, row):
    changes, code, message = ROWS[row]

    answer = bank.ask_token(**changes)

    assert answer.code == code
    assert message is None or answer.message == message
    assert "accessToken" not in answer.document


@pytest.mark.parametrize("name", ["X-CLIENT-KEY", "X-TIMESTAMP", "X-SIGNATURE"])
def test_a_repeated_header_is_a_wrong_field(bank, name):
    answer = bank.ask_token(headers=repeated(name)(bank))

    assert (answer.code, answer.message) == ("4007301", f"Invalid Field Format [{name}]")


def test_the_rows_are_looked_at_in_their_order(bank):
    # Each request fails all rows from one on; the first of them answers.
    wrong = {"X-CLIENT-KEY": "stranger", "X-TIMESTAMP": "now", "X-SIGNATURE": "*"}
    assert bank.ask_token(method="PUT", headers={}, body=b"").code == "4057300"
    assert bank.ask_token(headers={}, body=b"").code == "4007301"
    assert bank.ask_token(headers=JSON, body=b"").code == "4007302"
    assert "[X-TIMESTAMP]" in bank.ask_token(headers={**JSON, **wrong}, body=b"").message
    stale = {**wrong, "X-TIMESTAMP": stamp(-301)}
    assert "[Unknown client]" in bank.ask_token(headers={**JSON, **stale}, body=b"").message
    stale["X-CLIENT-KEY"] = CLIENT_KEY
    assert "[Timestamp]" in bank.ask_token(headers={**JSON, **stale}, body=b"").message
    stale["X-TIMESTAMP"] = stamp()
    assert "[Signature]" in bank.ask_token(headers={**JSON, **stale}, body=b"").message


@pytest.mark.parametrize(
    ("offset", "code"), [(0, 200), (300, 200), (-300, 200), (301, 401), (-301, 401)]
)
def test_freshness_is_judged_in_both_directions(bank, clock, caplog, offset, code):
    at = stamp(offset)
    answer = bank.ask_token(timestamp=at)

    assert answer.http_status == code
    if code == 401:
        assert answer.message == "Unauthorized. [Timestamp]"
        (record,) = [r for r in caplog.records if "this machine's clock" in r.getMessage()]
        assert at in record.getMessage()


def test_the_timestamp_is_verified_as_it_was_received(bank, clock):
    utc = stamp().replace("+07:00", "Z")  # the same digits, seven hours later
    assert bank.ask_token(timestamp=utc).code == "4017300"
    for text in (stamp().replace("+07:00", ".007+07:00"), stamp().replace("+07:00", ".1+07:00")):
        assert bank.ask_token(timestamp=text).code == "2007300"


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON; charset=utf-8", "application/json;x=y"]
)
def test_parameters_and_case_of_the_content_type_are_of_no_account(bank, content_type):
    assert bank.ask_token(**{"Content-Type": content_type}).code == "2007300"


@pytest.mark.parametrize(
    "body", [b'{ "grantType" : "client_credentials", "additionalInfo": {} }\n']
)
def test_other_members_are_ignored(bank, body):
    assert bank.ask_token(body=body).code == "2007300"


def test_two_requests_of_one_second_are_both_answered(bank):
    headers = bank.token_request()

    first, second = (bank.ask_token(headers=headers) for _ in range(2))

    assert first.document["accessToken"] != second.document["accessToken"]
    for answer in (first, second):
        assert bank.call(token=answer.document["accessToken"]).code == "2005200"


@pytest.mark.parametrize("name", ["T1", "T2", "T3"])
def test_published_vectors_verify(clock, name):
    from datetime import datetime

    vector = next(each for each in keys.SNAP["rsa"] if each["name"] == name)
    client, _, at = vector["message"].partition("|")
    clock.step_wall(datetime.fromisoformat(at.replace("Z", "+00:00")).timestamp() - clock.wall())
    headers = {**JSON, "X-CLIENT-KEY": client, "X-TIMESTAMP": at}
    headers["X-SIGNATURE"] = vector["signature"]
    response = receiver().process(
        "POST", TOKEN_PATH, headers, b'{"grantType":"client_credentials"}'
    )
    assert response.http_status == 200


@pytest.mark.parametrize(
    "spelling",
    [
        lambda text: text.lower(),
        lambda text: base64.encodebytes(base64.b64decode(text)).decode().strip(),
        lambda text: base64.b64decode(text).hex(),
        lambda text: text + "====",
        lambda text: text.replace("=", ""),
        lambda text: f"{text[:-3]}R==",
    ],
    ids=["lower case", "lines", "hex", "padding", "no padding", "bits"],
)
def test_a_signature_has_one_spelling(bank, spelling):
    headers = bank.token_request()
    headers["X-SIGNATURE"] = spelling(headers["X-SIGNATURE"])

    assert bank.ask_token(headers=headers).http_status in (400, 401)


def test_hex_is_taken_where_it_is_configured(make_bank):
    bank = make_bank(signature_encoding="hex")
    headers = bank.token_request()
    assert bank.ask_token(headers=headers).code == "4017300"
    headers["X-SIGNATURE"] = base64.b64decode(headers["X-SIGNATURE"]).hex()
    assert bank.ask_token(headers=headers).code == "2007300"


def test_a_token_request_is_never_signed_with_the_client_secret(bank):
    import hmac

    at = stamp()
    digest = hmac.digest(SECRET.encode(), f"{CLIENT_KEY}|{at}".encode(), "sha512")
    answer = bank.ask_token(timestamp=at, **{"X-SIGNATURE": base64.b64encode(digest).decode()})
    assert answer.message == "Unauthorized. [Signature]"


# Tokens.


@pytest.mark.parametrize(("age", "code"), [(0, "2005200"), (899, "2005200"), (900, "4015201")])
def test_a_token_lives_for_900_seconds_and_no_longer(bank, clock, age, code):
    token = bank.token
    clock.advance(age)

    assert bank.call(token=token).code == code


def test_tokens_work_in_every_worker(make_bank):
    one, two = make_bank(), make_bank()

    assert two.call(token=one.token).code == "2005200"


@pytest.mark.parametrize(
    "others",
    [
        {"client_secrets": "another-secret"},
        {"token_key": "another key of 16 bytes"},
    ],
    ids=["secret", "token key"],
)
def test_a_token_of_another_receiver_is_refused(make_bank, bank, others):
    token = make_bank(**others).token

    assert bank.call(token=token).code == "4015201"


def test_a_token_is_bound_to_its_client(bank):
    key = issuer.derived_key(SECRET.encode(), "another-client")

    assert bank.call(token=issuer.issue(key, 900)).code == "4015201"


def test_no_changed_token_is_taken(bank):
    token = bank.token
    for at in range(len(token)):
        for change in ("0", "a", "A", "é"):
            wrong = token[:at] + change + token[at + 1 :]
            if wrong != token:
                assert bank.call(token=wrong).code == "4015201"
    for wrong in ("", "x", token + "A", token[:-1], token + "=", token.upper()):
        assert bank.call(token=wrong).code == "4015201"


def test_secrets_that_change_leave_tokens_alive(make_bank):
    secrets = [SECRET]
    bank = make_bank(client_secrets=lambda: list(secrets))
    token = bank.token
    secrets.insert(0, "new-example-secret")

    assert bank.call(token=token).code == "2005200"
    assert bank.call(token=token, secret="new-example-secret").code == "2005200"
    secrets.pop()
    assert bank.call(token=token, secret="new-example-secret").code == "4015201"
    bank._token = ""
    assert bank.call(secret="new-example-secret").code == "2005200"
    assert bank.call().message == "Unauthorized. [Signature]"


def test_keys_that_change_are_all_tried(make_bank):
    others = keys.another().public_key()
    found = [others]
    bank = make_bank(bank_public_keys=lambda: list(found))
    assert bank.ask_token().code == "4017300"
    found.append(keys.KEY.public_key())
    assert bank.ask_token().code == "2007300"


def test_a_function_of_keys_that_fails_leaves_the_old_ones(make_bank, caplog):
    works = True

    def load():
        if not works:
            raise OSError("down")
        return keys.PUBLIC

    bank = make_bank(bank_public_keys=load)
    works = False
    for _ in range(3):
        assert bank.ask_token().code == "2007300"
    assert len([r for r in caplog.records if "stay in use" in r.getMessage()]) == 1


def test_32_threads_get_32_tokens(bank):
    from support.threads import together

    calls = together(32, lambda: bank.ask_token().document["accessToken"])
    assert len({call.value() for call in calls}) == 32
    assert threading.active_count() < 64
