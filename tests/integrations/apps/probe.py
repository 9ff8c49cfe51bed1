"""Says in each response's headers who answered, and with which token."""

from __future__ import annotations

import os


def probed(application, get_handler):
    def wsgi(environ, start_response):
        def start(status, headers, exc_info=None):
            token = get_handler().info().fingerprint or "-"
            who = [("X-Pid", str(os.getpid())), ("X-Token", token)]
            return start_response(status, [*headers, *who], exc_info)

        return application(environ, start)

    return wsgi
