"""The contract of stores, by topic: every backend passes all of it."""
