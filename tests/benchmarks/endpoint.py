"""A plain OAuth 2.0 token endpoint in a process of its own, the same for every contestant.

It checks nothing: a login costs ``latency`` and nothing else. While it is ``down``, each request
is counted and meets ``"503"``, ``"slow 503"`` (after ``latency``) or a connection ``"closed"``.
"""

from __future__ import annotations

import http.client
import itertools
import json
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Endpoint:
    """Start the endpoint, or reach one that another process has started at ``port``."""

    def __init__(self, port: int | None = None, **settings: object) -> None:
        self._process = None
        if port is None:
            command = [sys.executable, "-E", __file__]
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            port = int(self._process.stdout.readline())
        self.port = port
        self.url = f"http://127.0.0.1:{port}/token"
        self.set(**settings)

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def set(self, **settings: object) -> None:
        """``latency``, ``lifetime``, ``refresh_in`` in seconds; ``down``, empty while it is up."""
        self._call("POST", json.dumps(settings))

    @property
    def logins(self) -> int:
        """Tokens handed out so far."""
        return self._call("GET")["logins"]

    @property
    def attempts(self) -> int:
        """Token requests received so far, the refused ones included."""
        return self._call("GET")["attempts"]

    def _call(self, method: str, body: str | None = None) -> dict:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, "/control", body)
            return json.load(connection.getresponse())
        finally:
            connection.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one segment, or the client's delayed ACK costs 40 ms
    disable_nagle_algorithm = True

    def log_message(self, *args: object) -> None:
        pass

    def _send(self, status: int, document: dict) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        state = self.server.state
        if self.path == "/control":
            self._send(200, state)
        else:  # OpenID discovery, which msal and azure-identity do
            issuer = f"https://{self.headers['Host']}/tenant"
            token, login = f"{issuer}/token", f"{issuer}/authorize"
            document = {"issuer": issuer, "token_endpoint": token, "authorization_endpoint": login}
            self._send(200, document)

    def do_POST(self) -> None:
        state, body = self.server.state, self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/control":
            state.update(json.loads(body))
            return self._send(200, {})
        with self.server.lock:
            state["attempts"] += 1
        down = state["down"]
        if down == "closed":
            self.close_connection = True
            return None
        if down != "503":
            time.sleep(state["latency"])
        if down:
            return self._send(503, {"error": "temporarily_unavailable"})
        with self.server.lock:
            state["logins"] += 1
        grant = {
            "access_token": f"example-token-{next(self.server.serial)}",
            "token_type": "Bearer",
            "expires_in": state["lifetime"],
        }
        if state["refresh_in"]:
            grant["refresh_in"] = state["refresh_in"]
        return self._send(200, grant)


class _Server(ThreadingHTTPServer):
    request_queue_size = 1024
    daemon_threads = True
    lock = threading.Lock()
    serial = itertools.count(1)

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a contestant that ends in mid-request is part of the measurement


def _serve() -> None:
    server = _Server(("127.0.0.1", 0), _Handler)
    server.state = {
        "logins": 0, "attempts": 0, "latency": 0.0, "lifetime": 3600, "refresh_in": 0, "down": "",
    }  # fmt: skip
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    _serve()
