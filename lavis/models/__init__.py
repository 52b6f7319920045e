"""The image-language model, its two roles, and the pipeline that asks it about videos."""
