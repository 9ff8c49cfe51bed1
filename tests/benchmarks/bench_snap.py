"""What signing costs in SNAP: a call of 2 KiB, and a login.

Run it as a script: ``python tests/benchmarks/bench_snap.py``. Each is timed in turns with the bare
computation, so that whatever else the machine does meets both; the ratio is that of the medians.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import statistics
import timeit
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

from permata_auth import SnapCredentials

ROUNDS = 400
CALLS = 50
WIB = timezone(timedelta(hours=7))
PATH = "/snap/v1.0/balance-inquiry"
URL = f"https://bank.invalid{PATH}"
TOKEN = "example-token-0123456789-0123456789-0123456789"
SECRET = b"example-client-secret"
#: Without whitespace, and with spaces in its strings: to see that these are none of JSON's takes
#: a look at every byte.
BODY = json.dumps({"items": ["a-name-of-24-characters!"] * 76}, separators=(",", ":")).encode()
SPACED = BODY.replace(b"-", b" ")
_VECTORS = Path(__file__).parents[1] / "vectors/snap.json"
KEY = serialization.load_der_private_key(
    base64.b64decode(json.loads(_VECTORS.read_text())["private_key"]), None
)

credentials = SnapCredentials(
    token_url="https://bank.invalid/snap/v1.0/access-token/b2b",
    client_id="example-client",
    client_secret=SECRET.decode(),
    private_key=KEY,
    channel_id="12345",
)


def bare() -> dict[str, str]:
    """Do what any program has to: a timestamp, both hashes as the standard library has them."""
    now = datetime.now(WIB).isoformat(timespec="seconds")
    digest = hashlib.sha256(BODY).hexdigest()
    message = f"POST:{PATH}:{TOKEN}:{digest}:{now}".encode()
    signature = base64.b64encode(hmac.new(SECRET, message, hashlib.sha512).digest()).decode()
    return {
        "Authorization": f"Bearer {TOKEN}",
        "X-TIMESTAMP": now,
        "X-SIGNATURE": signature,
        "X-PARTNER-ID": "example-client",
        "X-EXTERNAL-ID": datetime.now(WIB).strftime("%Y%m%d%H%M%S%f"),
        "CHANNEL-ID": "12345",
        "Content-Type": "application/json",
    }


def fixed() -> str:
    """Do nothing but SHA-256, HMAC-SHA512 and base64."""
    digest = hashlib.sha256(BODY).hexdigest()
    message = f"POST:{PATH}:{TOKEN}:{digest}:2025-09-11T15:24:18+07:00".encode()
    return base64.b64encode(hmac.digest(SECRET, message, "sha512")).decode()


def sign() -> dict[str, str]:
    """Sign a call as the library does."""
    return credentials.sign(TOKEN, "POST", URL, BODY)


def sign_spaced() -> dict[str, str]:
    """Sign a call that has spaces in its strings."""
    return credentials.sign(TOKEN, "POST", URL, SPACED)


def rsa() -> bytes:
    """Do nothing but the RSA signature of a login."""
    message = b"example-client|2025-09-11T15:24:18+07:00"
    signature: bytes = KEY.sign(message, padding.PKCS1v15(), hashes.SHA256())
    return signature


def login() -> object:
    """Sign a login as the library does."""
    return credentials.token_request()


def measure(rounds: int = ROUNDS) -> dict[str, float]:
    """Return the median of each in microseconds."""
    calls = {bare: CALLS, fixed: CALLS, sign: CALLS, sign_spaced: CALLS, rsa: 1, login: 1}
    timings: dict[str, list[float]] = {function.__name__: [] for function in calls}
    for _ in range(rounds):
        for function, count in calls.items():
            timings[function.__name__].append(timeit.timeit(function, number=count) / count * 1e6)
    return {name: statistics.median(each) for name, each in timings.items()}


def main() -> None:
    """Print a row of a table for each ratio."""
    cost = measure()
    print("| over | sign | bare | ratio |")
    for ours, theirs in RATIOS:
        ratio = cost[ours] / cost[theirs]
        print(f"| {ours} / {theirs} | {cost[ours]:.2f} us | {cost[theirs]:.2f} us | {ratio:.2f} |")


#: Ours over theirs.
RATIOS = (
    ("sign", "bare"),
    ("sign", "fixed"),
    ("sign_spaced", "bare"),
    ("sign_spaced", "fixed"),
    ("login", "rsa"),
)

if __name__ == "__main__":
    main()
