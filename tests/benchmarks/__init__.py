"""Figures, not tests: ratios and counts of one run, ours and those of our peers.

::

    pip install '.[file,redis]' --group benchmark
    python -m tests.benchmarks [--out FOLDER] [--quick] [--only NAME]

It takes about five minutes, runs on Linux, and reaches nothing but loopback.
"""
