"""Programs for working on Kagzi."""
