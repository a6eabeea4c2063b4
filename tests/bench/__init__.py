"""Benchmarks: ratios to a plain loop measured in the same run.  Run by `make bench`; not part of the tests."""
