"""Workers: they claim due runs, execute them in their slots, show that they are alive, and drain when asked to stop."""
