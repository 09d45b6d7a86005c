"""The command line, as real processes wherever a process is what matters."""
