"""What holds for the SQLite store alone: its file, its threads, its clock, its neighbours."""
