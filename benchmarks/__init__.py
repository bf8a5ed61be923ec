"""Measurements, and what outside harnesses call."""
