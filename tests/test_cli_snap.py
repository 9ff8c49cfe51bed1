"""The SNAP side on the command line: its environment, and the bank that calls a merchant."""

from __future__ import annotations

import http.server
import json
import shlex
import threading

import pytest

pytest.importorskip("click")

from click.testing import CliRunner
from support.scripts import Script

from permata_auth.cli import cli

RUN = "from permata_auth.__main__ import run; raise SystemExit(run())"


class Merchant(http.server.ThreadingHTTPServer):
    """A merchant that gives tokens, and answers calls as ``status`` says."""

    status = 200

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen = []
        self.url = f"http://127.0.0.1:{self.server_port}"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self):
        self.shutdown()
        self._thread.join(10)
        self.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, dict(self.headers), body))
        is_token = self.path.endswith("b2b")
        document = {"accessToken": "example-token"} if is_token else {"responseCode": "2002400"}
        payload = json.dumps(document).encode()
        self.send_response(200 if is_token else self.server.status)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_):
        pass


@pytest.fixture
def merchant():
    merchant = Merchant()
    yield merchant
    merchant.close()


def invoke(*args, **options):
    return CliRunner().invoke(cli, args, **options)


def test_the_sandbox_prints_the_environment_of_its_snap_side():
    with Script(RUN, "sandbox", "--scheme", "snap") as script:
        lines = [script.line()]
        while not lines[-1].startswith("export PERMATA_SNAP_INBOUND_SIGNATURE"):
            assert lines[-1], lines
            lines.append(script.line())
    names = dict(shlex.split(line)[1].split("=", 1) for line in lines)
    assert names["PERMATA_SCHEME"] == "snap"
    assert names["PERMATA_SNAP_TOKEN_URL"].endswith("/snap/v1.0/access-token/b2b")
    assert names["PERMATA_SNAP_PRIVATE_KEY"].startswith("-----BEGIN PRIVATE KEY-----\\n")
    assert names["PERMATA_SNAP_BANK_PUBLIC_KEY"].startswith("-----BEGIN PUBLIC KEY-----\\n")
    assert all(name.startswith("PERMATA_S") for name in names)


def test_a_merchant_is_called(merchant):
    result = invoke("snap-call", merchant.url, "24", '{"a": 1}', "--external-id", "7")
    assert (result.exit_code, result.stdout) == (0, '{"responseCode": "2002400"}\n')
    assert result.stderr == "HTTP 200, X-EXTERNAL-ID 7\n"
    (_, called) = merchant.seen
    assert (called[0], called[2]) == ("/v1.0/transfer-va/inquiry", b'{"a": 1}')


def test_a_fault_has_arguments(merchant):
    arguments = ["--fault", "header", "--with", "name=CHANNEL-ID", "--with", "value=x"]
    result = invoke("snap-call", merchant.url, "24", "--token", "example-token", *arguments)
    assert result.exit_code == 0
    ((_, headers, body),) = merchant.seen
    assert (headers["CHANNEL-ID"], body) == ("x", b"{}")
    result = invoke("snap-call", merchant.url, "73", "--fault", "stale", "--with", "seconds=400")
    assert (result.exit_code, result.stderr) == (0, "HTTP 200\n")


def test_a_refusal_is_printed_and_ends_with_1(merchant):
    merchant.status = 404
    result = invoke("snap-call", merchant.url, "/own", "--token", "example-token")
    assert result.exit_code == 1
    assert result.stdout == '{"responseCode": "2002400"}\n'
    assert result.stderr.startswith("HTTP 404, X-EXTERNAL-ID ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nowhere"],
        ["--fault", "nonsense"],
        ["--with", "x"],
        ["--with", "x=1"],
        ["--fault", "stale", "--with", "x=1"],
    ],
)
def test_a_wrong_command_line_calls_nobody(merchant, arguments):
    if arguments == ["nowhere"]:
        result = invoke("snap-call", merchant.url, "nowhere")
    else:
        result = invoke("snap-call", merchant.url, "24", *arguments)
    assert result.exit_code == 2
    assert merchant.seen == []


def test_no_merchant_is_a_temporary_failure(merchant):
    merchant.close()
    result = invoke("snap-call", merchant.url, "24")
    assert result.exit_code == 75
    assert "the merchant did not answer" in result.stderr
