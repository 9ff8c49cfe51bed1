"""Records and events: their marks, their moment, and exceptions of the application's code."""

from __future__ import annotations

import contextvars
import gc
import logging
import os
import signal
import weakref

import pytest
from support.threads import Call, together

from permata_auth import TransportError
from permata_auth._logging import (
    Log,
    Notes,
    contained,
    describe,
    extra,
    frames,
    held_back,
    ids,
    tagged,
    tell,
)
from permata_auth._threads import start_daemon

NAME = "permata_auth.example"


def raised(error: BaseException) -> BaseException:
    """Return ``error`` with the traceback of a call."""

    def raise_it():
        raise error

    try:
        raise_it()
    except BaseException as caught:
        return caught
    raise AssertionError


# Marks


def test_a_context_without_marks_has_none():
    assert contextvars.Context().run(ids) == {}


def test_marks_are_laid_over_those_around_them_and_taken_off_again():
    with tagged(unique_id="u1", handler="h1"):
        with tagged(handler="h2", request_id="r2"):
            assert ids() == {"unique_id": "u1", "handler": "h2", "request_id": "r2"}
        assert ids() == {"unique_id": "u1", "handler": "h1"}
        with tagged():
            assert ids() == {"unique_id": "u1", "handler": "h1"}
    assert ids() == {}


def test_marks_are_taken_off_when_something_is_raised():
    with pytest.raises(ZeroDivisionError), tagged(unique_id="u1"):
        raise ZeroDivisionError
    assert ids() == {}


def test_every_field_of_a_record_has_the_prefix_and_goes_before_a_mark_of_its_name():
    with tagged(unique_id="u1", handler="h1"):
        assert extra(handler="h2", count=3) == {
            "permata_unique_id": "u1",
            "permata_handler": "h2",
            "permata_count": 3,
        }


def test_a_thread_of_this_package_has_the_marks_of_its_caller_and_others_have_none():
    seen = []
    with tagged(unique_id="u1"):
        start_daemon(lambda: seen.append(ids()), "example").join(20)
        Call(lambda: seen.append(ids())).join()
    assert seen == [{"unique_id": "u1"}, {}]


# The text of an error in a record


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (TransportError("no route"), "TransportError: no route"),
        (TransportError(""), "TransportError"),
        (OSError("a foreign text may hold a secret"), "OSError"),
        (KeyboardInterrupt("x"), "KeyboardInterrupt"),
    ],
)
def test_an_error_is_described_by_its_text_only_where_it_is_ours(error, text):
    assert describe(error) == text


def test_frames_say_where_and_show_no_text():
    error = raised(OSError("example-secret"))
    assert "in raise_it" in frames(error)
    assert "test_logging.py" in frames(error)
    assert "example-secret" not in frames(error)
    assert "OSError" not in frames(error)


def test_an_error_that_was_not_raised_has_no_frames():
    assert frames(OSError("x")) == ""


# Exceptions of the application's code


@pytest.mark.parametrize("error", [ZeroDivisionError(), TransportError("x")], ids=repr)
def test_an_exception_is_contained_and_reported(error):
    reports = []
    with contained(reports.append):
        raise error
    assert reports == [error]
    with contained():
        raise error


def test_nothing_is_reported_where_nothing_is_raised():
    reports = []
    with contained(reports.append):
        pass
    assert reports == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()], ids=repr)
def test_what_is_thrown_into_a_thread_of_the_application_passes(error):
    def thrown():
        with contained(pytest.fail):
            raise error

    with pytest.raises(type(error)):
        thrown()
    assert Call(thrown).join().error is error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()], ids=repr)
def test_in_a_thread_of_this_package_the_same_comes_from_a_hook_and_is_contained(error):
    reports = []

    def run():
        with contained(reports.append):
            raise error
        reports.append("went on")

    start_daemon(run, "example").join(20)
    assert reports == [error, "went on"]


class TimeLimit(Exception):
    """As Celery's soft time limit: an Exception that a signal handler raises."""


@pytest.fixture
def time_limit():
    """Send this process a signal whose handler raises; the handler that was there comes back."""

    def handle(number, frame):
        raise TimeLimit

    previous = signal.signal(signal.SIGUSR1, handle)
    yield lambda: os.kill(os.getpid(), signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, previous)


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no such signal here")
def test_what_a_signal_handler_raises_passes_though_it_is_an_exception(time_limit):
    with pytest.raises(TimeLimit), contained(pytest.fail):
        time_limit()


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no such signal here")
def test_the_same_exception_of_the_code_itself_is_contained(time_limit):
    reports = []
    with contained(reports.append):
        raise TimeLimit
    assert [type(each) for each in reports] == [TimeLimit]


# Notes


def test_notes_wait_for_their_moment_and_keep_their_order():
    notes, told = Notes(), []
    for number in range(3):
        notes.add(lambda number=number: told.append(number))
    assert told == []
    notes.tell()
    assert told == [0, 1, 2]
    notes.tell()
    assert told == [0, 1, 2], "each once"


def test_a_note_that_comes_late_is_told_at_once():
    """By a store's thread that outlived its login."""
    notes, told = Notes(), []
    notes.tell()
    notes.add(lambda: told.append("late"))
    assert told == ["late"]


def test_a_note_may_add_another():
    notes, told = Notes(), []
    notes.add(lambda: notes.add(lambda: told.append("inner")) or told.append("outer"))
    notes.tell()
    assert sorted(told) == ["inner", "outer"]


def test_many_threads_tell_each_note_once():
    for _ in range(20):
        notes, told = Notes(), []
        for number in range(50):
            notes.add(lambda number=number, told=told: told.append(number))
        for call in together(4, notes.tell):
            call.value()
        assert sorted(told) == list(range(50))


def test_a_note_that_another_thread_has_taken_is_no_error():
    """Between the look at the list and the line that takes the last one off it."""

    class Emptied(list):
        def __bool__(self):
            return True

    notes = Notes()
    notes._waiting = Emptied()
    notes.tell()


def test_a_note_added_while_the_others_are_told_is_not_lost():
    """The thread that tells has seen an empty list when this one looks whether it is too late."""
    for _ in range(200):
        notes, told = Notes(), []
        calls = iter([notes.tell, lambda notes=notes, told=told: notes.add(lambda: told.append(1))])
        for call in together(2, lambda calls=calls: next(calls)()):
            call.value()
        notes.tell()
        assert told == [1]


# The moment


def test_outside_of_a_login_a_note_is_told_at_once():
    told = []
    tell(lambda: told.append(1))
    assert told == [1]


def test_within_a_login_it_waits_also_in_the_threads_that_the_login_starts():
    told = []
    with held_back() as notes:
        tell(lambda: told.append("own"))
        start_daemon(lambda: tell(lambda: told.append("its thread's")), "example").join(20)
        Call(lambda: tell(lambda: told.append("a stranger's"))).value()
        assert told == ["a stranger's"]
        notes.tell()
    assert told == ["a stranger's", "own", "its thread's"]


def test_after_the_login_the_context_is_as_it_was():
    told = []
    with pytest.raises(ZeroDivisionError), held_back():
        raise ZeroDivisionError
    tell(lambda: told.append(1))
    assert told == [1]


def test_of_two_logins_one_within_the_other_each_has_its_own_notes():
    told = []
    with held_back() as outer:
        with held_back() as inner:
            tell(lambda: told.append("inner"))
        tell(lambda: told.append("outer"))
        outer.tell()
        assert told == ["outer"]
        inner.tell()
    assert told == ["outer", "inner"]


# The logger


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_a_record_has_its_level_its_arguments_and_its_fields(caplog, level):
    caplog.set_level(logging.DEBUG, NAME)
    with tagged(unique_id="u1"):
        getattr(Log(NAME), level)("%d of %s", 3, "five", attempt=2)
    (record,) = [each for each in caplog.records if each.name == NAME]
    assert record.levelname.lower() == level
    assert (record.msg, record.args, record.getMessage()) == ("%d of %s", (3, "five"), "3 of five")
    assert (record.permata_unique_id, record.permata_attempt) == ("u1", 2)


def test_a_record_has_the_marks_of_its_own_moment_and_not_of_the_telling(caplog):
    with held_back() as notes:
        with tagged(unique_id="u1"):
            Log(NAME).warning("text")
        assert [each for each in caplog.records if each.name == NAME] == []
        with tagged(unique_id="u2"):
            notes.tell()
    (record,) = [each for each in caplog.records if each.name == NAME]
    assert record.permata_unique_id == "u1"


def test_a_record_keeps_an_errors_text_and_not_its_frames(caplog):
    class Big:
        pass

    def fail(document):
        raise TransportError("no route")

    big = Big()
    reference = weakref.ref(big)
    try:
        fail(big)
    except TransportError as error:
        Log(NAME).warning("failed: %s", error)
    del big
    gc.collect()
    (record,) = [each for each in caplog.records if each.name == NAME]
    assert record.args == ("no route",)
    assert reference() is None


class Broken(logging.Handler):
    def emit(self, record):
        raise ZeroDivisionError


@pytest.fixture
def broken():
    handler = Broken()
    logging.getLogger(NAME).addHandler(handler)
    yield handler
    logging.getLogger(NAME).removeHandler(handler)


@pytest.mark.usefixtures("broken")
def test_a_log_handler_that_raises_stops_nothing():
    Log(NAME).error("text")


@pytest.mark.usefixtures("broken")
def test_a_log_handler_that_raises_stops_no_other_note():
    told = []
    with held_back() as notes:
        Log(NAME).error("text")
        tell(lambda: told.append(1))
        notes.tell()
    assert told == [1]


def test_a_filter_that_is_interrupted_by_ctrl_c_is_interrupted():
    class Interrupted(logging.Filter):
        def filter(self, record):
            raise KeyboardInterrupt

    interrupted = Interrupted()
    logging.getLogger(NAME).addFilter(interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            Log(NAME).error("text")
    finally:
        logging.getLogger(NAME).removeFilter(interrupted)


def test_no_logger_of_this_package_reaches_the_library_s_last_resort():
    """A record of a program without logging would be printed on stderr."""
    handlers = logging.getLogger("permata_auth").handlers
    assert any(isinstance(each, logging.NullHandler) for each in handlers)
