"""The contract of every token store: give a :class:`StoreContract` a ``make_store``."""

from __future__ import annotations

import threading
from datetime import datetime, timezone

import attrs
import pytest
from support.clients import token
from support.threads import Call, together, until

from permata_auth import AccessToken, TokenStore, _clock
from permata_auth.stores.failures import StoredFailure

KEY = "example-key"


def failure(**fields) -> StoredFailure:
    fields = {"kind": "InvalidClientError", "message": "refused", "expires_in": 60.0} | fields
    fields = {"row": "refused", "count": 1, "pause": 5.0} | fields
    return StoredFailure(proof="example-proof", **fields)


class StoreContract:
    """The tests. ``make_store()`` returns a store; all that one test makes share their tokens."""

    @pytest.fixture
    def make_store(self):
        raise NotImplementedError

    @pytest.fixture
    def store(self, make_store) -> TokenStore:
        return make_store()

    @pytest.fixture
    def other(self, store, make_store) -> TokenStore:
        """Return the store as another handler, or another process, has it."""
        return make_store()

    def test_an_empty_store_misses(self, store):
        assert store.load(KEY) is None

    def test_what_is_saved_is_loaded_with_its_life(self, store, other):
        now = _clock.wall()
        saved = AccessToken(
            value="example-token!~",
            issued_at=datetime.fromtimestamp(now - 300, timezone.utc),
            expires_at=datetime.fromtimestamp(now + 600, timezone.utc),
            token_type="example-type",
            scope="resource.READ resource.WRITE",
        )
        store.save(KEY, saved)
        loaded = other.load(KEY)
        assert isinstance(loaded, AccessToken)
        assert loaded.value == "example-token!~"
        assert (loaded.token_type, loaded.scope) == ("example-type", "resource.READ resource.WRITE")
        assert abs((loaded.expires_at - saved.expires_at).total_seconds()) < 30
        assert abs((loaded.issued_at - saved.issued_at).total_seconds()) < 30
        assert abs(loaded.expires_in() - saved.expires_in()) < 30

    def test_a_token_without_a_scope_keeps_none(self, store, other):
        store.save(KEY, token())
        loaded = other.load(KEY)
        assert (loaded.scope, loaded.token_type) == (None, "Bearer")

    def test_the_last_token_saved_is_the_one_loaded(self, store, other):
        first, second = token(), token()
        store.save(KEY, first)
        other.save(KEY, second)
        assert store.load(KEY).value == other.load(KEY).value == second.value

    def test_keys_do_not_touch_each_other(self, store):
        mine, yours = token(), token()
        store.save(KEY, mine)
        store.save("example-other-key", yours)
        store.discard("example-other-key", yours)
        assert store.load(KEY).value == mine.value
        assert store.load("example-other-key") is None

    def test_a_token_that_has_expired_is_a_miss(self, store, other):
        store.save(KEY, token(lifetime=0.3))
        assert other.load(KEY) is not None
        until(lambda: other.load(KEY) is None, timeout=30)
        assert store.load(KEY) is None

    def test_a_token_saved_after_it_expired_is_a_miss(self, store, other):
        store.save(KEY, token(lifetime=-1.0))
        assert other.load(KEY) is None

    def test_a_live_token_replaces_one_that_expired(self, store, other):
        store.save(KEY, token(lifetime=-1.0))
        live = token()
        store.save(KEY, live)
        assert other.load(KEY).value == live.value

    def test_discard_removes_the_token(self, store, other):
        saved = token()
        store.save(KEY, saved)
        other.discard(KEY, saved)
        assert store.load(KEY) is other.load(KEY) is None

    def test_discard_of_a_loaded_copy_removes_the_token(self, store, other):
        store.save(KEY, token())
        other.discard(KEY, other.load(KEY))
        assert store.load(KEY) is None

    def test_discard_leaves_any_other_token(self, store, other):
        old, new = token(), token()
        store.save(KEY, old)
        store.save(KEY, new)
        other.discard(KEY, old)
        assert store.load(KEY).value == new.value

    def test_discard_of_nothing_does_nothing(self, store):
        store.discard(KEY, token())
        saved = token()
        store.save(KEY, saved)
        store.discard(KEY, saved)
        store.discard(KEY, saved)
        assert store.load(KEY) is None

    def test_discard_in_one_thread_spares_what_another_saves_meanwhile(self, store, other):
        for _ in range(50):
            old, new = token(), token()
            store.save(KEY, old)
            barrier = threading.Barrier(2, timeout=20)

            def discard(old=old, barrier=barrier):
                barrier.wait()
                other.discard(KEY, old)

            def save(new=new, barrier=barrier):
                barrier.wait()
                store.save(KEY, new)

            for call in (Call(discard), Call(save)):
                call.value()
            assert store.load(KEY).value == new.value

    def test_threads_never_load_anything_torn(self, store, other):
        tokens = [token() for _ in range(2)]
        values = {each.value for each in tokens}
        store.save(KEY, tokens[0])
        turn = iter(range(10_000))

        def use():
            for _ in range(20):
                index = next(turn)
                if index % 2:
                    store.save(KEY, tokens[index // 2 % 2])
                else:
                    loaded = other.load(KEY)
                    assert loaded is not None
                    assert loaded.value in values

        for call in together(4, use):
            call.value()

    def test_a_lock_excludes_everybody_else(self, store, other):
        for second in (store, other):
            is_in, may_leave = threading.Event(), threading.Event()

            def hold(is_in=is_in, may_leave=may_leave):
                with store.lock(KEY):
                    is_in.set()
                    assert may_leave.wait(20)

            got_in = threading.Event()

            def follow(second=second, got_in=got_in):
                with second.lock(KEY):
                    got_in.set()

            holder = Call(hold)
            assert is_in.wait(20)
            follower = Call(follow)
            assert not got_in.wait(0.2)
            may_leave.set()
            holder.value()
            follower.value()
            assert got_in.is_set()

    def test_only_one_of_many_threads_is_inside(self, store, other):
        inside, most = [], []

        def enter(source):
            for _ in range(3):
                with source.lock(KEY):
                    inside.append(None)
                    most.append(len(inside))
                    threading.Event().wait(0.001)  # lets another thread run, if it may
                    inside.pop()

        sources = iter([store, other] * 3)
        for call in together(6, lambda: enter(next(sources))):
            call.value()
        assert most == [1] * 18

    def test_locks_of_two_keys_are_independent(self, store, other):
        with store.lock(KEY):

            def enter():
                with other.lock("example-other-key"):
                    return True

            assert Call(enter).value()

    def test_a_lock_is_released_by_an_error_which_it_lets_through(self, store, other):
        with pytest.raises(ZeroDivisionError), store.lock(KEY):
            raise ZeroDivisionError

        def enter():
            with other.lock(KEY):
                return True

        assert Call(enter).value()

    def test_tokens_can_be_read_and_written_under_the_lock_and_beside_it(self, store, other):
        old, new = token(), token()
        store.save(KEY, old)
        with store.lock(KEY):
            assert store.load(KEY).value == old.value
            assert Call(other.load, KEY).value().value == old.value
            store.save(KEY, new)
            Call(other.discard, KEY, old).value()
            assert store.load(KEY).value == new.value

    def test_nothing_shows_the_token(self, store, secrets):
        saved = token()
        secrets.add(saved.value)
        store.save(KEY, saved)
        assert not secrets.found_in(repr(store), str(store), repr(store.load(KEY)))

    # Failures, where the store shares them

    @pytest.fixture
    def _shares_failures(self, store):
        if not hasattr(store, "load_failure"):
            pytest.skip("this store does not share failures")

    @pytest.mark.usefixtures("_shares_failures")
    def test_a_failure_is_loaded_as_it_was_saved_with_what_is_left_of_its_pause(self, store, other):
        assert store.load_failure(KEY) is other.load_failure(KEY) is None
        saved = failure(
            message="the bank refused the credentials (HTTP 401: \u00e9)",
            status_code=401,
            error="invalid_client",
            error_description="wrong secret",
            rejected="0123abcd",
            count=3,
            expires_in=40,
        )
        store.save_failure(KEY, saved)
        loaded = other.load_failure(KEY)
        assert 10 < loaded.expires_in <= 40
        assert attrs.evolve(loaded, expires_in=40.0) == saved

    @pytest.mark.usefixtures("_shares_failures")
    def test_the_last_failure_replaces_the_one_before_and_none_removes_it(self, store, other):
        store.save_failure(KEY, failure(count=1))
        other.save_failure(KEY, failure(count=2, expires_in=0.9))
        assert store.load_failure(KEY).count == 2
        store.save_failure("example-other-key", failure(count=7))
        store.save_failure(KEY, None)
        store.save_failure(KEY, None)
        assert store.load_failure(KEY) is other.load_failure(KEY) is None
        assert other.load_failure("example-other-key").count == 7

    @pytest.mark.usefixtures("_shares_failures")
    def test_a_failure_ends_with_its_pause(self, store, other):
        store.save_failure(KEY, failure(expires_in=0.3))
        until(lambda: other.load_failure(KEY) is None, timeout=30)
        store.save_failure(KEY, failure(expires_in=0))
        assert other.load_failure(KEY) is None

    @pytest.mark.usefixtures("_shares_failures")
    def test_failures_and_tokens_do_not_touch_each_other(self, store, other):
        saved = token()
        store.save(KEY, saved)
        store.save_failure(KEY, failure())
        store.discard(KEY, saved)
        assert other.load_failure(KEY).kind == "InvalidClientError"
        store.save(KEY, saved)
        store.save_failure(KEY, None)
        assert other.load(KEY).value == saved.value

    @pytest.mark.usefixtures("_shares_failures")
    def test_rejected_tokens_are_kept_beside_failed_logins(self, store, other):
        """A handler keeps them under a key of their own, made of its own by a suffix."""
        store.save_failure(KEY, failure(count=1))
        store.save_failure(KEY + ":rejected", failure(count=2))
        assert other.load_failure(KEY).count == 1
        assert other.load_failure(KEY + ":rejected").count == 2
        other.save_failure(KEY + ":rejected", None)
        assert store.load_failure(KEY).count == 1
        assert store.load_failure(KEY + ":rejected") is None
        assert store.load(KEY) is store.load(KEY + ":rejected") is None

    @pytest.mark.usefixtures("_shares_failures")
    def test_a_failure_can_be_saved_under_the_lock(self, store, other):
        with store.lock(KEY):
            store.save_failure(KEY, failure())
            assert Call(other.load_failure, KEY).value() is not None
