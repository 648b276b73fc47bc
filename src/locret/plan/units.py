"""Keys and values on their way through a pass: appended, decoded, moved, cut.

This follows the storages as they are. `dense` has a buffer a layer with slots for everything that is stored at once:
units are written behind the others, and when the layer's next pass begins, the evicted ones are overwritten, by a chunk
at a time. The other storages append by `torch.cat` (the old and the new tensors at once) and cut by `gather` (all units
of the chunk, for attention, beside the kept ones).
"""

from __future__ import annotations

from locret.plan.work import FP32, INT64, Terms, Work


def stored(w: Work) -> Terms:
    """Before they are touched."""
    return {"units": w.before}


def left(w: Work) -> Terms:
    """After the pass."""
    return {"units": w.after}


def appended(w: Work) -> Terms:
    """The stored ones, and all of them with the new ones behind; in place, what the last eviction has yet to move."""
    if w.unit.in_place:
        moved = w.at.new if w.at.gaps else 0  # a chunk was evicted, mostly
        return {"units, grown": w.grown, "units, moved": w.dense(moved) // 2, "places": w.units(moved, 2 * INT64)}
    return {"units, stored": w.before, "units, grown": w.grown, **_decoded(w)}


def grown(w: Work) -> Terms:
    """Between append and cut: what is stored, and what attention is given of it, unless that is the same."""
    moved = w.dense(w.at.units) // 2 if w.moves and not w.unit.coded else 0
    return {"units, grown": w.grown, "units, moved keys": moved, **_decoded(w)}


def decoding(w: Work) -> Terms:
    """The keys of a packed storage on their way to attention, behind the values: three steps of arithmetic in fp32."""
    if not w.unit.coded or not w.at.stored:
        return {}
    numbers = w.at.stored * w.sizes.kv_width
    return {"units, grown": w.grown, "values, decoded": numbers * w.element, "decoding": numbers * 3 * FP32}


def moving(w: Work) -> Terms:
    """Re-rotation of the keys in fp32: angles, cos and sin of half a head, and four halves of products and sums."""
    if not w.moves:
        return {}
    half = w.at.units * w.sizes.kv_width // 2 * FP32
    copied = w.element != FP32 or w.unit.coded
    decoded = w.at.stored * w.sizes.kv_width * (FP32 + w.element) if w.unit.coded else 0
    return {
        "units, grown": w.grown,
        "decoded keys, values": decoded,
        "keys in fp32": 2 * half if copied else 0,
        "angles, cos, sin": 3 * half,
        "moves": w.units(w.at.units, INT64),
        "rotary products": 4 * half,
    }


def selecting(w: Work) -> Terms:
    """Scores and ages as whole numbers, the steps to them, and of those that go, numbers and indices."""
    numbers = w.units(w.at.units, 4 * INT64) + w.units(w.at.units - w.at.kept, 2 * INT64)
    return {**grown(w), "selection": numbers} if w.at.cuts else {}


def cutting(w: Work) -> Terms:
    """The kept ones beside all of them; in place nothing is moved before attention is over."""
    if not w.at.cuts or w.unit.in_place:
        return {}
    return {**grown(w), "units, cut": w.after, "selection": w.units(w.at.kept, INT64)}


def attended(w: Work) -> Terms:
    """After the cut: what is stored from now on, beside what attention was given."""
    if w.unit.in_place:
        return {**grown(w), "places": w.places}
    given = {"units, grown": w.grown} if w.unit.exact else _decoded(w)
    return {**given, "units, cut": w.after} if w.at.cuts else {"units, grown": w.grown, **given}


def _decoded(w: Work) -> Terms:
    """What attention is given of a storage that decodes or fetches it, one layer at a time."""
    if w.unit.exact:
        return {}
    shown = w.unit.shown(w.at.stored, w.at.evicted) + w.at.new
    return {"units, decoded": w.dense(shown)}
