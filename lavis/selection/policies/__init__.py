"""Policies: rules that choose K frames of a video by scores, times or features. docs/selection.md lists them."""
