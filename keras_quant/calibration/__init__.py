"""Scales of activations, found on images."""
