"""From files and questions to what a model reads: video reading, sampling, transforms, prompts."""
