"""Benchmarks of others: their files, prompts and scorers, so that published tables can be compared."""
