"""How much haystack fits: a search on the tokenizer's own counts."""

from __future__ import annotations

from collections.abc import Callable


def fit(tokens: Callable[[int], int], room: int, least: int, most: int, guess: int = 0) -> int | None:
    """The number of units, from `least` to `most`, that fits into `room` tokens when one more does not.

    A binary search that tries first where a straight line through its two bounds puts the answer: texts of units of
    like size are found with about four counts, whatever their length.

    Args:
        tokens: how many tokens the text with so many units has; rises with the units.
        room: tokens there is room for.
        least, most: units at least and at most.
        guess: where to look first, for instance what the sample before took.

    Returns:
        The units, or None if not even `least` fit.
    """
    low, low_tokens = least, tokens(least)
    if low_tokens > room:
        return None
    first_tokens = low_tokens
    high, high_tokens = most + 1, None  # one more than there is never fits
    units = min(max(guess, low + 1), most)
    while high - low > 1:
        used, width = tokens(units), high - low
        if used <= room:
            low, low_tokens = units, used
        else:
            high, high_tokens = units, used
        if high_tokens is not None:
            rise = (high_tokens - low_tokens) / (high - low)
        else:
            rise = (low_tokens - first_tokens) / max(low - least, 1)
        # The line can creep along where texts do not grow evenly: a step that does little is followed by a half.
        near = low + int((room - low_tokens) / rise) if rise > 0 else 2 * low + 1
        creeps = high_tokens is not None and high - low > width // 2
        units = min(max((low + high) // 2 if creeps else near, low + 1), high - 1)
    return low
