"""Scorers that are no model's role: how well frames suit questions, by other models, by files, or by no model."""
