"""How much of a backlog is looked at."""

LANES = 1000
"""Queues, workflows and versions with open runs that are looked into."""

LIMITS = 10
"""So many times the limit of one lane are counted in all."""
