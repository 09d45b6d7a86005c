"""Workers, in this process and on real stores."""
