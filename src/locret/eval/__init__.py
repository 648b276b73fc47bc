"""Evaluation: tasks with known answers, the grid of policies and budgets, results and pictures."""
