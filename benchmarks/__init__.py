"""Every native op beside its peers: `python -m benchmarks`, or `pytest benchmarks/bench_OP.py`. See README.md."""
