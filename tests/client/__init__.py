"""The asking side, on real stores."""
