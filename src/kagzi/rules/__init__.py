"""Pure decisions: a run, what happened to it, and when, go in; a `Change` or an answer comes out."""
