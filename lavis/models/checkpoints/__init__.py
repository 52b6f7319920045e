"""Weights: published names and ours, reading and writing them safely."""
