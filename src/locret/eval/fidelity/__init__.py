"""Fidelity: how far a model that reads in fixed memory is from the same model with full attention.

For models that answer few questions right. A document is read once, and true continuations of it are forced on what
is kept: `build_passage` makes both, `Engine.score_pieces` and `measured_logits` give logits, `distances` compares them.

    passage = build_passage(tokenizer, filler, 4096, index=0, chat=True)
    session, whole = engine.prefill(passage.ids), full.prefill(passage.ids)
    for one in passage.continuations.values():  # "facts", "repeat", "text"
        kept, true = (measured_logits(e.score_pieces(s, one.ids), one) for e, s in ((engine, session), (full, whole)))
        told = distances(kept, true, one.targets)  # .kl, .agreement, .nll: [measured]
"""

from __future__ import annotations

from locret.eval.fidelity.continuations import Continuation
from locret.eval.fidelity.distance import Distances, distances, measured_logits
from locret.eval.fidelity.passage import ForcedPassage, build_passage

__all__ = ["Continuation", "Distances", "ForcedPassage", "build_passage", "distances", "measured_logits"]
