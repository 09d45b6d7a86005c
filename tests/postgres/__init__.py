"""What only the PostgreSQL store promises; what every store promises is in tests/contract."""
