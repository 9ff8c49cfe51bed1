from __future__ import annotations

import copy
import os
import pickle

import pytest
from support import keys
from support.inbound import CLIENT_KEY, SECRET, Caller, receiver
from support.scripts import run

from permata_auth import ConfigurationError
from permata_auth.snap_inbound import MemoryExternalIds, SnapReceiver, SnapRefusal

ENVIRON = {
    "PERMATA_SNAP_INBOUND_CLIENT_KEY": CLIENT_KEY,
    "PERMATA_SNAP_INBOUND_CLIENT_SECRET": SECRET,
    "PERMATA_SNAP_BANK_PUBLIC_KEY": keys.PUBLIC,
}


def from_env(**changes):
    changes = {f"PERMATA_SNAP_{name}": value for name, value in changes.items()}
    return SnapReceiver.from_env({**ENVIRON, **changes})


def test_three_variables_are_enough(secrets):
    secrets.add(SECRET)
    made = from_env()
    made.on("/qr/qr-mpm-notify", 52, lambda call: {})
    assert Caller(made).call().code == "2005200"


def test_every_variable_is_read(clock):
    made = from_env(
        INBOUND_TOKEN_TTL="60",
        INBOUND_MAX_SKEW="3600",
        INBOUND_TIME_LIMIT="0.5",
        INBOUND_SIGNED_PREFIX="/",
        INBOUND_PARTNER_ID="example-partner",
        INBOUND_CHANNEL_ID="54321",
        INBOUND_DUPLICATES="replay",
        INBOUND_SIGNATURE="symmetric",
        INBOUND_TOKEN_KEY="a key of 16 bytes and more",
        INBOUND_EXTERNAL_IDS="redis://127.0.0.1:9",
        SIGNATURE_ENCODING="base64",
        CANONICALIZER="minify",
        ALLOW_SHORT_KEY="true",
    )
    made.on("/qr/qr-mpm-notify", 52, lambda call: {})
    bank = Caller(made)
    assert bank.ask_token().document["expiresIn"] == "60"
    assert bank.call().message == "Unauthorized. [Unknown client]"
    assert bank.call(**{"CHANNEL-ID": "54321"}).code == "5005202"
    clock.advance(60)
    assert bank.call().code == "4015201"


def test_the_previous_secret_is_taken_too():
    made = from_env(INBOUND_CLIENT_SECRET="new-example", INBOUND_CLIENT_SECRET_PREVIOUS=SECRET)
    made.on("/qr/qr-mpm-notify", 52, lambda call: {})
    bank = Caller(made)
    assert [bank.call(secret=each).code for each in (SECRET, "new-example")] == ["2005200"] * 2


def test_a_file_of_keys_is_read_again_when_it_has_changed(tmp_path):
    file = tmp_path / "bank.pem"
    file.write_text(keys.public_pem(keys.another()))
    made = from_env(BANK_PUBLIC_KEY="", BANK_PUBLIC_KEY_FILE=str(file))
    bank = Caller(made)
    assert bank.ask_token().code == "4017300"
    file.write_text(keys.PUBLIC + keys.public_pem(keys.another()))
    assert bank.ask_token().code == "2007300"
    file.write_text("half a")
    assert bank.ask_token().code == "2007300"
    file.unlink()
    assert bank.ask_token().code == "2007300"


@pytest.mark.parametrize("text", ["", " ", "\t"])
def test_blank_is_unset(text):
    names = ("INBOUND_MAX_SKEW", "INBOUND_PARTNER_ID", "INBOUND_EXTERNAL_IDS", "CANONICALIZER")
    assert from_env(**dict.fromkeys(names, text))


def test_one_error_names_all_that_is_wrong_and_shows_no_value(secrets):
    wrong = {
        "INBOUND_CLIENT_KEY": "wrong, value",
        "INBOUND_CLIENT_SECRET": "",
        "BANK_PUBLIC_KEY": keys.PEM,
        "INBOUND_EXTERNAL_IDS": "wrong://value",
        "INBOUND_TOKEN_KEY": "wrong-value",
        "INBOUND_MAX_SKEW": "wrong-value",
        "INBOUND_TIME_LIMIT": "-1",
        "INBOUND_TOKEN_TTL": "0",
        "INBOUND_SIGNED_PREFIX": "wrong-value",
        "INBOUND_PARTNER_ID": "wrong\tvalue",
        "INBOUND_CHANNEL_ID": "wrong\nvalue",
        "INBOUND_DUPLICATES": "wrong-value",
        "INBOUND_SIGNATURE": "wrong-value",
        "SIGNATURE_ENCODING": "wrong-value",
        "CANONICALIZER": "wrong-value",
        "ALLOW_SHORT_KEY": "wrong-value",
    }
    secrets.add("wrong-value", keys.PEM)
    with pytest.raises(ConfigurationError) as caught:
        from_env(**wrong)
    text = str(caught.value)
    assert [name for name in wrong if f"PERMATA_SNAP_{name}" not in text] == []
    assert text.count("PERMATA_SNAP_") == len(wrong)
    assert "wrong" not in text.replace("is wrong: the Redis URL", "")
    assert not secrets.found_in_error(caught.value)


def test_nothing_set_names_what_is_needed():
    with pytest.raises(ConfigurationError) as caught:
        SnapReceiver.from_env({})
    for name in ENVIRON:
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"INBOUND_CLIENT_SECRET": "", "INBOUND_CLIENT_SECRET_PREVIOUS": "x"}, "CLIENT_SECRET"),
        ({"BANK_PUBLIC_KEY_FILE": "/nowhere"}, "BANK_PUBLIC_KEY"),
        ({"BANK_PUBLIC_KEY": "", "BANK_PUBLIC_KEY_FILE": "/nowhere"}, "BANK_PUBLIC_KEY"),
        ({"BANK_PUBLIC_KEY": "", "BANK_PUBLIC_KEY_FILE": os.devnull}, "BANK_PUBLIC_KEY"),
        ({"INBOUND_MAX_SKEW": "59"}, "INBOUND_MAX_SKEW"),
        ({"INBOUND_MAX_SKEW": "3601"}, "INBOUND_MAX_SKEW"),
    ],
)
def test_settings_that_do_not_go_together(changes, named):
    with pytest.raises(ConfigurationError, match=named):
        from_env(**changes)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"client_key": ""}, "client_key"),
        ({"bank_public_keys": []}, "bank_public_keys"),
        ({"bank_public_keys": keys.PEM}, "bank_public_keys"),
        ({"bank_public_keys": object()}, "bank_public_keys"),
        ({"bank_public_keys": keys.public_pem(keys.short())}, "bank_public_keys"),
        ({"client_secrets": []}, "client_secrets"),
        ({"client_secrets": " "}, "client_secrets"),
        ({"client_secrets": [SECRET, None]}, "client_secrets"),
        ({"client_secrets": lambda: 1 / 0}, "client_secrets"),
        ({"token_key": b"short"}, "token_key"),
        ({"external_ids": MemoryExternalIds}, "external_ids"),
        ({"external_ids": {}}, "external_ids"),
        ({"max_skew_secs": True}, "max_skew_secs"),
        ({"max_skew_secs": float("nan")}, "max_skew_secs"),
        ({"time_limit_secs": 0}, "time_limit_secs"),
        ({"token_ttl_secs": "900"}, "token_ttl_secs"),
        ({"duplicates": "ignore"}, "duplicates"),
        ({"signature": None}, "signature"),
        ({"allow_short_key": 1}, "allow_short_key"),
        ({"token_path": "v1.0"}, "path"),
    ],
)
def test_wrong_arguments_are_configuration_errors(changes, named):
    with pytest.raises(ConfigurationError, match=named):
        receiver(**changes)


def test_keys_come_in_many_forms():
    for given in (
        keys.PUBLIC,
        keys.PUBLIC.encode(),
        [keys.PUBLIC, keys.another().public_key()],
        keys.certificate(),
        lambda: [keys.PUBLIC],
    ):
        assert Caller(receiver(bank_public_keys=given)).ask_token().code == "2007300"
    short = keys.public_pem(keys.short())
    assert receiver(bank_public_keys=short, allow_short_key=True)


@pytest.mark.parametrize(
    ("path", "service", "function"),
    [
        ("no-slash", 52, print),
        ("/v1.0/qr/notify", 52, print),
        ("/a?b", 52, print),
        ("/access-token/b2b", 52, print),
        ("/taken", 52, print),
        (None, 52, print),
        ("/a", "52", print),
        ("/a", True, print),
        ("/a", 100, print),
        ("/a", 52, None),
    ],
)
def test_wrong_services_are_configuration_errors(path, service, function):
    made = receiver()
    made.on("/taken", 52, print)
    with pytest.raises(ConfigurationError):
        made.on(path, service, function)


def test_services_are_added_by_decorators():
    made = receiver()

    @made.on_payment
    def pay(value):
        return {}

    assert pay(None) == {}
    assert repr(made) == "<SnapReceiver of 1 services>"


@pytest.mark.parametrize("case", ["1", "123", 12, "ab", None])
def test_a_refusal_needs_a_case(case):
    with pytest.raises(ValueError, match="case"):
        SnapRefusal(case, "x")


def test_a_refusal_survives_pickle_and_a_receiver_does_not():
    refusal = SnapRefusal("12", "x", http_status=403, body={"a": 1})
    for again in (pickle.loads(pickle.dumps(refusal)), copy.copy(refusal)):
        assert (again.case, again.message, again.http_status) == ("12", "x", 403)
        assert again.body == {"a": 1}
    with pytest.raises(TypeError, match="secrets"):
        pickle.dumps(receiver())


def test_without_cryptography_a_receiver_says_what_to_install():
    ended = run(
        """
        import sys
        sys.modules["cryptography"] = None
        from permata_auth.snap_inbound import SnapReceiver
        try:
            SnapReceiver(client_key="a", bank_public_keys="b", client_secrets="c")
        except ImportError as error:
            print(error)
        """
    )
    assert "pip install 'permata-auth[snap]'" in ended.out, ended.err


def test_any_setting_may_be_in_a_file(tmp_path):
    (tmp_path / "permata_snap_inbound_client_key").write_text(f"{CLIENT_KEY}\n")
    environ = {**ENVIRON, "PERMATA_SECRETS_DIR": str(tmp_path)}
    del environ["PERMATA_SNAP_INBOUND_CLIENT_KEY"]
    assert Caller(SnapReceiver.from_env(environ)).ask_token().code == "2007300"


def test_secrets_in_files_are_read_again_when_they_have_changed(tmp_path):
    file, before = tmp_path / "secret", tmp_path / "before"
    file.write_text(f"{SECRET}\n")
    before.write_text("example-old-secret\n")
    made = from_env(
        INBOUND_CLIENT_SECRET="",
        INBOUND_CLIENT_SECRET_FILE=str(file),
        INBOUND_CLIENT_SECRET_PREVIOUS_FILE=str(before),
    )
    made.on("/qr/qr-mpm-notify", 52, lambda call: {})
    bank = Caller(made)
    assert bank.call().code == "2005200"
    assert bank.call(secret="example-old-secret").code == "2005200"
    file.write_text("example-new-secret\n")
    before.write_text(f"{SECRET}\n")
    assert bank.call(secret="example-new-secret").code == "2005200"
    assert bank.call(secret=SECRET).code == "2005200"
    assert bank.call(secret="example-old-secret").code == "4015200"
    file.unlink()
    assert bank.call(secret="example-new-secret").code == "2005200"
