from __future__ import annotations

import os
import sys
import time

import requests
import urllib3
from celery.signals import task_retry
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


@task_retry.connect
def _note_wait(sender, request, reason, **_):
    sender.app.backend.client.rpush(f"waits:{request.id}", reason.when)


def _note_attempt(task):
    return task.app.backend.client.rpush(f"attempts:{task.request.id}", time.time())


@app.task(base=PermataTask, bind=True, retry_backoff=False, default_retry_delay=0)
def post(self, url, then=None, how=None):
    """Call ``url``; from the second attempt on ``then``, if there is one."""
    attempts = _note_attempt(self)
    how = how or {}
    if "timeout" in how:
        how["timeout"] = tuple(how["timeout"])
    reply = permata.session.post(then if then and attempts > 1 else url, json={}, **how)
    return [attempts, reply.status_code]


@app.task(base=PermataTask, bind=True, retry_backoff=False, default_retry_delay=0)
def post_with_retries_of_urllib3(self, url):
    _note_attempt(self)
    session = requests.Session()
    retry = urllib3.Retry(3, allowed_methods=None, backoff_factor=0)
    session.mount("http://", requests.adapters.HTTPAdapter(max_retries=retry))
    session.post(url)


@app.task(base=PermataTask, bind=True, retry_sent=True, retry_backoff=False, default_retry_delay=0)
def post_twice_if_need_be(self, url):
    attempts = _note_attempt(self)
    reply = permata.session.post(url, json={}, timeout=2)
    reply.raise_for_status()
    return [attempts, reply.status_code]


@app.task(base=PermataTask, bind=True, default_retry_delay=77)
def retry_by_hand(self, retry_after, countdown=None, how="exc"):
    _note_attempt(self)
    options = {} if countdown is None else {"countdown": countdown}
    try:
        raise TokenEndpointUnavailableError("the bank is down", retry_after=retry_after)
    except TokenEndpointUnavailableError as error:
        if how == "positional":
            raise self.retry(None, None, error, **options) from error
        raise self.retry(**options, **({"exc": error} if how == "exc" else {})) from error


@app.task(base=PermataTask, bind=True, soft_time_limit=2)
def wait_for_the_bank(self):
    _note_attempt(self)
    permata.session.post(BALANCE_URL, json={})


@app.task(base=PermataTask)
def login(_):
    permata.handler.refresh()
