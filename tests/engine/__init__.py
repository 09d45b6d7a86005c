"""The deterministic engine: its loop, its executions, and what replays of them promise."""
