"""Comparing the model with figures measured from the published implementation."""
