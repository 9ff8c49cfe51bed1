"""What sessions of the caller's own, forks, greenlets and test doubles may not change."""

from __future__ import annotations

import socket
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import requests
import urllib3
from requests.adapters import HTTPAdapter
from support.clients import credentials
from support.scripts import run
from support.wire import RawServer, always, read_request, reply

import permata_auth
from permata_auth import (
    ConfigurationError,
    LoginClient,
    LoginHandler,
    PermataAuth,
    RequestTimeoutError,
    RetryPolicy,
    TokenEndpointUnavailableError,
    TransportError,
    _clock,
)
from permata_auth._http import exchange, new_session

SLACK = 20.0


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def login(server, session=None, **policy):
    policy = {"attempts": 1, "wait_initial": 0, "wait_max": 0, **policy}
    scheme = credentials(token_url=server.token_url)
    with LoginClient(scheme, retry=RetryPolicy(**policy), session=session) as client:
        return client.login()


def counting(answers):
    """Return (handler, requests): the answers in turn, the last one again and again."""
    seen, left = [], list(answers)

    def handle(sock):
        while (request := read_request(sock)) is not None:
            seen.append(request)
            sock.sendall(left.pop(0) if len(left) > 1 else left[0])

    return handle, seen


RETRIES = {
    "all": {"total": 5, "allowed_methods": None, "status_forcelist": [429, 503]},
    "statuses that raise": {
        "total": 2,
        "allowed_methods": None,
        "status_forcelist": [503],
        "raise_on_status": True,
    },
    "Retry-After": {"total": 5, "allowed_methods": None},
    "a bare number": 4,
}


@pytest.mark.parametrize("kind", RETRIES)
@pytest.mark.parametrize("attempts", [1, 3])
def test_a_session_with_retries_sends_one_request_an_attempt(kind, attempts):
    wanted = RETRIES[kind]
    retries = wanted if isinstance(wanted, int) else urllib3.Retry(backoff_factor=9, **wanted)
    handle, seen = counting([reply({}, status="503 x", head="Retry-After: 0")])
    with RawServer(handle) as server, requests.Session() as given:
        adapter = HTTPAdapter(max_retries=retries)
        given.mount("http://", adapter)
        with pytest.raises(TokenEndpointUnavailableError):
            login(server, given, attempts=attempts)
        assert len(seen) == attempts
        assert len(set(seen)) == attempts, "each one signed anew"
        assert adapter.max_retries is retries or adapter.max_retries.total == retries


def test_a_session_with_retries_sends_a_broken_request_once():
    seen = []

    def handle(sock):
        seen.append(read_request(sock))  # and closes

    with RawServer(handle) as server, requests.Session() as given:
        given.mount("http://", HTTPAdapter(max_retries=urllib3.Retry(3, allowed_methods=None)))
        with pytest.raises(TransportError):
            login(server, given)
        assert len(seen) == 1


@pytest.mark.parametrize("where", ["adapter", "session"])
def test_a_loop_of_the_callers_own_is_refused_before_it_replays(where):
    class Loop:
        def send(self, *args, **kwargs):
            for _ in range(3):
                response = super().send(*args, **kwargs)
                if response.status_code != 503:
                    break
            return response

    class Looping(Loop, HTTPAdapter):
        pass

    class LoopingSession(Loop, requests.Session):
        pass

    handle, seen = counting([reply({}, status="503 x")])
    session = LoopingSession() if where == "session" else requests.Session()
    with RawServer(handle) as server, session as given:
        if where == "adapter":
            given.mount("http://", Looping())
        with pytest.raises(ConfigurationError, match="sends a request again by itself") as caught:
            login(server, given, attempts=3)
        assert len(seen) == 1
        assert caught.value.__cause__ is caught.value.__context__ is None


def test_hooks_of_a_session_do_not_see_our_exchanges():
    def raise_for_status(response, **kwargs):
        response.raise_for_status()

    handle, seen = counting([reply({"error": "invalid_client"}, status="401 x")])
    with RawServer(handle) as server, requests.Session() as given:
        given.hooks["response"].append(raise_for_status)
        with pytest.raises(permata_auth.InvalidClientError):
            login(server, given, attempts=3)
        assert len(seen) == 1
        assert given.hooks["response"] == [raise_for_status]


@pytest.mark.parametrize("kind", ["own", "given"])
def test_no_cookie_of_the_bank_is_kept(kind):
    handle, seen = counting([reply({}, status="503 x", head="Set-Cookie: node=dead"), reply()])
    with RawServer(handle) as server, requests.Session() as given:
        given.cookies.set("example", "of-the-caller")
        login(server, given if kind == "given" else None, attempts=2)
        assert len(seen) == 2
        assert not any(b"node=dead" in request for request in seen)
        assert all((b"of-the-caller" in request) is (kind == "given") for request in seen)
        assert dict(given.cookies) == {"example": "of-the-caller"}


@pytest.mark.parametrize("location", ["http://[bad", "::", "https://x.invalid/" + "x" * 70_000])
def test_where_a_redirect_leads_is_not_even_looked_at(location):
    handle, seen = counting([reply(b"", status="302 x", head=f"Location: {location[:60_000]}")])
    with RawServer(handle) as server, pytest.raises(permata_auth.TokenEndpointError) as caught:
        login(server)
    assert caught.value.status_code == 302
    assert len(seen) == 1


def test_parameters_of_a_session_do_not_change_the_url():
    handle, seen = counting([reply()])
    with RawServer(handle) as server, requests.Session() as given:
        given.params = {"q": "1"}
        login(server, given)
    assert seen[0].startswith(b"POST /apiservice/oauth/token HTTP/1.1")


@pytest.mark.parametrize(
    ("agent", "sent"),
    [(None, f"permata-auth/{permata_auth.__version__}"), ("example-agent/1", "example-agent/1")],
)
@pytest.mark.parametrize("kind", ["own", "given"])
def test_the_user_agent_is_ours_unless_the_session_has_its_own(kind, agent, sent):
    handle, seen = counting([reply()])
    with RawServer(handle) as server, requests.Session() as given:
        if agent and kind == "own":
            pytest.skip("a session of ours has no other")
        if agent:
            given.headers["User-Agent"] = agent
        login(server, given if kind == "given" else None)
    assert f"\r\nUser-Agent: {sent}\r\n".encode() in seen[0]


# Interim responses.

INTERIM = {
    "processing": b"HTTP/1.1 102 Processing\r\n\r\n",
    "hints": b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\nSet-Cookie: a=b\r\n\r\n",
    "several": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 x\r\n\r\nHTTP/1.1 103 x\r\nA: b\r\n\r\n"
    * 3,
    "unknown": b"HTTP/1.1 199 Whatever\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n",
}


@pytest.mark.parametrize("interim", INTERIM.values(), ids=list(INTERIM))
def test_interim_responses_are_skipped(interim):
    handle, _ = counting([interim + reply()])
    with (
        RawServer(handle) as server,
        LoginClient(credentials(token_url=server.token_url)) as client,
    ):
        for _ in range(2):
            assert client.login().value == "example-raw-token"
        assert server.connections == 1


def test_an_interim_response_of_a_given_session_is_no_response_and_ends_the_connection():
    handle, _ = counting([INTERIM["hints"] + reply({"access_token": "late", "expires_in": 9})])
    with RawServer(handle) as server, requests.Session() as given:
        for _ in range(2):
            with pytest.raises(TransportError, match=r"interim response \(HTTP 103\)"):
                login(server, given)
        assert server.connections == 2, "else the second would read the response to the first"


def test_endless_interim_responses_end_at_the_deadline():
    def handle(sock):
        read_request(sock)
        while server.wait(0.01):
            sock.sendall(INTERIM["hints"])

    with RawServer(handle) as server, pytest.raises(RequestTimeoutError):
        login(server, timeout=0.5)


# Addresses.


@contextmanager
def blackholes(count):
    """Give addresses of loopback that drop every connection: their queues are full."""
    with ExitStack() as stack:
        port = 0
        addresses = [f"127.0.0.{number}" for number in range(10, 10 + count)]
        for address in addresses:
            listening = stack.enter_context(socket.create_server((address, port), backlog=0))
            port = listening.getsockname()[1]
            for _ in range(4):
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                with suppress(BlockingIOError):
                    filler.connect((address, port))
        yield addresses, port


def resolve(monkeypatch, host, addresses):
    original = socket.getaddrinfo

    def getaddrinfo(name, port, *args, **kwargs):
        if name != host:
            return original(name, port, *args, **kwargs)
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


linux = pytest.mark.skipif(sys.platform != "linux", reason="all of 127/8 is loopback")


def post(session, url, *, within, connect=5.0):
    return exchange(
        session,
        "POST",
        url,
        headers={},
        body=b"",
        timeout=(connect, 5.0),
        deadline=_clock.now() + within,
    )


@linux
@pytest.mark.parametrize(("connect", "within"), [(1.0, 60.0), (60.0, 1.0)])
def test_many_dead_addresses_take_one_connect_timeout_together(monkeypatch, connect, within):
    with blackholes(30) as (addresses, port), new_session(1) as session:
        resolve(monkeypatch, "bank.example", addresses)
        began = time.monotonic()
        with pytest.raises(RequestTimeoutError, match="connecting took too long"):
            post(session, f"http://bank.example:{port}/", within=within, connect=connect)
        assert time.monotonic() - began < min(connect, within) + SLACK < 30, "one after the other"


@linux
def test_a_dead_address_leaves_time_for_the_next(monkeypatch):
    with blackholes(1) as (addresses, port), new_session(1) as session, ExitStack() as stack:
        server = stack.enter_context(RawServer(always(reply(b"fine"))))
        resolve(monkeypatch, "bank.example", [*addresses, "127.0.0.1"])
        original = socket.socket.connect

        def connect(sock, address):
            return original(sock, (address[0], server.port if address[0] == "127.0.0.1" else port))

        monkeypatch.setattr(socket.socket, "connect", connect)
        answer = post(session, f"http://bank.example:{port}/", within=60, connect=8.0)
    assert answer.body == b"fine"


def test_a_call_of_the_callers_own_may_have_no_timeout():
    with RawServer(always(reply(b"fine"))) as server, new_session(1) as session:
        assert session.get(server.url).content == b"fine"


def test_a_server_that_does_not_read_is_held_to_the_deadline():
    with RawServer(lambda sock: server.wait(60)) as server, new_session(1) as session:
        began = time.monotonic()
        with pytest.raises(RequestTimeoutError):
            exchange(
                session,
                "POST",
                server.url,
                headers={},
                body=b"x" * 50_000_000,
                timeout=(60.0, 60.0),
                deadline=_clock.now() + 0.5,
            )
        assert time.monotonic() - began < 0.5 + SLACK


# Greenlets.

GREENLETS = """
    import sys, time
    from permata_auth import _clock, exceptions
    from permata_auth._http import exchange, new_session
    import warnings
    warnings.simplefilter("ignore")  # that it comes late
    from gevent import monkey
    monkey.patch_all()
    import gevent

    slow, quick = sys.argv[1:]

    def post(url, within):
        with new_session(2) as session:
            return exchange(session, "POST", url, headers={}, body=b"", timeout=(9, 9),
                            deadline=_clock.now() + within).body

    def hasty():
        try:
            post(slow, 0.3)
        except exceptions.RequestTimeoutError:
            return "late"

    patient = [gevent.spawn(post, quick, 30) for _ in range(3)]
    gevent.sleep(0.05)
    others = [gevent.spawn(hasty) for _ in range(3)]
    gevent.joinall(patient + others, raise_error=True)
    print([each.value for each in patient], [each.value for each in others])
"""


def test_deadlines_of_greenlets_do_not_mix_though_gevent_came_late():
    pytest.importorskip("gevent")

    def late(sock):
        read_request(sock)
        server.wait(1.0)
        sock.sendall(reply(b"fine"))

    def never(sock):
        read_request(sock)
        other.wait(60)

    with RawServer(late) as server, RawServer(never) as other:
        ended = run(GREENLETS, other.url, server.url)
    assert "[b'fine', b'fine', b'fine'] ['late', 'late', 'late']" in ended.out, ended.err


# Forks.

GENERATIONS = """
    import gc, os, sys
    from permata_auth import LoginClient, PermataCredentials
    from permata_auth._http import sessions

    url, bundle, generations = sys.argv[1], sys.argv[2], int(sys.argv[3])
    os.environ["REQUESTS_CA_BUNDLE"] = bundle
    client = LoginClient(PermataCredentials(token_url=url, api_key="a", client_id="b",
                                            client_secret="c", static_key="d"))

    def files():
        return len(os.listdir("/proc/self/fd"))

    client.login()
    first = files()
    for generation in range(generations):
        child = os.fork()
        if child:
            _, status = os.waitpid(child, 0)
            # The parent's own connection was neither closed nor spoken on by the child.
            client.login()
            os._exit(os.waitstatus_to_exitcode(status))
        client.login()
        gc.collect()
        assert files() <= first, (generation, files(), first)
        assert len(client._connections._processes._values) == 1
        assert len(sessions._retired) <= 4
    os._exit(7)
"""


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files in /proc")
def test_a_chain_of_forks_leaves_bounded_tables_and_files(tmp_path):
    from support.certificates import Authority

    authority = Authority(tmp_path)
    with RawServer(always(reply()), context=authority.context()) as server:
        ended = run(GENERATIONS, server.token_url, str(authority.bundle), "61")
        assert (ended.status, ended.err) == (7, "")
        assert server.connections == 62, "one each, which its children leave alone"


INHERITED_LOCK = """
    import os, sys, threading
    from permata_auth import LoginClient, PermataCredentials
    from permata_auth._http import sessions

    client = LoginClient(PermataCredentials(token_url=sys.argv[1], api_key="a", client_id="b",
                                            client_secret="c", static_key="d"))
    client.login()
    (pool,) = sessions._pools(client._connections.get().session)
    held = threading.Event()

    def hold():
        with pool.pool.mutex, client._connections.get().session.adapters["http://"].poolmanager.pools.lock:
            held.set()
            threading.Event().wait()

    threading.Thread(target=hold, daemon=True).start()
    held.wait()
    child = os.fork()
    if child == 0:
        for _ in range(2):
            client.login()
        sys.exit(7)  # with the interpreter's own finalisation
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_lock_of_urllib3_held_at_the_fork_stops_no_child():
    with RawServer(always(reply())) as server:
        assert run(INHERITED_LOCK, server.token_url).status == 7


# Test doubles of other libraries.

URL = "https://bank.invalid/apiservice/oauth/token"
TOKEN = {"access_token": "example-doubled-token", "expires_in": 900}


def test_responses_stands_in_while_it_is_active():
    responses = pytest.importorskip("responses")
    with LoginClient(credentials(token_url=URL)) as client:
        with responses.RequestsMock() as double:
            double.post(URL, json=TOKEN, headers={"Set-Cookie": "a=b"})
            assert client.login().value == TOKEN["access_token"]
            assert double.calls[0].request.headers["OAUTH-Signature"]
        assert dict(client._connections.get().session.cookies) == {}


def test_requests_mock_stands_in_while_it_is_active():
    requests_mock = pytest.importorskip("requests_mock")
    with RawServer(always(reply())) as server:  # noqa: SIM117 - the last one ends first
        with LoginClient(credentials(token_url=server.token_url)) as client:
            with requests_mock.Mocker() as double:
                double.post(server.token_url, json=TOKEN)
                assert client.login().value == TOKEN["access_token"]
            assert client.login().value == "example-raw-token"


def test_a_cassette_of_vcrpy_binds_no_later_login(tmp_path):
    vcr = pytest.importorskip("vcr")
    cassette = str(tmp_path / "cassette.yaml")
    with RawServer(always(reply())) as server:
        scheme = credentials(token_url=server.token_url)
        with LoginClient(scheme) as before:
            with vcr.use_cassette(cassette):
                assert before.login().value == "example-raw-token"
            recorded = server.connections
            with LoginClient(scheme) as during:
                with vcr.use_cassette(cassette, record_mode="none", allow_playback_repeats=True):
                    for client in (before, during):
                        assert client.login().value == "example-raw-token"
                assert server.connections == recorded
                during.login()
            before.login()
            assert server.connections == recorded + 2


def test_a_socket_without_a_timeout_attribute_will_do(monkeypatch):
    """As those of mocket, whose ``timeout`` is a method."""

    class Odd(socket.socket):
        timeout = None

        def __getattribute__(self, name):
            if name == "timeout":
                return lambda: None
            return super().__getattribute__(name)

    with RawServer(always(reply(b"fine"))) as server, new_session(1) as session:
        monkeypatch.setattr(socket, "socket", Odd)
        assert post(session, server.url, within=5).body == b"fine"
        session.close()


def test_adapters_of_requests_mock_serve_the_login_after_a_rejected_token():
    """Its Mocker cannot: it lets one thread send at a time, and that login has its own thread."""
    requests_mock = pytest.importorskip("requests_mock")
    call = "https://bank.invalid/apiservice/x/inq"
    adapter = requests_mock.Adapter()
    tokens = [{"json": TOKEN | {"access_token": f"example-mocked-{n}"}} for n in range(2)]
    adapter.register_uri("POST", URL, tokens)
    rejection = {"ErrorCode": "403", "ErrorDescription": "Failed Authentication OAuth2"}
    adapter.register_uri("GET", call, [{"status_code": 403, "json": rejection}, {"json": {}}])
    with requests.Session() as logins, requests.Session() as session:
        for each in (logins, session):
            each.mount("https://", adapter)
        scheme = credentials(token_url=URL)
        client = LoginClient(scheme, session=logins)
        with LoginHandler(scheme, client=client, background=False) as handler:
            session.auth = PermataAuth(handler)
            assert session.get(call).status_code == 200
            assert handler.get_token() == "example-mocked-1"
        client.close()
