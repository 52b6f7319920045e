"""A synthetic video world with exact ground truth: the paper in miniature."""
