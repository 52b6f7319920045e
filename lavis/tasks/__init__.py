"""Objectives, metrics and the tasks that tie them to data."""
