"""One run in memory: its deterministic loop, its replay, its steps, and the journal that makes them durable."""
