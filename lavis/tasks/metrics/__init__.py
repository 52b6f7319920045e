"""Metrics of predictions: plain functions of NumPy arrays, without any model; shares are percent everywhere."""
