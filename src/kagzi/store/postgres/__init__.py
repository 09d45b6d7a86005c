"""The PostgreSQL store, versions 14 to 18, straight or behind a transaction pooler."""
