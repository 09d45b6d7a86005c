"""The asking side: starting runs, handles on them, waiting for results, listings."""
