"""Plots of results, as PNG; they need matplotlib."""

from __future__ import annotations

from locret.eval.plots.curves import score_by_budget, score_by_kv_bytes
from locret.eval.plots.heat import Found, needle_heatmap
from locret.eval.plots.run import draw_run

__all__ = ["Found", "draw_run", "needle_heatmap", "score_by_budget", "score_by_kv_bytes"]
