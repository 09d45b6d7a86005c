"""The payloads: values to stored text and back, exactly or refused."""
