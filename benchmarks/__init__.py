"""What edgeret is measured with: ranking quality, scan time, latency. Run as `python -m benchmarks`."""
