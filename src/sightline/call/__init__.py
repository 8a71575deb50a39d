"""A call of attention: check, lower, run; what would run it, and why."""
