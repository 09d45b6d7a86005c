"""The one object that an application holds."""
