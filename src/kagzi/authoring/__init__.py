"""What people write workflows with: the context, step calls, definitions and decorators."""
