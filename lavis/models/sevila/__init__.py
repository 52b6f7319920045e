"""SeViLA: one frozen image-language model in two roles, Localizer and Answerer."""
