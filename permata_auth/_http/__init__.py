"""One HTTP exchange by requests, held to a deadline and turned into our own errors.

``exchange`` sends one request and reads its response, ``errors`` says what went wrong and how to
mend it, ``sessions`` holds what each process sends through, ``deadlines`` bounds urllib3.
``tls`` and ``certificates`` read files that change, ``adapter`` connects with them.
"""

from __future__ import annotations

from .adapter import TransportAdapter
from .errors import host_and_port
from .exchange import MAX_REPLY_BYTES, Reply, connect_and_read, exchange, http_date
from .sessions import Connection, Connections, new_session
from .tls import TlsFiles

__all__ = [
    "MAX_REPLY_BYTES",
    "Connection",
    "Connections",
    "Reply",
    "TlsFiles",
    "TransportAdapter",
    "connect_and_read",
    "exchange",
    "host_and_port",
    "http_date",
    "new_session",
]
