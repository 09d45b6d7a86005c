"""Connections of callers, on which starts and signals join the caller's own open transaction (P3)."""
