"""One HTTP exchange by requests, held to a deadline and turned into our own errors.

``exchange`` sends one request and reads its response, ``errors`` and ``causes`` translate the
errors of requests and urllib3, ``sessions`` keeps the session of each process, ``deadlines`` bounds
urllib3.
"""

from __future__ import annotations

from .errors import host_and_port
from .exchange import MAX_REPLY_BYTES, Reply, connect_and_read, exchange, http_date
from .sessions import Connection, Connections, new_session

__all__ = [
    "MAX_REPLY_BYTES",
    "Connection",
    "Connections",
    "Reply",
    "connect_and_read",
    "exchange",
    "host_and_port",
    "http_date",
    "new_session",
]
