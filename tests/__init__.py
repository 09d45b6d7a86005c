"""Kagzi's tests."""
