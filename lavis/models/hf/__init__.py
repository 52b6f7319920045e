"""Any image-text model of Hugging Face's transformers, as Localizer and Answerer."""
