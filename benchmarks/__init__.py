"""Measurements of time and memory; configuration and results are committed together."""
