"""What the documentation shows is what the software does."""
