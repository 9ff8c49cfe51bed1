from __future__ import annotations

import os
import sys
import time

from celery_app import BALANCE_URL, app, permata

from permata_auth import LoginHandler
from permata_auth.exceptions import InvalidClientError, TokenEndpointUnavailableError
from permata_auth.integrations.celery import PermataTask

app.conf.update(
    broker_connection_retry_on_startup=True,
    task_serializer=os.environ.get("PROBE_SERIALIZER", "json"),
    result_serializer=os.environ.get("PROBE_SERIALIZER", "json"),
    accept_content=["json", "pickle"],
    worker_prefetch_multiplier=1,
)

_shutdown = LoginHandler.shutdown


def timed_shutdown(handler, timeout=5.0):
    began = time.monotonic()
    _shutdown(handler, timeout)
    print(f"handler shut down in {time.monotonic() - began:.3f} s", file=sys.__stderr__, flush=True)


LoginHandler.shutdown = timed_shutdown


@app.task(base=PermataTask)
def who():
    """Call the bank; say which process did, with which token."""
    reply = permata.session.post(BALANCE_URL, json={})
    time.sleep(0.02)  # so that no child of the pool does all the work
    return [os.getpid(), permata.handler.info().fingerprint, reply.status_code]


@app.task(base=PermataTask, bind=True)
def unavailable(self, until, retry_after):
    """Fail as a login does until the given attempt; return when each attempt began."""
    self.app.backend.client.rpush(f"began:{self.request.id}", time.time())
    if self.request.retries < until:
        raise TokenEndpointUnavailableError(
            "the bank is down", status_code=503, retry_after=retry_after
        )
    return [float(at) for at in self.app.backend.client.lrange(f"began:{self.request.id}", 0, -1)]


@app.task(base=PermataTask, bind=True)
def refused(self):
    raise InvalidClientError(
        f"refused at attempt {self.request.retries + 1}", status_code=401, error="invalid_client"
    )
