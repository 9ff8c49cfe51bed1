from __future__ import annotations

import copy
import hashlib
import pickle
from datetime import datetime, timedelta, timezone

import attrs
import pytest

from permata_auth import AccessToken, _clock

SOON = datetime.now(timezone.utc) + timedelta(hours=1)


def make(lifetime=900.0, **fields):
    now = _clock.wall()
    return AccessToken(
        **{"value": "example-token", "expires_at": _clock.to_datetime(now + lifetime), **fields}
    )


def test_it_counts_down_and_goes_below_zero(clock):
    token = make(lifetime=10)
    assert token.expires_in() == pytest.approx(10)
    clock.advance(10)
    assert token.expires_in() == pytest.approx(0)
    clock.advance(5)
    assert token.expires_in() == pytest.approx(-5)
    assert isinstance(token.expires_in(), float)


@pytest.mark.parametrize("step", [119.0, -86_400.0])
def test_a_step_of_the_wall_clock_neither_ends_nor_prolongs_its_life(clock, step):
    token = make(lifetime=10)
    clock.step_wall(step)
    assert token.expires_in() == pytest.approx(10)


def test_where_the_wall_clock_alone_has_moved_on_by_hours_it_decides(clock):
    """A virtual machine that was resumed from a snapshot: its running clock stood still."""
    token = make(lifetime=10)
    clock.step_wall(121)
    assert token.expires_in() == pytest.approx(-111)


def test_a_machine_that_slept_finds_it_expired(clock):
    token = make(lifetime=10)
    clock.jump(3600)
    assert token.expires_in() == pytest.approx(-3590)


def test_it_says_when_it_was_issued(clock):
    token = make()
    assert token.issued_at == _clock.to_datetime(clock.wall())
    assert token.issued_at.utcoffset() == timedelta(0)


def test_the_type_is_bearer_and_there_is_no_scope_unless_told():
    token = make()
    assert (token.token_type, token.scope) == ("Bearer", None)
    told = make(token_type="example-type", scope="a b")
    assert (told.token_type, told.scope) == ("example-type", "a b")


def test_any_time_zone_will_do(clock):
    wib = timezone(timedelta(hours=7))
    expires_at = _clock.to_datetime(clock.wall() + 60).astimezone(wib)
    assert make(expires_at=expires_at).expires_in() == pytest.approx(60)


@pytest.mark.parametrize("expires_at", [datetime.max, datetime.min])
@pytest.mark.parametrize("hours", [-12, 0, 7, 14])
def test_the_first_and_the_last_moment_there_are_can_be_its_end(expires_at, hours):
    zone = timezone(timedelta(hours=hours))
    assert abs(make(expires_at=expires_at.replace(tzinfo=zone)).expires_in()) > 1e9


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "two words",
        "line\nbreak",
        "end\n",
        "\ttab",
        "nul\0",
        "del\x7f",
        "é",
        "٣",
        "a\ud800",
        b"example",
        None,
        7,
        ["example"],
    ],
)
def test_a_value_that_cannot_stand_in_a_header_is_refused_and_not_shown(value):
    with pytest.raises(ValueError, match="printable ASCII") as caught:
        make(value=value)
    assert str(caught.value) == "an access token is printable ASCII without spaces"


@pytest.mark.parametrize("value", ["x", "!~", "a" * 100_000, "eyJ.-_~+/="])
def test_every_printable_value_is_taken_as_it_is(value):
    assert make(value=value).value == value


@pytest.mark.parametrize("name", ["expires_at", "issued_at"])
@pytest.mark.parametrize("value", [datetime(2030, 1, 1), None, 1.0, "2030-01-01", SOON.date()])
def test_a_time_that_is_no_aware_datetime_is_refused(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be an aware datetime$"):
        make(**{name: value})


def test_it_cannot_be_changed():
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        make().value = "example-other"


def test_it_is_built_by_names_alone():
    with pytest.raises(TypeError):
        AccessToken("example-token", SOON)
    with pytest.raises(TypeError):
        AccessToken(value="example-token", expires_at=SOON, deadline=1.0)


def test_two_with_the_same_fields_are_equal_and_hash_alike(clock):
    one = make()
    clock.jump(1)  # the moment they were built at does not count,
    clock.step_wall(5)  # nor the difference of the clocks then
    other = AccessToken(value=one.value, expires_at=one.expires_at, issued_at=one.issued_at)
    assert one == other
    assert hash(one) == hash(other)
    assert one != make(value="example-other")


def test_logs_name_it_by_the_first_eight_hex_digits_of_its_hash():
    token = make(value="example-token-7")
    assert token.fingerprint == hashlib.sha256(b"example-token-7").hexdigest()[:8]
    assert len(token.fingerprint) == 8


@pytest.mark.parametrize("show", [repr, str, "{}".format, "%s".__mod__, lambda t: repr([t])])
def test_it_never_shows_its_value(show, secrets):
    secrets.add("example-token")
    shown = show(make())
    assert "AccessToken(expires_at=" in shown
    assert "deadline" not in shown
    assert not secrets.found_in(shown)


def test_copies_are_itself():
    token = make()
    assert copy.copy(token) is token
    assert copy.deepcopy({"key": [token]})["key"][0] is token


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_cannot_be_pickled_and_the_refusal_says_why(protocol):
    with pytest.raises(TypeError, match="AccessToken cannot be pickled: it is a secret"):
        pickle.dumps(make(), protocol)
