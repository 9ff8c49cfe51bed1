from __future__ import annotations

import os
import sys
import threading
from collections import deque
from contextvars import ContextVar

import pytest
from support.scripts import run
from support.threads import Call

from permata_auth import _threads
from permata_auth._threads import is_own_thread, start_daemon

has_tasks = pytest.mark.skipif(
    not (hasattr(os, "fork") and _threads._TASKS.is_dir()), reason="no fork or no /proc here"
)
# That forking with threads around is risky is known: it is what these tests are about.
forks_amid_threads = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


def test_a_thread_is_a_daemon_with_a_name():
    gate = threading.Event()
    thread = start_daemon(gate.wait, "example")
    try:
        assert (thread.name, thread.daemon) == ("permata-auth-example", True)
        assert thread in threading.enumerate()
    finally:
        gate.set()
    thread.join(20)
    assert not thread.is_alive()


def test_it_runs_in_a_copy_of_the_callers_context():
    variable, seen = ContextVar("variable"), []
    variable.set("the caller's")

    def function():
        seen.append(variable.get())
        variable.set("the thread's")

    start_daemon(function, "example").join(20)
    assert seen == ["the caller's"]
    assert variable.get() == "the caller's"


def test_a_thread_knows_whose_it_is():
    seen = []

    def function():
        seen.append(is_own_thread())
        start_daemon(lambda: seen.append(is_own_thread()), "inner").join(20)

    start_daemon(function, "example").join(20)
    assert seen == [True, True]
    assert not is_own_thread()
    assert Call(is_own_thread).value() is False


def test_its_exceptions_go_to_the_hook(monkeypatch):
    seen = []
    monkeypatch.setattr(threading, "excepthook", lambda details: seen.append(details.exc_type))

    def function():
        raise ZeroDivisionError

    start_daemon(function, "example").join(20)
    assert seen == [ZeroDivisionError]


def test_where_no_thread_can_be_started_it_says_so(monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start"):
        start_daemon(print, "example")


def test_while_the_interpreter_ends_it_refuses(monkeypatch):
    called = []
    with monkeypatch.context() as patch:
        patch.setattr(sys, "is_finalizing", lambda: True)
        with pytest.raises(RuntimeError, match="interpreter ends"):
            start_daemon(lambda: called.append(1), "example")
    assert called == []


def test_a_destructor_at_the_end_of_a_program_does_not_hang():
    ended = run("""
        import sys
        from permata_auth._threads import start_daemon

        class Late:
            def __del__(self, start=start_daemon, sys=sys):
                try:
                    start(print, "example")
                except RuntimeError as error:
                    sys.stdout.write(f"{sys.is_finalizing()}: {error}")
                    sys.stdout.flush()

        late = Late()
        late.itself = late  # collected as the interpreter ends, and no sooner
    """)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out == "True: no thread can be started while the interpreter ends"


# Forks, which wait for the ends of threads


class Tasks:
    """Stands in for the kernel's list of threads, and for the time that a fork spends on it."""

    def __init__(self, monkeypatch, folder, *idents):
        self.folder = folder
        self.now = 0.0
        self.polls = 0
        self.on_poll = lambda: None
        for ident in idents:
            (folder / str(ident)).touch()
        monkeypatch.setattr(_threads, "_TASKS", folder)
        monkeypatch.setattr(_threads, "_ending", deque(idents, maxlen=64))
        monkeypatch.setattr(_threads, "time", self)

    def end(self, ident):
        (self.folder / str(ident)).unlink()

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.polls += 1
        self.on_poll()


def test_a_fork_waits_for_threads_that_are_ending(monkeypatch, tmp_path):
    tasks = Tasks(monkeypatch, tmp_path, 11, 12)
    ends = {3: 11, 5: 12}
    tasks.on_poll = lambda: tasks.polls in ends and tasks.end(ends[tasks.polls])
    _threads._wait_for_ends()
    assert tasks.polls == 5
    _threads._wait_for_ends()
    assert tasks.polls == 5
    assert not _threads._ending


def test_a_fork_waits_for_a_thread_that_comes_to_its_end_meanwhile(monkeypatch, tmp_path):
    tasks = Tasks(monkeypatch, tmp_path, 11, 12)
    _threads._ending.remove(12)  # a login that runs still
    steps = {3: lambda: (_threads._ending.append(12), tasks.end(11)), 5: lambda: tasks.end(12)}
    tasks.on_poll = lambda: tasks.polls in steps and steps[tasks.polls]()
    _threads._wait_for_ends()
    assert tasks.polls == 5
    assert not _threads._ending


def test_a_fork_waits_a_quarter_of_a_second_at_most(monkeypatch, tmp_path):
    tasks = Tasks(monkeypatch, tmp_path, 11, 12, 13)
    _threads._wait_for_ends()
    assert 0.2 < tasks.now < 0.3
    _threads._wait_for_ends()
    assert tasks.now < 0.3


def test_of_two_forks_at_once_each_waits_for_all(monkeypatch, tmp_path):
    """The one that goes first must not take the set that the other has yet to wait for."""
    tasks = Tasks(monkeypatch, tmp_path, 11, 12)
    nested = []

    def on_poll():
        if not nested:
            nested.append(None)
            tasks.end(11)
            _threads._wait_for_ends()  # another thread's fork, while this one sleeps
            nested[0] = sorted(path.name for path in tmp_path.iterdir())
        elif tasks.polls == 5:
            tasks.end(12)

    tasks.on_poll = on_poll
    _threads._wait_for_ends()
    assert nested == [[]]
    assert not _threads._ending


def test_two_forks_at_once_in_two_threads(monkeypatch, tmp_path):
    """Both look at the same list, and both remove the ended threads."""
    tasks = Tasks(monkeypatch, tmp_path, 11, 12)
    meet = threading.Barrier(2, timeout=20)
    ended = []

    def on_poll():
        if meet.wait() == 0:
            ended.append(11 + len(ended))
            tasks.end(ended[-1])
        meet.wait()

    tasks.on_poll = on_poll
    for call in [Call(_threads._wait_for_ends) for _ in range(2)]:
        call.value()
    assert ended == [11, 12]
    assert not _threads._ending


@has_tasks
@forks_amid_threads
def test_threads_are_noted_as_they_end_and_gone_after_a_fork(monkeypatch):
    monkeypatch.setattr(_threads, "_ending", deque(maxlen=64))
    idents = []
    threads = [
        start_daemon(lambda: idents.append(threading.get_native_id()), "example") for _ in range(5)
    ]
    for thread in threads:
        thread.join(20)
    assert sorted(_threads._ending) == sorted(idents)
    pid = os.fork()
    if not pid:
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert not _threads._ending
    assert not [ident for ident in idents if (_threads._TASKS / str(ident)).exists()]


@has_tasks
def test_a_thread_that_raises_is_noted_too(monkeypatch):
    monkeypatch.setattr(_threads, "_ending", deque(maxlen=64))
    monkeypatch.setattr(threading, "excepthook", lambda details: None)

    def function():
        raise ZeroDivisionError

    start_daemon(function, "example").join(20)
    assert len(_threads._ending) == 1


@has_tasks
@forks_amid_threads
def test_a_fork_does_not_wait_for_a_thread_that_runs(monkeypatch):
    monkeypatch.setattr(_threads, "_ending", deque(maxlen=64))
    gate, entered = threading.Event(), threading.Event()
    thread = start_daemon(lambda: entered.set() or gate.wait(60), "example")
    assert entered.wait(20)
    try:
        assert not _threads._ending
        pid = os.fork()
        if not pid:
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert thread.is_alive()
    finally:
        gate.set()
    thread.join(20)


@has_tasks
def test_a_function_that_ends_on_the_main_thread_is_not_waited_for(monkeypatch):
    """As that of a greenlet does, whose thread goes on."""
    monkeypatch.setattr(_threads, "_ending", deque(maxlen=64))
    _threads.note_end()
    assert not _threads._ending


@has_tasks
def test_a_schedules_callback_runs_on_a_thread_of_ours_that_a_fork_waits_for(
    monkeypatch, clock, make_scheduler
):
    monkeypatch.setattr(_threads, "_ending", deque(maxlen=64))
    scheduler, seen = make_scheduler(), []
    scheduler.start(
        clock.wall() + 900, lambda: seen.append((is_own_thread(), threading.get_native_id()))
    )
    clock.advance(600)
    assert seen == [(True, _threads._ending[0])]


@has_tasks
@pytest.mark.long
def test_no_child_that_is_forked_right_after_a_login_hangs():
    """Without the wait about one in a thousand does, for ever: run it with 3,000 to see one."""
    ended = run(
        "from support.fork_after_login import main; import sys; main(int(sys.argv[1]))",
        "50",
        timeout=250,
    )
    assert (ended.status, ended.out) == (0, "children: 50, hung: 0, failed: 0\n"), ended.err


@has_tasks
def test_a_fork_right_after_a_login_copies_no_lock_that_an_event_hook_holds(bank):
    code = """
        import os, threading
        from permata_auth import LoginHandler, PermataCredentials, _threads

        _threads._MAX_FORK_WAIT_SECS = 20.0
        lock, entered, forking = threading.Lock(), threading.Event(), threading.Event()

        def hook(event):
            with lock:  # as prometheus_client does
                entered.set()
                forking.wait(20)

        os.register_at_fork(before=forking.set)  # runs before the hooks registered earlier
        handler = LoginHandler(PermataCredentials.from_env(), on_event=hook)
        handler.get_token()
        entered.wait(20)
        child = os.fork()
        if child == 0:
            os._exit(0 if lock.acquire(timeout=0) else 1)
        assert os.waitpid(child, 0)[1] == 0
        handler.shutdown()
        """
    ended = run(code, env=bank.environment())
    assert (ended.status, ended.err) == (0, "")


@has_tasks
def test_an_event_hook_that_forks_does_not_wait_for_its_own_thread(bank):
    code = """
        import os, time
        from permata_auth import LoginHandler, PermataCredentials, _threads
        from permata_auth.events import TokenSwapped

        polls = []
        _threads.time = type("Time", (), {
            "monotonic": lambda: 0.01 * len(polls),
            "sleep": lambda seconds: polls.append(seconds),
        })
        pids = []

        def hook(event):
            if isinstance(event, TokenSwapped):
                pid = os.fork()
                if pid == 0:
                    os._exit(0)
                pids.append(pid)

        handler = LoginHandler(
            PermataCredentials.from_env(), on_event=hook, background=False
        )
        handler.get_token()
        handler.shutdown(20)
        assert os.waitpid(pids[0], 0)[1] == 0
        assert not polls
        """
    ended = run(code, env=bank.environment())
    assert (ended.status, ended.err) == (0, "")
