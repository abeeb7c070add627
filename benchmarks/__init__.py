"""Each file here answers one question; `python -m benchmarks` answers all of them."""
