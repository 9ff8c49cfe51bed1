from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def redis_servers():
    """Start each server program once: ``redis_servers("valkey")``."""
    pytest.importorskip("redis")
    from support.redis_server import RedisServer, servers

    started: dict[str, RedisServer] = {}

    def start(name: str) -> RedisServer:
        if name not in servers():
            pytest.skip(f"no {name} server")
        if name not in started:
            started[name] = RedisServer(servers()[name]).come_up()
        return started[name]

    yield start
    for server in started.values():
        server.close()


@pytest.fixture(params=["redis", "valkey"])
def redis_server(request, redis_servers):
    """A running server without data, of each kind there is."""
    server = redis_servers(request.param)
    with server.client() as client:
        client.flushall()
    return server
