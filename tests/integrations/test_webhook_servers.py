"""Webhooks through real servers, past an application that reads each body first."""

from __future__ import annotations

import queue
import re
import socket
import sys
from collections import Counter

import pytest
import requests

pytest.importorskip("flask")
pytest.importorskip("django")
pytest.importorskip("gunicorn")

from support.threads import Call, until
from support.wire import RawServer, once

from .servers import environment, gunicorn, serving
from .webhooks import RECEIPT, SECRET, VERIFICATION, VERIFY_TOKEN, signed

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.platform != "linux", reason="hands sockets down to its servers"),
]
SYNC = ("--workers", "2", "-k", "sync")
THREADS = ("--workers", "2", "-k", "gthread", "--threads", "4")
SERVERS = [
    pytest.param(gunicorn(*THREADS, app="flask_reader:app"), id="flask-gthread"),
    pytest.param(gunicorn(*SYNC, app="flask_reader:app"), id="flask-sync"),
    pytest.param(gunicorn(*THREADS, app="django_reader:app"), id="django-gthread"),
    pytest.param(gunicorn(*SYNC, app="django_reader:app"), id="django-sync"),
]
COUNT = 1000
CLIENTS = 8


def _serving(bank, command, tmp_path, **more):
    env = environment(
        bank,
        PERMATA_APP_SECRETS=SECRET,
        PERMATA_WEBHOOK_VERIFY_TOKEN=VERIFY_TOKEN,
        PERMATA_TOKEN_STORE=(tmp_path / "tokens").as_uri(),
        **more,
    )
    return serving(command, env)


def _ask(server, method, *, body=b"", headers=None, query=""):
    """Send one request and return the response as it came over the wire: status, head, content."""
    lines = [f"{method} /webhook{query} HTTP/1.1", "Host: 127.0.0.1", "Connection: close"]
    given = {"Content-Length": str(len(body))} | (headers or {})
    lines += [f"{name}: {value}" for name, value in given.items()]
    port = int(server.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        sock.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        received = b"".join(iter(lambda: sock.recv(65536), b""))
    head, _, content = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode(), content


def _post(server, body=RECEIPT, **headers):
    return _ask(server, "POST", body=body, headers=signed(body) | headers)


@pytest.mark.parametrize("command", SERVERS[::3])
def test_a_flood_is_delivered_once_each_and_nothing_unsigned_is(
    bank, command, tmp_path, caplog, secrets
):
    caplog.set_level("INFO")
    good = [RECEIPT.replace(b'"123"', b'"%d"' % number) for number in range(COUNT)]
    forged = [RECEIPT.replace(b'"123"', b'"forged %d"' % number) for number in range(COUNT // 10)]
    waiting = queue.SimpleQueue()
    for number, body in enumerate(good):
        waiting.put((body, signed(body)))
        if number % 10 == 0:
            unsigned = {} if number % 20 else signed(body)  # none, or that of another webhook
            waiting.put((forged[number // 10], unsigned))
    answers = Counter()

    def send(url):
        with requests.Session() as session:
            while True:
                try:
                    body, headers = waiting.get_nowait()
                except queue.Empty:
                    return
                headers["Content-Type"] = "application/json"
                answer = session.post(f"{url}/webhook", data=body, headers=headers, timeout=60)
                answers[body in forged, answer.status_code] += 1

    with _serving(bank, command, tmp_path) as server:
        for call in [Call(send, server.url) for _ in range(CLIENTS)]:
            call.value(100)
        output = server.process.text()

    assert answers == {(False, 200): len(good), (True, 401): len(forged)}
    assert Counter(bank.deliveries) == Counter(good)
    assert bank.logins == 1
    assert "Traceback" not in output


@pytest.mark.parametrize("command", SERVERS)
def test_a_response_is_what_http_allows(bank, command, tmp_path):
    with _serving(bank, command, tmp_path) as server:
        for status in (204, 205, 304, 299, 404):
            bank.callback_reply = (status, b"" if status < 400 else b"{}", "application/json")
            found, head, content = _post(server)
            assert found == status
            assert (content == b"") is (status in (204, 205, 304)), content
            length = re.search(r"\r\ncontent-length: *(\d+)", head.lower())
            assert length is None or int(length[1]) == len(content), head
        challenge = _ask(server, "GET", query=f"?{VERIFICATION}")
        assert (challenge[0], challenge[2]) == (200, b"1158201444")
        assert "text/plain" in challenge[1]
        assert _ask(server, "GET", query="?hub.mode=subscribe")[0] == 403
        output = server.process.text()
    assert "Traceback" not in output


@pytest.mark.parametrize("command", SERVERS[::3])
def test_a_status_that_http_does_not_know_is_no_fault_of_ours(bank, command, tmp_path):
    statuses = {"599": 599, "799": 799, "101": 502, "199": 502}
    answer = b""

    def handle(sock):
        once(answer)(sock)

    with RawServer(handle) as callback:
        url = f"{callback.url}/callback"
        with _serving(bank, command, tmp_path, PERMATA_CALLBACK_STATUS_URL=url) as server:
            for status, expected in statuses.items():
                has_body = expected != 502
                rest = b"Content-Length: 2\r\nConnection: close\r\n\r\n{}" if has_body else b"\r\n"
                answer = f"HTTP/1.1 {status} Odd\r\n".encode() + rest
                found, _, content = _post(server)
                assert found == expected
                assert content == b"{}" if has_body else b'"06"' in content
            output = server.process.text()
    assert "Traceback" not in output


@pytest.mark.parametrize("command", SERVERS)
def test_odd_requests_are_the_senders_mistake(bank, command, tmp_path):
    with _serving(bank, command, tmp_path) as server:
        until(lambda: _ask(server, "GET")[0] == 403)
        odd = [
            _ask(server, "POST"),
            _ask(server, "POST", body=RECEIPT, headers={"X-Hub-Signature-256": "sha256=é"}),
            _post(server, **{"Content-Type": "multipart/form-data; boundary=x"}),
            _post(server, **{"Content-Type": "application/x-www-form-urlencoded; charset=base64"}),
            _post(server, **{"Content-Length": "2"}),
            _ask(server, "GET", query="?" + "a=%ff&" * 500),
        ]
        output = server.process.text()
    assert {status for status, _, _ in odd} <= {200, 400, 401, 403}
    assert len([status for status, _, _ in odd if status == 200]) <= 2  # whose bytes were kept
    assert set(bank.deliveries) <= {RECEIPT}
    assert "Traceback" not in output
