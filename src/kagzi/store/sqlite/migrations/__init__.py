"""The numbered migrations of the SQLite backend."""
