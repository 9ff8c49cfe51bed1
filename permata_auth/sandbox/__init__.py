"""A bank on this machine: as strict as the real one, and able to fail in every way on demand.

::

    with Sandbox(token_lifetime=2.0) as bank:
        handler = LoginHandler(bank.credentials())
        bank.fail_next(3, status=503, retry_after=1, on="token")
        handler.get_token()
        assert bank.logins == 1

It checks Basic auth, API key, timestamp freshness, bearer, organization name and each signature
over the bytes it received, with code of its own that it shares with no client. It answers the token
endpoint, ``/apiservice/wa/callbackstatus`` and, with an echo, every other path under
``/apiservice/``. It needs the extra ``sandbox``.

Its SNAP BI side, ``bank.snap_credentials()``, is below ``bank.snap_url`` (``/snap``): a token
endpoint, ``balance-inquiry``, ``transfer-intrabank``, ``transfer/status`` and, with an echo, every
other service of the standard. It verifies RSA and HMAC-SHA512 signatures, timestamps, headers and
external ids, and shares account, counters and faults with the classic side. Banks differ by their
``SnapRules``: ``Sandbox(snap_rules=SnapRules(signed_prefix="/"))``.

In the other direction the bank calls a merchant, with wrong forms on demand
(:mod:`permata_auth.sandbox.snap.wrong` lists them); ``bank.merchant_environment()`` has the
merchant's settings::

    response = bank.call_merchant("http://127.0.0.1:8000", 24, {"customerNo": "0812"})
    stale = bank.call_merchant("http://127.0.0.1:8000", 24, {}, "stale", seconds=400)
    assert (stale.status, stale.response_code) == (401, "4012400")

The keys and secrets of both are made up, public, and good for this bank alone.

Faults (``fail_next``, ``fail_for``) and their arguments:

===========  ====================================================================================
status       ``status=503, retry_after=None, body=None, content_type=None``
clock        403 ``Invalid Timestamp Value``, on the SNAP side 401 ``Unauthorized. [Timestamp]``
redirect     ``location, status=307``
drop         close without a byte
reset        TCP reset ``at="start"``, amid the ``"headers"`` or amid the ``"body"``
slow         ``seconds`` before the first byte
drip         ``interval=0.1, part="body"``: one byte at a time; ``part="headers"``: all of it
headers      ``fields={"Date": None, "Age": "120"}`` in place of its own; None leaves one out
truncated    half of the body that Content-Length announced
huge         ``bytes=100 MiB``, streamed
gzip_bomb    ``bytes=100 MiB`` once unpacked
html         a 200 with a page
empty        ``status=200`` and no body
json         ``body`` (any JSON value), ``raw`` (text sent as it is), or the honest reply with
             ``json_fields={…}`` replaced and ``drop_fields=(…)`` left out; ``status=200``
wrong_type   the same under another name
encoding     ``encoding="latin-1", charset="utf-8"``: one is used, the other declared
===========  ====================================================================================

``status``, ``clock``, ``redirect``, ``drop``, ``reset`` at the start, ``huge``, ``gzip_bomb``,
``html``, ``empty`` and ``json`` with ``body`` or ``raw`` replace the bank's work: no token is
issued, nothing is delivered. The others do the work and spoil the reply.

Rules for the pace of logins, to be set at any time:

=======================  ========================================================================
lock_after, lock_window  so many refused logins within so many seconds lock the account: 401
                         ``account locked``, also to right credentials, until ``unlock()``
login_limit,             so many logins within so many seconds; those beyond get a 429 whose
login_limit_window       ``Retry-After`` is the seconds that are left
reject_tokens            every call is answered "token rejected", with a fresh token too; for a
                         while: ``reject_tokens_for(seconds)``
=======================  ========================================================================

``rotate(client_secret="…")`` changes credentials, as the bank does: ``credentials()`` and
``environment()`` have the new ones. With ``overlap=True`` the old ones are good too, until
``rotate()``.

The counters count everything. ``requests``, ``deliveries`` and ``tokens_issued`` have the last
10,000 records of their kind and at most 16 MiB (``max_records``, ``max_record_bytes``).

Other processes drive the bank with JSON over HTTP, unless ``admin=False``:

=======================  ========================================================================
POST faults              ``{"fault": "status", "n": 1, "on": "any", "arguments": {…}}``; with
                         ``"seconds"`` instead of ``"n"``: for a while
DELETE faults            forget all faults, release all gates
GET counters             logins, login_attempts, refused_logins, limited_logins, replays,
                         deliveries, calls (by status), rejected_calls, duplicates, transfers;
                         is_locked
DELETE counters          ``reset_counters()``
GET requests             the requests, each with its response; credentials and bodies masked
GET deliveries           the bodies accepted by the callback status endpoint
GET or POST settings     ``{"token_lifetime": 2.0, "snap_rules": {"signed_prefix": "/"}, …}``
POST revoke              ``{"token": "…"}``, or ``{}`` for all
POST reject              ``{"seconds": 3}``: ``reject_tokens_for(3)``
POST rotate              ``{"client_secret": "…", "overlap": true}``: ``rotate(…)``
POST unlock              ``unlock()``
=======================  ========================================================================

All of these are below ``bank.admin_url`` (``/__sandbox__/``). Anyone who reaches the port may use
them, which is why the bank listens on loopback unless told otherwise.
"""

from __future__ import annotations

try:
    import cryptography as _cryptography
    import werkzeug as _werkzeug
except ModuleNotFoundError as _error:
    raise ImportError(
        "permata_auth.sandbox needs Werkzeug and cryptography: pip install 'permata-auth[sandbox]'"
    ) from _error

from .fault_book import Gate
from .messages import IssuedToken, RecordedRequest
from .server import Sandbox
from .snap.checks import SnapRules
from .snap.merchant import MerchantResponse

__all__ = ["Gate", "IssuedToken", "MerchantResponse", "RecordedRequest", "Sandbox", "SnapRules"]

del _cryptography, _werkzeug
