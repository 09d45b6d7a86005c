"""What the SQL stores share: numbered migrations and the order of a record's columns."""
