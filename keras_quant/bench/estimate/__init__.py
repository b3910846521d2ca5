"""Latency on a Jetson that is not there: a model of time, layer by layer; never a measurement."""
