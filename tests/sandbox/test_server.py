"""The bank as a server: life, connections, outages, forks, its output and its secrets."""

from __future__ import annotations

import http.client
import logging
import os
import socket
import subprocess
import sys
import threading
import time
import warnings
from email.utils import parsedate_to_datetime

import pytest

from permata_auth.sandbox import Sandbox

from .client import CALLBACK_PATH, LOGIN_BODY, LOGIN_PATH, Client, call, login, login_headers


def threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("permata-sandbox-")]


def address(bank) -> tuple[str, int]:
    host, _, port = bank.url.removeprefix("http://").rpartition(":")
    return host, int(port)


def test_urls(bank):
    host, port = address(bank)
    assert (host, port > 0) == ("127.0.0.1", True)
    assert bank.token_url == bank.url + LOGIN_PATH
    assert bank.callback_status_url == bank.url + CALLBACK_PATH
    assert bank.admin_url == bank.url + "/__sandbox__/"


def test_there_is_no_url_before_the_start():
    with pytest.raises(RuntimeError, match="started"):
        _ = Sandbox().url


def test_nothing_runs_before_the_start_and_after_the_stop():
    bank = Sandbox()
    assert threads() == []
    with bank, Client(bank) as client:
        assert client.login().status == 200
        assert len(threads()) == 2
        assert all(thread.daemon for thread in threads())
    assert threads() == []
    with pytest.raises(ConnectionRefusedError):
        login(bank)


def test_start_and_stop_are_idempotent():
    bank = Sandbox()
    bank.stop()
    url = bank.start().start().url
    assert login(bank).status == 200
    bank.stop()
    bank.stop()
    with bank:
        assert login(bank).status == 200
    assert url.startswith("http://127.0.0.1:")


def test_stop_drops_connections_that_idle_or_wait():
    with Sandbox() as bank, Client(bank) as idle, Client(bank) as waiting:
        assert idle.login().status == 200
        bank.latency = 60
        waiting.http.request("POST", LOGIN_PATH, LOGIN_BODY, login_headers())
        assert bank.wait_until(lambda: bank.logins == 2, timeout=30)
        start = time.monotonic()
        bank.stop()
        assert time.monotonic() - start < 30
        assert idle.http.sock.recv(10) == b""
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            waiting.http.getresponse()


def test_stop_wakes_a_reply_that_nobody_reads():
    with Sandbox() as bank, Client(bank) as client:
        bank.fail_next(fault="huge")
        client.http.request("POST", LOGIN_PATH, LOGIN_BODY, login_headers())
        assert bank.wait_until(lambda: bank.requests, timeout=30)
        start = time.monotonic()
        bank.stop()
        assert time.monotonic() - start < 30


def test_a_given_port_is_used_and_a_taken_one_is_an_oserror():
    with Sandbox() as bank:
        with pytest.raises(OSError, match="in use"):
            Sandbox(port=address(bank)[1]).start()
        port = address(bank)[1]
    with Sandbox(port=port) as bank:
        assert address(bank)[1] == port


def test_connections_are_kept_alive(bank):
    with Client(bank) as client:
        token = client.token()
        used = client.http.sock
        for _ in range(20):
            assert client.call(token).status == 200
        assert client.send("HEAD", "/apiservice/x").status == 403
        assert client.send("GET", "/nowhere").status == 404
        assert client.http.sock is used


def test_connection_close_is_obeyed(bank):
    with Client(bank) as client:
        assert client.login(Connection="close").status == 200
        used = client.http.sock
        assert used is None or used.recv(1) == b""


def test_expect_continue_is_answered(bank):
    headers = login_headers()
    with socket.create_connection(address(bank), timeout=5) as sock:
        lines = [f"POST {LOGIN_PATH} HTTP/1.1", "Host: x", "Expect: 100-continue"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines += [f"Content-Length: {len(LOGIN_BODY)}", "", ""]
        sock.sendall("\r\n".join(lines).encode())
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(LOGIN_BODY)
        assert sock.recv(100).startswith(b"HTTP/1.1 200 ")


def test_the_date_header_shows_the_skewed_clock(bank):
    bank.clock_skew = -7200
    date = parsedate_to_datetime(login(bank).headers["Date"]).timestamp()
    assert abs(date - time.time() + 7200) < 30


def test_five_hundred_connections_at_once(bank):
    connections = []
    with bank.hold_next(500, on="token") as gate:
        try:
            for _ in range(500):
                connections.append(Client(bank, timeout=30))
                connections[-1].http.connect()
            for client in connections:
                client.http.request("POST", LOGIN_PATH, LOGIN_BODY, login_headers())
            assert gate.arrived.wait(30)
            gate.release()
            statuses = [client.http.getresponse().status for client in connections]
        finally:
            for client in connections:
                client.http.close()
    assert statuses == [200] * 500
    assert bank.logins == 500


def test_down_refuses_connections_and_comes_back_on_the_same_port(bank):
    with Client(bank) as client:
        token = client.token()
        with bank.down():
            assert client.http.sock.recv(1) == b""
            for _ in range(3):
                with pytest.raises(ConnectionRefusedError):
                    login(bank)
            with Sandbox() as other:
                assert other.url != bank.url
    assert call(bank, token).status == 200


def test_going_down_and_coming_up_are_idempotent(bank):
    bank.come_up()
    bank.go_down()
    bank.go_down()
    bank.come_up()
    bank.come_up()
    assert login(bank).status == 200


def test_a_bank_that_is_down_can_be_stopped():
    bank = Sandbox().start()
    bank.go_down()
    bank.stop()
    bank.come_up()
    assert threads() == []


def test_a_client_that_leaves_amid_its_request_does_no_harm(bank):
    with Client(bank) as client:
        client.http.putrequest("POST", LOGIN_PATH)
        client.http.putheader("Content-Length", "100")
        client.http.endheaders(b"part")
    assert login(bank).status == 200
    assert len(bank.requests) == 1


def test_what_is_no_http_is_refused_without_a_word_on_stderr(bank, capfd):
    with socket.create_connection(address(bank), timeout=5) as sock:
        sock.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
        assert b"400" in sock.recv(1000)
    assert login(bank).status == 200
    assert capfd.readouterr() == ("", "")


def test_an_internal_error_is_raised_in_the_test():
    bank = Sandbox().start()
    break_login(bank)
    assert login(bank).status == 500
    assert bank.requests[-1].reason == "internal error"
    with pytest.raises(KeyError, match="broken"):
        bank.__exit__(None, None, None)
    bank.check()


def test_an_error_of_the_test_is_not_hidden_by_one_of_the_bank():
    bank = Sandbox().start()
    break_login(bank)
    assert login(bank).status == 500
    bank.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
    assert threads() == []


def break_login(bank) -> None:
    def effect(request, answer):
        raise KeyError("broken")

    bank.fail_next()
    bank._faults._faults[0].effect = effect


def test_nothing_is_printed_and_no_secret_is_logged(capfd, caplog):
    caplog.set_level(logging.DEBUG)
    with Sandbox(log_requests=True) as bank:
        token = login(bank).json()["access_token"]
        call(bank, token)
        call(bank, "unknown-token")
        bank.fail_next(fault="reset")
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            login(bank)
    assert capfd.readouterr() == ("", "")
    lines = [record for record in caplog.records if record.name == "permata_auth.sandbox"]
    assert len(lines) == 4
    assert {record.levelno for record in lines} == {logging.INFO}
    for secret in (token, "unknown-token", "example-client-secret", "example-api-key"):
        assert secret not in caplog.text


def test_the_environment_names_what_a_client_needs(bank):
    assert bank.environment() == {
        "PERMATA_TOKEN_URL": bank.token_url,
        "PERMATA_API_KEY": "example-api-key",
        "PERMATA_CLIENT_ID": "example-client-id",
        "PERMATA_CLIENT_SECRET": "example-client-secret",
        "PERMATA_STATIC_KEY": "example-static-key",
        "PERMATA_ORGANIZATION_NAME": "example-organization",
        "PERMATA_CALLBACK_STATUS_URL": bank.callback_status_url,
    }


def test_credentials_take_overrides(bank):
    credentials = bank.credentials()
    assert credentials.token_url == bank.token_url
    assert credentials.client_secret == "example-client-secret"
    changed = bank.credentials(client_secret="example-other")
    assert changed.client_secret == "example-other"
    assert changed.api_key == credentials.api_key


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_does_not_stop_the_bank_of_its_parent(bank):
    with Client(bank) as client:
        token = client.token()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads run while we fork
            pid = os.fork()
        if pid == 0:
            status = 1
            try:
                with bank:
                    bank.go_down()
                    bank.come_up()
                    bank.clear_faults()
                bank.stop()
                status = 0 if login(bank).status == 200 else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert client.call(token).status == 200
    assert bank.logins == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_an_outage_is_real_although_a_forked_child_holds_the_sockets(bank):
    read, write = os.pipe()
    with Client(bank) as client:
        assert client.login().status == 200
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            os.close(write)
            os.read(read, 1)
            os._exit(0)
        try:
            with bank.down():
                assert client.http.sock.recv(1) == b""
                with pytest.raises(ConnectionRefusedError):
                    login(bank)
            assert login(bank).status == 200
        finally:
            os.close(write)
            os.close(read)
            os.waitpid(pid, 0)


def test_without_werkzeug_the_import_names_the_command():
    code = "import sys; sys.modules['werkzeug'] = None; import permata_auth.sandbox"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert "pip install 'permata-auth[sandbox]'" in last


def test_it_loads_nothing_of_the_client():
    code = (
        "import sys, permata_auth; before = set(sys.modules)\n"
        "import permata_auth.sandbox\n"
        "new = {name for name in set(sys.modules) - before if name.startswith('permata_auth.')}\n"
        "print(sorted(name for name in new if not name.startswith('permata_auth.sandbox')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
