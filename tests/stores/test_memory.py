from __future__ import annotations

import signal
import sys
import threading

import pytest
from support.clients import token
from support.scripts import run
from support.threads import Call

from permata_auth import MemoryTokenStore, TokenStore

from .contract import KEY, StoreContract


class TestMemoryTokenStore(StoreContract):
    @pytest.fixture
    def make_store(self):
        store = MemoryTokenStore()
        return lambda: store


def test_it_is_a_token_store_by_shape():
    store: TokenStore = MemoryTokenStore()
    for name in ("load", "save", "discard", "lock"):
        assert callable(getattr(store, name))


def test_two_stores_share_nothing():
    one, other = MemoryTokenStore(), MemoryTokenStore()
    one.save(KEY, token())
    assert other.load(KEY) is None
    with one.lock(KEY):

        def enter():
            with other.lock(KEY):
                return True

        assert Call(enter).value()


def test_expiry_is_judged_on_the_clock_that_wall_clock_steps_do_not_touch(clock):
    store = MemoryTokenStore()
    store.save(KEY, token(lifetime=100))
    clock.step_wall(-1_000_000)
    assert store.load(KEY) is not None
    clock.advance(99)
    assert store.load(KEY) is not None
    clock.advance(1)
    assert store.load(KEY) is None


def test_where_the_wall_clock_alone_moves_on_by_hours_it_decides(clock):
    store = MemoryTokenStore()
    store.save(KEY, token(lifetime=100))
    clock.step_wall(10_000)
    assert store.load(KEY) is None


def test_a_discard_that_meets_a_save_in_the_middle_puts_the_new_token_back():
    class Tokens(dict):
        def pop(self, *args):
            store.save(KEY, new)  # between the look and the removal
            return super().pop(*args)

    store, old, new = MemoryTokenStore(), token(), token()
    store._tokens = Tokens()
    store.save(KEY, old)
    store.discard(KEY, old)
    assert store.load(KEY).value == new.value


def test_one_thread_at_a_time_has_the_lock():
    store, barrier, inside, most = MemoryTokenStore(), threading.Barrier(8), [], []

    def enter():
        barrier.wait(20)
        for _ in range(50):
            with store.lock(KEY):
                inside.append(None)
                most.append(len(inside))
                inside.pop()

    for call in [Call(enter) for _ in range(8)]:
        call.value()
    assert len(most) == 400
    assert max(most) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="no timer signals")
def test_a_wait_for_the_lock_that_a_signal_handler_ends_leaves_the_lock_to_the_others():
    class Interrupted(Exception):
        pass

    def interrupt(*_):
        raise Interrupted

    store, held, may_leave = MemoryTokenStore(), threading.Event(), threading.Event()

    def hold():
        with store.lock(KEY):
            held.set()
            assert may_leave.wait(20)

    def enter():
        with store.lock(KEY):
            return True

    holder = Call(hold)
    assert held.wait(20)

    def enter_for_a_moment():
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        enter()

    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(Interrupted):
            enter_for_a_moment()
    finally:
        signal.signal(signal.SIGALRM, previous)
    follower = Call(enter)
    assert not follower.is_done, "the lock is held as before"
    may_leave.set()
    holder.value()
    assert follower.value()
    assert enter()


def test_a_lock_leaves_nothing_behind():
    store = MemoryTokenStore()
    for number in range(20):
        with store.lock(f"{KEY}-{number}"):
            pass
    assert not store._holders.get()


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_a_forked_child_has_the_token_and_a_lock_that_nobody_holds():
    ended = run(
        """
        import os, sys, warnings
        from permata_auth import MemoryTokenStore
        from support.clients import token

        store = MemoryTokenStore()
        store.save("key", token(value="example-token"))
        with store.lock("key"):  # as another thread might at the moment of the fork
            child = os.fork()
            if child == 0:
                assert store.load("key").value == "example-token"
                with store.lock("key"):
                    os._exit(7)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        """
    )
    assert (ended.status, ended.err) == (0, "")
