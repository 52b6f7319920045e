"""Evaluation: every question of a split counted once, on any number of processes, and continued where it stopped."""
