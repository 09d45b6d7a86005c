"""The frozen nouns of Kagzi: what is stored, claimed, changed and shown. No behaviour beyond reading oneself."""
