"""What we claim about speed, as programs: `python -m benchmarks.NAME`, or all with `python -m benchmarks`."""
