"""Pure decisions: of what kind errors are and what is kept of them."""
