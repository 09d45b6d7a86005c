"""What Kagzi costs, measured beside what the machine could do at best: `python -m benchmarks`."""
