"""Benchmarks on a CUDA device, for one short run on a machine lent for it: see benchmarks/gpu.sh."""
