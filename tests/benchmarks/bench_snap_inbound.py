"""What verifying the bank costs in SNAP: a call of 2 KiB, and a request for a token.

Run it as a script: ``python tests/benchmarks/bench_snap_inbound.py``. Each is timed in turns with
the bare cryptography, so that whatever else the machine does meets both; the ratio is that of the
medians. Bare is each step that no verification can do without: the MAC of the token, the signature
out of its base64, the hash of the body, the HMAC, and comparisons in constant time. The library
keys its HMACs once, and knows a token again that it has seen: this is where a part of its own work
comes back. The merchant's function is left out, and with it its thread; ``process`` has them, with
an answer in JSON, an id in memory and a log record that nobody reads.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import itertools
import json
import statistics
import time
import timeit
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

from permata_auth.snap_inbound import SnapReceiver, checks
from permata_auth.snap_inbound.inbound import Inbound

ROUNDS = 400
CALLS = 20
CLIENT_KEY = "example-client"
SECRET = b"example-client-secret"
TOKEN_KEY = b"example-token-key"
PATH, TOKEN_PATH = "/v1.0/qr/qr-mpm-notify", "/v1.0/access-token/b2b"
#: Without whitespace, and with spaces in its strings: to see that these are none of JSON's takes
#: a look at every byte.
BODY = json.dumps({"items": ["a-name-of-24-characters!"] * 76}, separators=(",", ":")).encode()
SPACED = BODY.replace(b"-", b" ")
GRANT = b'{"grantType":"client_credentials"}'
RSA = (padding.PKCS1v15(), hashes.SHA256())
_VECTORS = Path(__file__).parents[1] / "vectors/snap.json"
KEY = serialization.load_der_private_key(
    base64.b64decode(json.loads(_VECTORS.read_text())["private_key"]), None
)
PUBLIC_KEY = KEY.public_key()

receiver = SnapReceiver(
    client_key=CLIENT_KEY,
    bank_public_keys=PUBLIC_KEY,
    client_secrets=SECRET,
    token_key=TOKEN_KEY,
    max_skew_secs=3600.0,  # all requests were signed at the start
)
receiver.on("/qr/qr-mpm-notify", 52, lambda call: {})
rules = receiver._rules


def _stamp(seconds: int = 0) -> str:
    return datetime.fromtimestamp(started + seconds, timezone(timedelta(hours=7))).isoformat()


started = int(time.time())
at = _stamp()
token_signature = KEY.sign(f"{CLIENT_KEY}|{at}".encode(), *RSA)
token_headers = [
    ("Content-Type", "application/json"),
    ("X-CLIENT-KEY", CLIENT_KEY),
    ("X-TIMESTAMP", at),
    ("X-SIGNATURE", base64.b64encode(token_signature).decode()),
]
token = json.loads(receiver.process("POST", TOKEN_PATH, token_headers, GRANT).body)["accessToken"]
token_head, token_mac = token[:48].encode(), bytes.fromhex(token[48:])
ids = itertools.count()


def _signature(body: bytes, at: str) -> bytes:
    digest = hashlib.sha256(body).hexdigest()
    return hmac.digest(SECRET, f"POST:{PATH}:{token}:{digest}:{at}".encode(), "sha512")


def _headers(body: bytes, external_id: str, at: str = at) -> list[tuple[str, str]]:
    return [
        ("Content-Type", "application/json"),
        ("Authorization", f"Bearer {token}"),
        ("X-TIMESTAMP", at),
        ("X-SIGNATURE", base64.b64encode(_signature(body, at)).decode()),
        ("X-PARTNER-ID", "example-partner"),
        ("X-EXTERNAL-ID", external_id),
        ("CHANNEL-ID", "12345"),
    ]


headers, spaced_headers = _headers(BODY, "1"), _headers(SPACED, "1")
encoded_signature = dict(headers)["X-SIGNATURE"]
encoded_token_signature = dict(token_headers)["X-SIGNATURE"]
#: One second each, so that no text of a timestamp is known from the call before.
later = itertools.cycle([_headers(BODY, "1", _stamp(seconds)) for seconds in range(600)])


def bare() -> bool:
    """Do nothing but the steps that need cryptography, one call each."""
    mac = hmac.digest(TOKEN_KEY, token_head, "sha256")
    is_token = hmac.compare_digest(mac, token_mac)
    signature = binascii.a2b_base64(encoded_signature)
    return hmac.compare_digest(_signature(BODY, at), signature) and is_token


def _verified(headers: list[tuple[str, str]], body: bytes) -> str:
    request = Inbound.of("POST", PATH, headers, body)
    request.route()
    checks.check_frame(request)
    found, sent_at = checks.check_headers(request)
    checks.check_sender(request, found, sent_at, rules)
    return sent_at.jakarta_day


def verify() -> str:
    """Verify a call as the library does: rows 1 to 6 of its table, and the day of row 7."""
    return _verified(headers, BODY)


def verify_later() -> str:
    """Verify a call that comes in another second than the one before."""
    return _verified(next(later), BODY)


def verify_spaced() -> str:
    """Verify a call that has spaces in its strings."""
    return _verified(spaced_headers, SPACED)


def process() -> object:
    """Answer a call, with the function on its thread."""
    new = [pair for pair in headers if pair[0] != "X-EXTERNAL-ID"]
    return receiver.process("POST", PATH, [*new, ("X-EXTERNAL-ID", str(next(ids)))], BODY)


def rsa() -> None:
    """Do nothing but verify an RSA signature, out of its base64."""
    signature = binascii.a2b_base64(encoded_token_signature)
    PUBLIC_KEY.verify(signature, f"{CLIENT_KEY}|{at}".encode(), *RSA)


def verify_token_request() -> None:
    """Verify a request for a token as the library does."""
    request = Inbound.of("POST", TOKEN_PATH, token_headers, GRANT)
    request.route()
    checks.check_frame(request)
    checks.check_token_request(request, rules)


def issue() -> object:
    """Answer a request for a token."""
    return receiver.process("POST", TOKEN_PATH, token_headers, GRANT)


def measure(rounds: int = ROUNDS) -> dict[str, float]:
    """Return the median of each in microseconds."""
    functions = (
        bare,
        verify,
        verify_later,
        verify_spaced,
        process,
        rsa,
        verify_token_request,
        issue,
    )
    timings: dict[str, list[float]] = {function.__name__: [] for function in functions}
    for _ in range(rounds):
        for function in functions:
            timings[function.__name__].append(timeit.timeit(function, number=CALLS) / CALLS * 1e6)
    return {name: statistics.median(each) for name, each in timings.items()}


def main() -> None:
    """Print a row of a table for each ratio."""
    cost = measure()
    print("| over | inbound | bare | ratio |")
    for ours, theirs in RATIOS:
        ratio = cost[ours] / cost[theirs]
        print(f"| {ours} / {theirs} | {cost[ours]:.2f} us | {cost[theirs]:.2f} us | {ratio:.2f} |")


#: Ours over theirs.
RATIOS = (
    ("verify", "bare"),
    ("verify_later", "bare"),
    ("verify_spaced", "bare"),
    ("process", "bare"),
    ("verify_token_request", "rsa"),
    ("issue", "rsa"),
)

if __name__ == "__main__":
    main()
