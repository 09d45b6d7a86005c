"""The schema, one numbered file a step. `{schema}` stands for the quoted name of Kagzi's schema."""
