from __future__ import annotations

import copy
import ipaddress
import math
import pickle
from datetime import timedelta

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from urllib3.util import parse_url

from permata_auth import ConfigurationError
from permata_auth._settings import (
    Secret,
    Unpicklable,
    duration,
    finite_seconds,
    flag,
    flag_or_none,
    is_loopback,
    number,
    seconds,
    url_problem,
    whole_number,
)


@pytest.mark.parametrize(
    ("given_", "expected"), [(3, 3.0), (0.5, 0.5), (timedelta(minutes=1, milliseconds=5), 60.005)]
)
def test_durations_become_float_seconds(given_, expected):
    assert seconds(given_) == expected
    assert type(finite_seconds("wait", given_)) is float


@pytest.mark.parametrize(
    "value", [True, False, None, "5", b"5", [], math.nan, math.inf, -math.inf, 10**400, 1j]
)
def test_what_is_no_finite_duration_is_refused_by_name(value):
    with pytest.raises(ConfigurationError, match=r"^wait must be a finite number of seconds"):
        finite_seconds("wait", value)


@pytest.mark.parametrize(
    ("value", "minimum", "above", "text"),
    [
        (-0.001, 0.0, False, "wait must be at least 0 seconds"),
        (timedelta(seconds=-1), 0.0, False, "wait must be at least 0 seconds"),
        (0, 0.0, True, "wait must be above 0 seconds"),
        (1.9, 2.0, False, "wait must be at least 2 seconds"),
    ],
)
def test_durations_below_their_bound_are_refused(value, minimum, above, text):
    with pytest.raises(ConfigurationError) as caught:
        finite_seconds("wait", value, minimum, above=above)
    assert str(caught.value) == text


def test_the_bound_itself_is_allowed_unless_it_must_be_above():
    assert finite_seconds("wait", 0) == 0.0
    assert finite_seconds("wait", 2, 2.0) == 2.0


def test_a_field_of_seconds_is_named_with_its_class():
    @attrs.frozen
    class Policy:
        wait: float = attrs.field(converter=seconds, validator=duration(above=True))

    assert Policy(timedelta(seconds=1)).wait == 1.0
    with pytest.raises(ConfigurationError, match=r"^Policy\.wait must be above 0 seconds$"):
        Policy(0)


@pytest.mark.parametrize("text", ["on", "true", "1", "yes", "ON", "True", " yes\n", 1, True])
def test_a_flag_is_on_in_any_of_these_words(text):
    assert flag("X", text) is True


@pytest.mark.parametrize("text", ["off", "false", "0", "no", "OFF", "False", "No ", 0, False])
def test_a_flag_is_off_in_any_of_these_words(text):
    assert flag("X", text) is False


@pytest.mark.parametrize(
    "value", ["", " ", "perhaps", "y", "t", "2", "none", 2, -1, 1.0, None, b"true", [], [True]]
)
def test_what_is_no_flag_is_refused_by_name(value):
    assert flag_or_none(value) is None
    with pytest.raises(ConfigurationError, match=r"^X must be true or false"):
        flag("X", value)


@pytest.mark.parametrize(
    ("value", "expected"), [(3, 3.0), (0.5, 0.5), ("3", 3.0), (" 1e3 ", 1000.0), ("-2", -2.0)]
)
def test_numbers_are_read_from_text_too(value, expected):
    assert number("X", value) == expected


@pytest.mark.parametrize(
    "value",
    ["", "many", "nan", "NaN", "inf", "-Infinity", "1e999", math.nan, math.inf, -math.inf, 10**400,
     True, False, None, b"5", [5], 5j, timedelta(1), "5 s"],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
def test_what_is_no_finite_number_is_refused_by_name(value):
    for read in (number, whole_number):
        with pytest.raises(ConfigurationError, match=r"^X must be a finite number$"):
            read("X", value)


@pytest.mark.parametrize("value", [0, -1, 1.5, "0.5", "-1", "0"])
def test_what_counts_nothing_is_refused_by_name(value):
    with pytest.raises(ConfigurationError, match=r"^X must be a whole number, at least 1$"):
        whole_number("X", value)


def test_a_whole_number_may_be_text_or_a_float():
    assert [whole_number("X", each) for each in (5, "5", 5.0, "1e3")] == [5, 5, 5, 1000]


GOOD = [
    "https://bank.invalid",
    "https://bank.invalid/",
    "HTTPS://BANK.INVALID/path",
    "https://bank.invalid:8443/apiservice/oauth/token?tenant=1",
    "https://bank.invalid./path",
    "https://192.0.2.1/path",
    "https://[2001:db8::1]:8443/path",
    "http://127.0.0.1:8000/path",
    "http://127.0.0.2/path",
    "http://127.255.255.254/",
    "http://localhost/path",
    "HTTP://LOCALHOST:8000/path",
    "http://[::1]/path",
    "http://[::1]:8000/path",
    "http://bank.localhost:8000/",
]
PLAIN = [
    "http://bank.invalid/path",
    "http://192.0.2.1/",
    "http://10.0.0.1/",
    "http://0.0.0.0/",
    "http://[::]/",
    "http://[2001:db8::1]/",
    "http://localhost.bank.invalid/",
    "http://127.0.0.1.bank.invalid/",
    "http://notlocalhost/",
    "http://127.1/",
    "http://2130706433/",
    "http://0x7f.0.0.1/",
    "http://localhost:80.bank.invalid/",
]
BAD = [
    "",
    None,
    7,
    b"https://bank.invalid/",
    "bank.invalid",
    "//bank.invalid/path",
    "/path",
    "https:",
    "https://",
    "https:///path",
    "https:bank.invalid",
    "ftp://bank.invalid/",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "https://user@bank.invalid/",
    "https://user:word@bank.invalid/",
    "https://@bank.invalid/",
    "https://:@bank.invalid/",
    "https://bank.invalid/#part",
    "https://bank.invalid/ path",
    " https://bank.invalid/",
    "https://bank.invalid/\n",
    "https://bank.invalid/\r\nHost: other.invalid",
    "https://bank.invalid/\t",
    "https://bänk.invalid/",
    "https://bank.invalid/é",
    "https://bank.invalid:0/",
    "https://bank.invalid:65536/",
    "https://bank.invalid:-1/",
    "https://bank.invalid:port/",
    "https://[::1/",
    "https://[bank.invalid]/",
    "https://[::1]x/",
    "https://[::1]x:8443/",
    "https://x[::1]/",
    "https://[::1]]/",
    "https://[v1.x]/",
    "http://127.0.0.1@bank.invalid/",
    "http://127.0.0.1\\@bank.invalid/",
    "http://bank.invalid\\@127.0.0.1/",
]


@pytest.mark.parametrize("url", GOOD)
def test_secrets_may_go_to_https_and_to_this_machine(url):
    assert url_problem(url, allow_insecure_http=False) is None
    assert url_problem(url, allow_insecure_http=True) is None


@pytest.mark.parametrize("url", PLAIN)
def test_secrets_may_go_over_plain_http_only_by_an_explicit_switch(url):
    problem = url_problem(url, allow_insecure_http=False)
    assert problem is not None
    if ".invalid/" not in url or ":80." not in url:
        assert "must be https://" in problem
        assert url_problem(url, allow_insecure_http=True) is None


@pytest.mark.parametrize("url", BAD, ids=repr)
def test_what_is_no_url_for_secrets_is_refused_whatever_the_switch(url):
    for switch in (False, True):
        problem = url_problem(url, allow_insecure_http=switch)
        assert problem
        assert "word" not in problem


@given(st.text(alphabet="htps:/\\@?#[]127.0:lockaexvid%", max_size=30).map("http://".__add__))
@example("http://[::1]bank.invalid/")
@example("http://127.0.0.1\\.bank.invalid/")
@example("http://127.0.0.1?@bank.invalid/")
@example("http://localhost%2ebank.invalid/")
def test_no_url_means_loopback_here_and_another_host_on_the_wire(url):
    if url_problem(url, allow_insecure_http=False) is not None:
        return
    try:
        host = parse_url(url).host  # the connection's host
    except ValueError:
        return
    assert is_loopback((host or "").strip("[]"))


@given(st.ip_addresses())
def test_loopback_is_what_the_address_says(address):
    assert is_loopback(str(address)) == ipaddress.ip_address(str(address)).is_loopback


@pytest.mark.parametrize("host", ["", "localhost.", "local", "127.0.0.1.", "::ffff:8.8.8.8", "%"])
def test_other_names_are_not_loopback(host):
    assert not is_loopback(host)


class _Service(Unpicklable):
    _why_unpicklable = "it is a test's"


@attrs.frozen
class _Word(Secret):
    _why_unpicklable = "it is a secret of a test's"
    value: str = attrs.field(repr=False)


@pytest.mark.parametrize("value", [_Service(), _Word("example")], ids=["service", "secret"])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_must_stay_in_its_process_cannot_be_pickled(value, protocol):
    with pytest.raises(TypeError, match="cannot be pickled: it is a"):
        pickle.dumps(value, protocol)
    with pytest.raises(TypeError, match="cannot be pickled: it is a"):
        pickle.dumps({"deep": [value]}, protocol)


def test_a_secret_is_copied_by_reference_and_a_service_not_at_all():
    word = _Word("example")
    assert copy.copy(word) is word
    assert copy.deepcopy([word])[0] is word
    with pytest.raises(TypeError, match="cannot be pickled"):
        copy.copy(_Service())
