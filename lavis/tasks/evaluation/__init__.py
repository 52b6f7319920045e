"""From predictions to figures: what a model said about every question, and what that amounts to."""
