"""One HTTP exchange by requests, held to a deadline and turned into our own errors.

``exchange`` sends one request and reads its response, ``errors`` and ``causes`` translate the
errors of requests and urllib3, ``sessions`` keeps the session of each process, ``deadlines`` bounds
urllib3, ``tls`` and ``certificates`` load files that change, and ``adapter`` connects with them.
"""

from __future__ import annotations

from .adapter import TransportAdapter
from .errors import host_and_port
from .exchange import MAX_RESPONSE_BYTES, Response, connect_and_read, exchange, http_date
from .sessions import Connection, Connections, new_session
from .tls import TlsFiles

__all__ = [
    "MAX_RESPONSE_BYTES",
    "Connection",
    "Connections",
    "Response",
    "TlsFiles",
    "TransportAdapter",
    "connect_and_read",
    "exchange",
    "host_and_port",
    "http_date",
    "new_session",
]
