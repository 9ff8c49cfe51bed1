"""The end of the interpreter, at any moment of a token's life."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
import threading

import pytest
from support.scripts import Script, run

# Importing the package and starting the interpreter is most of it; a login that holds up the exit
# takes longer, since it lasts as long as a login's budget.
PROMPT = 20.0
HAS_NO_GIL = not getattr(sys, "_is_gil_enabled", lambda: True)()

PRELUDE = """
import atexit, logging, os, signal, sys, threading, time
from permata_auth import LoginHandler, PermataCredentials, RequestTimeoutError

handler = LoginHandler(PermataCredentials.from_env(), **globals().get("arguments", {}))
"""


def program(code: str) -> str:
    return PRELUDE + textwrap.dedent(code)


def check(bank, code: str, out: str = "") -> None:
    """Run a program against the bank: it ends soon, with success, and says nothing but ``out``."""
    ended = run(program(code), env=bank.environment())
    assert (ended.status, ended.out.strip()) == (0, out)
    # Without the GIL urllib3's finalizer may come after its own module's names are gone.
    assert ended.err == "" or (HAS_NO_GIL and "permata_auth" not in ended.err)
    assert ended.seconds < PROMPT


def test_a_script_with_a_timer_pending_ends_at_once(bank):
    check(bank, "handler.get_token(); print(handler.scheduler.is_active)", "True")
    assert bank.logins == 1


def test_a_script_with_a_login_in_flight_ends_at_once_and_silently(bank):
    with bank.hold_next(on="token"):
        check(
            bank,
            """
            try:
                handler.get_token(timeout=0.3)
            except RequestTimeoutError:
                print("gave up")
            """,
            "gave up",
        )
        assert bank.login_attempts == 1


def test_a_script_whose_daemons_wait_for_a_login_ends_at_once_and_silently(bank):
    with (
        bank.hold_next(on="token") as gate,
        Script(
            program(
                """
                for _ in range(20):
                    threading.Thread(target=handler.get_token, daemon=True).start()
                while handler.info().waiting < 20: time.sleep(0.01)
                print("waiting", flush=True)
                sys.stdin.read()
                """
            ),
            env=bank.environment(),
        ) as script,
    ):
        assert script.line() == "waiting"
        assert gate.arrived.wait(20)
        ended = script.end(PROMPT)
    assert (ended.status, ended.out, ended.err) == (0, "", "")


def test_a_script_ends_at_once_amid_a_refresh_in_the_background(make_bank):
    bank = make_bank(token_lifetime=1.0)
    with Script(
        program("handler.get_token(); print('ready', flush=True); sys.stdin.read()"),
        env=bank.environment(),
    ) as script:
        assert script.line() == "ready"
        with bank.hold_next(on="token") as gate:
            assert gate.arrived.wait(20)
            ended = script.end(PROMPT)
    assert (ended.status, ended.err) == (0, "")


def test_a_script_ends_at_once_between_two_attempts(bank):
    bank.fail_next(5, status=503, retry_after=20, on="token")
    check(
        bank,
        """
        try:
            handler.get_token(timeout=0.5)
        except RequestTimeoutError:
            print("gave up")
        """,
        "gave up",
    )


@pytest.mark.parametrize("state", ["live", "none", "expired"])
@pytest.mark.parametrize("order", ["before", "after"])
def test_a_token_can_be_had_in_an_atexit_handler(make_bank, state, order):
    """Where no thread can be started any more, the caller logs in itself."""
    bank = make_bank(token_lifetime=0.2 if state == "expired" else 900.0)
    register = "atexit.register(lambda: print('at exit', handler.get_token() != ''))"
    use = {
        "live": "handler.get_token()",
        "none": "",
        "expired": "handler.get_token(); handler.scheduler.shutdown(); time.sleep(0.3)",
    }[state]
    lines = [register, use] if order == "before" else [use, register]
    # urllib3's own exit handler, which closes connections, may have run already.
    lines.insert(0, "import warnings; warnings.simplefilter('ignore', ResourceWarning)")
    check(bank, "\n".join(lines), "at exit True")
    assert bank.logins == (2 if state == "expired" else 1)


def test_all_methods_work_in_an_atexit_handler(bank):
    check(
        bank,
        """
        @atexit.register
        def goodbye():
            first = handler.get_token()
            handler.invalidate(first)
            assert handler.get_token() != first
            assert handler.refresh().value == handler.get_token()
            handler.clear_cache()
            str(handler.info())
            handler.shutdown()
            handler.get_token()
            print("done")
        """,
        "done",
    )
    assert bank.logins == 4


def test_background_refreshes_go_on_during_atexit_handlers(make_bank):
    bank = make_bank(token_lifetime=0.6)
    check(
        bank,
        """
        value = handler.get_token()

        @atexit.register
        def linger():
            for _ in range(60):
                handler.get_token()
                time.sleep(0.02)
            print(handler.get_token() != value)
        """,
        "True",
    )


@pytest.mark.parametrize("state", ["live", "none"])
def test_a_token_asked_for_by_a_destructor_at_the_very_end_hangs_nobody(bank, state):
    """Modules are being torn down: on Python 3.10 and 3.11 a new thread would hang for ever."""
    use = "handler.get_token()" if state == "live" else ""
    ended = run(
        program(
            f"""
            {use}

            class Owner:
                def __init__(self, handler):
                    self.handler = handler
                def __del__(self, say=os.write):
                    say(1, b"end")
                    try:
                        self.handler.get_token()
                    except BaseException:  # nothing is promised by then but an end
                        pass

            owner = Owner(handler)
            sys.owner = owner  # outlives every module but sys itself
            """
        ),
        env=bank.environment(),
    )
    # Builtins may be gone by then, and with them the except clause.
    assert (ended.status, ended.out) == (0, "end")
    assert "Traceback" not in ended.err
    assert ended.seconds < PROMPT


def test_a_handler_that_dies_with_its_module_says_nothing(bank):
    check(
        bank,
        """
        class Service:
            def __init__(self):
                self.handler = LoginHandler(PermataCredentials.from_env())
                self.handler.get_token()
                self.me = self

        services = [Service() for _ in range(5)]
        print("done")
        """,
        "done",
    )


@pytest.mark.parametrize("end", ["sys.exit(0)", "raise SystemExit(0)", "handler.shutdown()"])
def test_other_ends_are_as_silent(bank, end):
    check(bank, f"handler.get_token()\n{end}")


def test_shutdown_at_exit_is_prompt(bank):
    check(bank, "handler.get_token(); atexit.register(handler.shutdown, None)")


def test_nothing_goes_wrong_in_the_logs_of_an_exit(make_bank):
    bank = make_bank(token_lifetime=0.4)
    ended = run(
        program(
            """
            logging.basicConfig(level=logging.DEBUG)
            handler.get_token()
            time.sleep(0.6)
            atexit.register(handler.refresh)
            """
        ),
        env=bank.environment(),
    )
    assert ended.status == 0
    for unwanted in ("Traceback", "--- Logging error", "ERROR", "Exception ignored"):
        assert unwanted not in ended.err


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
def test_ctrl_c_ends_a_script_that_waits_for_a_login(bank):
    with (
        bank.hold_next(on="token") as gate,
        Script(
            program("print('ready', flush=True); handler.get_token()"), env=bank.environment()
        ) as script,
    ):
        assert gate.arrived.wait(20)
        os.kill(script.process.pid, signal.SIGINT)
        ended = script.end(PROMPT)
    assert ended.err.strip().endswith("KeyboardInterrupt")
    assert ended.err.count("Traceback") == 1
    assert ended.status == -signal.SIGINT


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
def test_shutdown_in_a_signal_handler_ends_a_service(bank):
    with Script(
        program(
            """
            def stop(*_):
                handler.shutdown()
                sys.exit(0)

            signal.signal(signal.SIGTERM, stop)
            handler.get_token()
            print("ready", flush=True)
            while True:  # a login each: no pause applies after clear_cache()
                handler.clear_cache()
                handler.get_token()
            """
        ),
        env=bank.environment(),
    ) as script:
        assert script.line() == "ready"
        assert bank.wait_until(lambda: bank.logins > 5, 20)
        os.kill(script.process.pid, signal.SIGTERM)
        ended = script.end(PROMPT)
    assert (ended.status, ended.err) == (0, "")


def test_a_handler_that_outlives_the_names_of_every_module_says_nothing(bank):
    check(
        bank,
        """
        handler.get_token()
        # Modules that live still are cleared at the end, the last imported first, and sys last.
        ours = [module for name, module in sys.modules.items() if name.startswith("permata_auth")]
        threading.kept = handler
        sys.kept = [threading, ours]
        print("done")
        """,
        "done",
    )


@pytest.mark.skipif(
    not hasattr(threading, "_daemon_threads_allowed"), reason="daemons are always allowed here"
)
def test_where_daemon_threads_are_refused_everything_goes_on_demand(bank):
    """As in an isolated subinterpreter."""
    check(
        bank,
        """
        threading._daemon_threads_allowed = lambda: False
        first = handler.get_token()
        assert handler.get_token() == first
        assert not handler.scheduler.is_active
        handler.invalidate()
        assert handler.get_token() != first
        handler.shutdown()
        print("done")
        """,
        "done",
    )
