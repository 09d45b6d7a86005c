"""Processes for steps that compute: started when needed, used again, and killed where nobody waits any more."""
