"""The SQLite backend: one file or memory, one writer thread, group commit across all verbs."""
