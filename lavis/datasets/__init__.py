"""Annotations, dataset builders and loaders."""
