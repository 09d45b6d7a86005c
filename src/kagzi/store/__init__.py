"""Where runs are kept: the `Store` protocol (protocol.py), what SQL stores share (sql/), and one folder a backend."""
