"""The command line. Its modules import Kagzi inside the commands, so that `kagzi --help` answers at once."""
