"""Reads the docstrings' "Example:" as Google's style writes it, "Examples:", so that the site shows code as code."""

from typing import Any

import griffe


class Examples(griffe.Extension):
    """Renames the section."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:  # noqa: ARG002 (griffe's signature)
        """Rename it in one docstring."""
        if obj.docstring:
            obj.docstring.value = obj.docstring.value.replace("\nExample:\n", "\nExamples:\n")
