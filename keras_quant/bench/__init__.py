"""How long models take, measured so that it can be believed: timers, statistics, verdicts."""
