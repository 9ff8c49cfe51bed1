"""Run the benchmarks: ``python -m tests.benchmarks --help``."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from pathlib import Path

from .adapters import ADAPTERS
from .report import Column, Table, svg
from .suite import MEASURES, OURS, Suite

_TABLES = {
    "Cost of a call with a live token": ["live"],
    "Cold start and failure": ["cold_herd", "failing_herd"],
    "Refresh": ["refreshes", "short_tokens"],
    "Endpoint down for 5 s around the refresh, while the last token lives": ["outage"],
    "Processes": ["fork", "exit_in_flight", "processes", "imports"],
}
#: The rows and contestants of the short table, which README shows too.
_SHORT = (
    "live call, 8 threads, µs",
    "32 cold threads: logins",
    "slowest call across refreshes, ms",
    "503 for 5 s: failed calls",
    "import, ms",
)
_SHORT_NAMES = (
    OURS,
    "google-auth",
    "botocore RefreshableCredentials",
    "msal",
    "databricks-sdk",
    "lock + dict by hand",
)
_WHY = """\
Where others are ahead, and why. The last error of a failing herd: they do not try again; we do,
twice, and all callers share it. Attempts while the bank is down: databricks-sdk waits a minute
after one failure, others longer than we do, and then they refresh late, in somebody's call.
Import and memory: requests, tenacity and attrs are our three dependencies; msal, requests_auth
and a lock with a dict import requests and little else. `import permata_auth` by itself brings
attrs alone.

Two targets of our own are hard. Signing is set against code that makes no timestamp and signs the
body unchanged; both are the bank's rule. Most of the time that 500 cold threads wait beyond the
login is the interpreter's time to wake them, as the bare event beside it shows."""
_FAIRNESS = """\
All log in at the same plain token endpoint on loopback, whose logins take 300 ms unless said
otherwise, with thresholds set by their own options: the window of refresh opens 2 s after a login
(3 s before the outage), and the token lives for 10 s more (google-auth: 225 s).

In the refresh and the outage two threads call every 10 ms. A failed call is one that raised
although the last token had not expired. Down is either a 503 at once or a connection that is
closed without an answer: msal serves the last token after the second, and not after the first.
Where a library's only threshold is the moment from which it takes a token for dead (authlib,
requests-oauth2client, requests_auth, by hand), all calls after it fail; a smaller one would move
the failures towards the expiry.

Attempts count what a library retries by itself: permata-auth and google-auth try three times, so
that their callers learn later that it is in vain than those of libraries that never retry;
azure-identity tries four times. msal answers from memory for 5 s after a 503, databricks-sdk
waits a minute after a failed refresh. Few attempts are good only where no call failed or waited.

Not fair to compare: libraries that are auth handlers of requests, and google-auth, fill a header
in a live call, the others return a string. google-auth refreshes by refresh token, botocore by a
function that we wrote. What else a package brings along (a whole SDK) counts in its import."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument(
        "--out",
        type=Path,
        help="folder for RESULTS.md and RESULTS.svg; a whole run writes them beside this program",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="rough figures in a minute; but for --peer only against lock + dict by hand",
    )
    parser.add_argument("--only", action="append", choices=MEASURES, help="may be repeated")
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        help="another interpreter with permata_auth installed, for the hot path; may be repeated",
    )
    parser.add_argument(
        "--peer", action="append", choices=list(ADAPTERS), help="only these; may be repeated"
    )
    return parser.parse_args()


def main() -> None:
    """Measure, print, and write the files."""
    arguments = _arguments()
    versions = {name: adapter.version() for name, adapter in ADAPTERS.items()}
    wanted = arguments.peer or ([OURS, "lock + dict by hand"] if arguments.quick else versions)
    names = [name for name in versions if versions[name] and name in wanted]
    missing = [name for name, version in versions.items() if not version]
    if OURS not in names:
        names.insert(0, OURS)
    if missing:
        print(f"left out, not installed: {', '.join(missing)}")
    began = time.monotonic()
    suite = Suite(names, [sys.executable, *arguments.python], quick=arguments.quick)
    for measure in arguments.only or MEASURES:
        suite.run(measure)
    tables = _tables(suite, versions, missing)
    heading = (
        f"{time.strftime('%Y-%m-%d')}, Python {platform.python_version()}, {platform.system()} "
        f"{platform.machine()}, {os.cpu_count()} cores, {time.monotonic() - began:.0f} s; "
        f"python -m tests.benchmarks{' --quick' * arguments.quick}. Lower is better throughout."
    )
    print(*(table.text() for table in tables), f"\n{heading}", sep="\n")
    is_whole = not (arguments.quick or arguments.only or arguments.peer)
    out = arguments.out or (Path(__file__).parent if is_whole else None)
    if out:
        _write(out, suite, tables, heading)


def _tables(suite: Suite, versions: dict[str, str | None], missing: list[str]) -> list[Table]:
    tables = [*_short(suite)]
    if suite.alone:
        header = ["measure", "figure", "target", "met"]
        tables.append(Table("permata-auth by itself", header, suite.alone))
    for title, measures in _TABLES.items():
        columns = [column for name in measures for column in suite.columns.get(name, [])]
        if columns:
            tables.append(Table.of(title, columns, suite.names, *_ahead(columns)))
    if suite.columns:
        notes = _paragraphs(_FAIRNESS)
        rows = [[name, versions[name] or "", ADAPTERS[name].note] for name in suite.names]
        left_out = [f"Left out, not installed: {', '.join(missing)}."] if missing else []
        header = ["", "version", "set up"]
        tables.append(Table("The contestants", header, rows, [*notes, *left_out]))
    return tables


def _short(suite: Suite) -> list[Table]:
    """Return the table that README shows, if all of its rows were measured."""
    columns = {each.title: each for found in suite.columns.values() for each in found}
    names = [name for name in _SHORT_NAMES if name in suite.names]
    if not columns.keys() >= set(_SHORT):
        return []
    rows = [
        [title, *(columns[title].cells[name].shown(columns[title].digits) for name in names)]
        for title in _SHORT
    ]
    return [Table("In short", ["", *names], rows, _paragraphs(_WHY))]


def _paragraphs(text: str) -> list[str]:
    return [" ".join(each.split("\n")) for each in text.split("\n\n")]


def _ahead(columns: list[Column]) -> list[str]:
    lines = [
        f"Ahead of {OURS} in “{column.title}”: {', '.join(better)}."
        for column in columns
        if (better := column.ahead_of(OURS))
    ]
    return lines or [f"Nobody is ahead of {OURS} here."]


def _write(folder: Path, suite: Suite, tables: list[Table], heading: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    charted = [c for columns in suite.columns.values() for c in columns if c.is_charted]
    parts = ["# Benchmarks", heading, *(table.markdown() for table in tables)]
    if charted:
        parts.insert(2, "![chart](RESULTS.svg)")
        chart = svg(charted, suite.names, "permata-auth and its peers (lower is better)")
        (folder / "RESULTS.svg").write_text(chart, encoding="utf-8")
    (folder / "RESULTS.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
