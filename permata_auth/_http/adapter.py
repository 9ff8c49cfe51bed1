"""An adapter for requests whose TLS files may change, and which may have a proxy of its own."""

from __future__ import annotations

import queue
from contextlib import suppress
from typing import Any

import requests
from requests.utils import prepend_scheme_if_needed, select_proxy

from .._settings import Unpicklable
from .deadlines import DeadlineAdapter
from .errors import host_and_port
from .sessions import pools_of
from .tls import Tls, TlsFiles


class TransportAdapter(Unpicklable, DeadlineAdapter):
    """Sends by connections that are made with the files of this moment.

    TLS is decided here alone: ``verify`` and ``cert`` of a session or a call take no part. With a
    proxy of its own, neither do ``proxies`` and the environment's.

    Args:
        files: Looked at before each request.
        proxy: Its URL; None: as the session says.
        pool_size: How many connections to one host are kept open at most.
    """

    _why_unpicklable = "it owns network connections; make one in each process"

    def __init__(self, files: TlsFiles, proxy: str | None, pool_size: int) -> None:
        self._files = files
        self._proxies = {"http": proxy, "https": proxy} if proxy else None
        super().__init__(pool_maxsize=pool_size)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self._connections: _Connections | None = None  # a copy for a forked child has its own

    def send(  # noqa: PLR0917 - as that of requests
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        return super().send(
            request, stream=stream, timeout=timeout, proxies=self._proxies or proxies
        )

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, verify: Any, proxies: Any = None, cert: Any = None
    ) -> Any:
        return self._current().pool(request.url or "", proxies)

    def get_connection(self, url: str, proxies: Any = None) -> Any:  # of requests 2.31
        return self._current().pool(url, proxies)

    def cert_verify(self, *args: Any, **kwargs: Any) -> None:
        """Leave the connection as it is: all that requests would add is in the context."""

    def applied(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Return settings of requests as they are once this adapter has put its own in place.

        Args:
            settings: ``proxies``, ``verify``, ``cert`` and others, as a session merges them.
        """
        files, proxies = self._files, self._proxies or settings.get("proxies")
        cert = (files.client_cert, files.client_key) if files.client_key else files.client_cert
        return {**settings, "proxies": proxies, "verify": files.bundle, "cert": cert}

    def _current(self) -> _Connections:
        tls, connections = self._files.current(), self._connections
        if connections is not None and connections.tls is tls:
            return connections
        # Of two threads that come here at once, both make connections with the new files.
        new = self._connections = _Connections(tls, self._pool_maxsize)
        # A session that is closed, or retired in a forked child, looks for its connections here.
        self.poolmanager, self.proxy_manager = new.poolmanager, new.proxy_manager
        if connections is not None:
            connections.close_idle()
        return new


class _Connections(DeadlineAdapter):
    """The connections made with one state of the files.

    Once another state has taken its place, a request that is under way ends as it began, and its
    connection is closed when the last request has let go of the pool.
    """

    def __init__(self, tls: Tls, pool_size: int) -> None:
        self.tls = tls
        super().__init__(pool_maxsize=pool_size)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self.tls.context, **kwargs)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        if proxy not in self.proxy_manager and proxy.lower().startswith("https:"):
            kwargs["proxy_ssl_context"] = self.tls.for_proxy()
        return super().proxy_manager_for(proxy, ssl_context=self.tls.context, **kwargs)

    def pool(self, url: str, proxies: Any) -> Any:
        # Not as requests does: some of its versions put a context of their own in here.
        proxy = select_proxy(url, proxies)
        if not proxy:
            return self.poolmanager.connection_from_url(url)
        proxy = prepend_scheme_if_needed(proxy, "http")
        if not host_and_port(proxy):
            raise requests.exceptions.InvalidProxyURL("the proxy's URL has no host")
        return self.proxy_manager_for(proxy).connection_from_url(url)

    def close_idle(self) -> None:
        # Not close(): a thread that has got its pool, and no connection yet, would find it closed.
        for pool in pools_of(self):
            with suppress(queue.Empty, AttributeError):  # the latter of a pool that is closed
                while True:
                    connection = pool.pool.get(block=False)
                    if connection is not None:
                        connection.close()
