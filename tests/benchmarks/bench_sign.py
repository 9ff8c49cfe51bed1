"""What signing one 2 KiB request costs, over the bare HMAC, base64 and dict of headers.

Run it as a script: ``python tests/benchmarks/bench_sign.py``. The two are timed in turns, so that
whatever else the machine does meets both; the ratio is that of the medians.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import statistics
import timeit
from datetime import datetime, timedelta, timezone

from permata_auth import PermataCredentials

ROUNDS = 400
CALLS = 50
WIB = timezone(timedelta(hours=7))
URL = "https://bank.invalid/apiservice/wa/callbackstatus"
TOKEN = "example-token-0123456789-0123456789-0123456789"
KEY = b"example-static-key"
BODY = json.dumps({"items": ["a name of 24 characters!"] * 76}, separators=(",", ":")).encode()

credentials = PermataCredentials(
    token_url="https://bank.invalid/apiservice/oauth/token",
    api_key="example-api-key",
    client_id="example-client-id",
    client_secret="example-client-secret",
    static_key=KEY.decode(),
    organization_name="example-organization",
)


def bare() -> dict[str, str]:
    """Do what any program has to: a timestamp, the HMAC as the standard library has it, a dict."""
    now = datetime.now(WIB).isoformat(timespec="milliseconds")
    message = f"{TOKEN}:{now}:".encode() + BODY.translate(None, b" \t\n\r\v\f")
    signature = base64.b64encode(hmac.new(KEY, message, hashlib.sha256).digest()).decode()
    return {
        "Authorization": f"Bearer {TOKEN}",
        "organizationname": "example-organization",
        "permata-timestamp": now,
        "permata-signature": signature,
    }


def fixed() -> dict[str, str]:
    """Do nothing but HMAC, base64 and the dict, with a timestamp that is there already."""
    message = b"%b:%b:%b" % (TOKEN.encode(), b"2025-01-01T00:00:00.000+07:00", BODY)
    signature = base64.b64encode(hmac.digest(KEY, message, "sha256")).decode()
    return {
        "Authorization": f"Bearer {TOKEN}",
        "organizationname": "example-organization",
        "permata-timestamp": "2025-01-01T00:00:00.000+07:00",
        "permata-signature": signature,
    }


def sign() -> dict[str, str]:
    """Sign as the library does."""
    return credentials.sign(TOKEN, "POST", URL, BODY)


def measure(rounds: int = ROUNDS) -> dict[str, float]:
    """Return the median of each in microseconds."""
    functions = (bare, fixed, sign)
    timings: dict[str, list[float]] = {function.__name__: [] for function in functions}
    for _ in range(rounds):
        for function in functions:
            timings[function.__name__].append(timeit.timeit(function, number=CALLS) / CALLS * 1e6)
    return {name: statistics.median(each) for name, each in timings.items()}


def main() -> None:
    """Print a row of a table."""
    cost = measure()
    ratio, strict = cost["sign"] / cost["bare"], cost["sign"] / cost["fixed"]
    print("| 2 KiB | sign | bare | without timestamp and canonicaliser | ratio | strict ratio |")
    print(
        f"| {len(BODY)} B | {cost['sign']:.2f} us | {cost['bare']:.2f} us "
        f"| {cost['fixed']:.2f} us | {ratio:.2f} | {strict:.2f} |"
    )


if __name__ == "__main__":
    main()
