"""What several emitters need."""
