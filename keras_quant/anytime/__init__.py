"""Nets that answer at any time: when an early answer is enough, and what runs their stages."""
