from __future__ import annotations

import threading

import pytest
from support.threads import Call


@pytest.fixture
def held_start(monkeypatch):
    """Hold every ``Thread.start()`` of one thread between its listing and the thread's begin."""
    entered, gate = threading.Event(), threading.Event()
    begin_name = (
        "_start_joinable_thread"
        if hasattr(threading, "_start_joinable_thread")
        else "_start_new_thread"
    )
    begin = getattr(threading, begin_name)

    def held(*args, **kwargs):
        if threading.current_thread().name == "test-call":
            entered.set()
            assert gate.wait(60), "the test forgot to open a gate"
        return begin(*args, **kwargs)

    monkeypatch.setattr(threading, begin_name, held)
    yield entered, gate
    gate.set()


def test_settle_waits_for_a_thread_that_is_just_being_started(clock, held_start):
    entered, gate = held_start
    ended = threading.Event()
    starting = Call(threading.Thread(target=ended.set, name="permata-auth-late").start)
    assert entered.wait(60)
    opener = threading.Timer(0.1, gate.set)
    opener.start()
    clock.settle()
    assert ended.is_set()
    starting.value()
    opener.join()
