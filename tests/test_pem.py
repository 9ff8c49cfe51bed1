import base64
import re

import pytest
from support import keys
from support.keys import BARE, SPELLINGS

from permata_auth._pem import load_private_key, load_public_keys
from permata_auth.exceptions import ConfigurationError

SPELLED = [*SPELLINGS.items(), *BARE.items()]


def spelled(cases):
    return pytest.mark.parametrize(
        "spell", [how for _, how in cases], ids=[name for name, _ in cases]
    )


@spelled(SPELLED)
@pytest.mark.parametrize("pem", [keys.PEM, keys.PKCS1], ids=["pkcs8", "pkcs1"])
def test_a_private_key_may_be_written_in_any_of_these_ways(pem, spell):
    loaded = load_private_key(spell(pem))
    assert loaded.private_numbers() == keys.KEY.private_numbers()


@spelled(SPELLED)
def test_an_encrypted_private_key_too(spell):
    loaded = load_private_key(spell(keys.ENCRYPTED), keys.PASSPHRASE)
    assert loaded.private_numbers() == keys.KEY.private_numbers()


@spelled([case for case in SPELLINGS.items() if case[0] != "one line without a space"])
def test_one_that_is_encrypted_in_the_old_way_too(spell):
    assert "DEK-Info" in keys.OLD_ENCRYPTED
    loaded = load_private_key(spell(keys.OLD_ENCRYPTED), keys.PASSPHRASE)
    assert loaded.private_numbers() == keys.KEY.private_numbers()


@spelled(SPELLED)
@pytest.mark.parametrize(
    "pem",
    [keys.PUBLIC, keys.PUBLIC_PKCS1, keys.certificate()],
    ids=["spki", "pkcs1", "certificate"],
)
def test_so_may_a_public_key(pem, spell):
    (loaded,) = load_public_keys(spell(pem))
    assert loaded.public_numbers() == keys.KEY.public_key().public_numbers()


@spelled(SPELLINGS.items())
def test_several_public_keys_keep_their_order(spell):
    text = keys.public_pem(keys.another()) + "\n" + keys.certificate() + keys.PUBLIC_PKCS1
    found = [key.public_numbers() for key in load_public_keys(spell(text))]
    first, second = keys.another().public_key(), keys.KEY.public_key()
    assert found == [first.public_numbers(), second.public_numbers(), second.public_numbers()]


def test_a_passphrase_that_is_not_needed_does_no_harm():
    assert load_private_key(keys.PEM, keys.PASSPHRASE)


def test_a_private_key_may_have_its_certificate_beside_it():
    assert load_private_key(keys.certificate() + keys.PEM)


def test_a_short_key_may_be_allowed():
    assert load_private_key(keys.private_pem(keys.short()), allow_short=True).key_size == 1024
    (public,) = load_public_keys(keys.public_pem(keys.short()), allow_short=True)
    assert public.key_size == 1024


EC = keys.private_pem(keys.elliptic())
EC_OLD = keys.private_pem(keys.elliptic(), keys.PKCS1_FORMAT)
CUT = keys.PEM.replace("\n", "", 3)[:900]
BROKEN = keys.PEM[:400] + "AAAA" + keys.PEM[404:]
TWO_HALVES = keys.PEM[:300] + keys.PUBLIC

PRIVATE_MISTAKES = {
    "empty": ("", None, "is empty"),
    "blank": (' \n"" \ufeff', None, "is empty"),
    "no text": (keys.DER, None, "must be text"),
    "path": ("/etc/keys/private.pem", None, "looks like a path; the text of the key is needed"),
    "path of windows": (
        r"C:\keys\new.pem",
        None,
        "looks like a path; the text of the key is needed",
    ),
    "path without a dot": (
        "/etc/keys/key",
        None,
        "looks like a path; the text of the key is needed",
    ),
    "path that is base64": (
        "/etc/private/key",
        None,
        "looks like a path; the text of the key is needed",
    ),
    "name of a file": ("key.pem", None, "looks like a path; the text of the key is needed"),
    "words": ("example words", None, "is no key: neither PEM nor base64 of PEM or DER"),
    "other base64": ("QUJD", None, "is no key: neither PEM nor base64 of PEM or DER"),
    "public": (keys.PUBLIC, None, "is a public key; the private key is needed"),
    "public, bare": (
        BARE["base64 of the der"](keys.PUBLIC),
        None,
        "is a public key; the private key is needed",
    ),
    "certificate": (keys.certificate(), None, "is a certificate; the private key is needed"),
    "OpenSSH": (keys.OPENSSH, None, "is a key in OpenSSH's own form; convert it to PKCS#8"),
    "EC": (EC, None, "is an EC key; an RSA key is needed"),
    "EC, old": (EC_OLD, None, "is an EC key; an RSA key is needed"),
    "EC, bare": (BARE["base64 of the der"](EC_OLD), None, "is an EC key; an RSA key is needed"),
    "no passphrase": (keys.ENCRYPTED, None, "is encrypted, and its passphrase is missing"),
    "blank passphrase": (keys.ENCRYPTED, "", "is encrypted, and its passphrase is missing"),
    "no passphrase, old": (keys.OLD_ENCRYPTED, None, "is encrypted, and its passphrase is missing"),
    "no passphrase, bare": (
        BARE["base64 of the der"](keys.ENCRYPTED),
        None,
        "is encrypted, and its passphrase is missing",
    ),
    "wrong passphrase": (
        keys.ENCRYPTED,
        "wrong",
        "is encrypted, and the passphrase does not open it",
    ),
    "odd passphrase": (
        keys.ENCRYPTED,
        "\ud800",
        "is encrypted, and the passphrase does not open it",
    ),
    "wrong passphrase, old": (
        keys.OLD_ENCRYPTED,
        "wrong",
        "is encrypted, and the passphrase does not open it",
    ),
    "two": (keys.PEM * 2, None, "holds more than one private key; leave the one to use"),
    "short": (
        keys.private_pem(keys.short()),
        None,
        "is too short: 1024 bits, of 2048 at least",
    ),
    "cut": (CUT, None, "has a BEGIN line without its END line, or something between both"),
    "two halves": (
        TWO_HALVES,
        None,
        "has a BEGIN line without its END line, or something between both",
    ),
    "broken": (BROKEN, None, "cannot be read as a key: it is damaged, or of an unknown kind"),
    "no base64": (
        keys.PEM.replace("MII", "M*I"),
        None,
        "cannot be read as a key: it is damaged, or of an unknown kind",
    ),
}
PUBLIC_MISTAKES = {
    "empty": ("", "is empty"),
    "path": ("keys/bank.pem", "looks like a path; the text of the key is needed"),
    "private": (keys.PEM, "is a private key; the public key is needed"),
    "private, old": (keys.PKCS1, "is a private key; the public key is needed"),
    "private among public": (keys.PUBLIC + keys.PEM, "is a private key; the public key is needed"),
    "EC": (keys.public_pem(keys.elliptic()), "is an EC key; an RSA key is needed"),
    "EC certificate": (keys.certificate(keys.elliptic()), "is an EC key; an RSA key is needed"),
    "short": (keys.public_pem(keys.short()), "is too short: 1024 bits, of 2048 at least"),
    "cut": (
        keys.PUBLIC[:200],
        "has a BEGIN line without its END line, or something between both",
    ),
    "one of two is broken": (
        keys.PUBLIC + keys.PUBLIC.replace("MII", "MIJ"),
        "cannot be read as a key: it is damaged, or of an unknown kind",
    ),
}


def assert_tells_nothing(error, text):
    assert error.__cause__ is error.__context__ is None
    said = str(error)
    pieces = re.findall("[A-Za-z0-9+/]{12,}", text) if isinstance(text, str) else []
    assert not [piece for piece in pieces if piece in said]


@pytest.mark.parametrize("case", PRIVATE_MISTAKES)
def test_each_mistake_with_a_private_key_has_its_sentence(case):
    text, passphrase, sentence = PRIVATE_MISTAKES[case]
    with pytest.raises(ConfigurationError) as caught:
        load_private_key(text, passphrase, name="EXAMPLE_KEY")
    assert str(caught.value) == f"EXAMPLE_KEY {sentence}"
    assert_tells_nothing(caught.value, text)


@pytest.mark.parametrize("case", PUBLIC_MISTAKES)
def test_each_mistake_with_public_keys_has_its_sentence(case):
    text, sentence = PUBLIC_MISTAKES[case]
    with pytest.raises(ConfigurationError) as caught:
        load_public_keys(text, name="EXAMPLE_KEY")
    assert str(caught.value) == f"EXAMPLE_KEY {sentence}"
    assert_tells_nothing(caught.value, text)


def test_an_encrypted_key_of_an_unknown_cipher_is_no_riddle():
    text = re.sub("DEK-Info: [^,]+", "DEK-Info: EXAMPLE-1", keys.OLD_ENCRYPTED)
    with pytest.raises(ConfigurationError, match=r"^key is encrypted"):
        load_private_key(text, keys.PASSPHRASE, name="key")


def test_base64_is_read_strictly():
    packed = base64.b64encode(keys.DER).decode()
    for text in (packed + "=", packed[:-1] + "*", f"*{packed}", packed.replace("A", "-", 1)):
        with pytest.raises(ConfigurationError):
            load_private_key(text)
