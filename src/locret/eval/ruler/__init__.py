"""RULER (arXiv 2404.06654): its 13 tasks made for any tokenizer, and the scorer of its prediction files."""

from __future__ import annotations

from locret.eval.ruler.generate import Recipe, records, write_records
from locret.eval.ruler.sources import Sources
from locret.eval.ruler.tasks import RulerTask, get_ruler_task, list_ruler_tasks

__all__ = ["Recipe", "RulerTask", "Sources", "get_ruler_task", "list_ruler_tasks", "records", "write_records"]
