"""Speed on the CPU, contestants in turns in one process: `python -m benchmarks.speed`.

The parts are `prefill/MODEL`, `chunks/MODEL`, `decode`, `rivals` and `profile/MODEL`; `--only prefill` measures some,
and the results of the others stay. Results are written after every part, so a run that was stopped goes on with
`--only`. Configuration: `benchmarks/speed.json`. The tables of docs/speed.md and the plot are made from the results;
`--only` without a part measures nothing and makes them again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.document import SPEED, fill
from benchmarks.speed_bounds import bounds
from benchmarks.speed_tables import document
from locret.allocator import hold_memory
from locret.errors import LocretError
from locret.files import write_text_whole

HERE = Path(__file__).parent
CONFIG, RESULTS = HERE / "speed.json", HERE / "results" / "speed.json"
PLOT = HERE.parent / "docs" / "assets" / "speed.png"
Part = Callable[[], dict[str, Any]]


def parts_of(config: dict[str, Any]) -> dict[str, Part]:
    """Every part by name; a model is loaded when its part is run."""
    from benchmarks import speed_chunks, speed_parts
    from benchmarks.speed_subject import load_subject

    def prefill(model: str) -> Part:
        return lambda: speed_parts.prefill(load_subject(model, config["models"]), config["prefill"])

    def chunks(model: str) -> Part:
        return lambda: speed_chunks.chunks(load_subject(model, config["models"]), config["chunks"])

    def profile(model: str) -> Part:
        return lambda: speed_parts.profile(load_subject(model, config["models"]))

    def with_model(part: Callable[..., dict[str, Any]], name: str) -> Part:
        return lambda: part(load_subject(config[name]["model"], config["models"]), config[name])

    return {
        **{f"prefill/{model}": prefill(model) for model in config["models"]},
        **{f"chunks/{model}": chunks(model) for model in config["models"]},
        "decode": with_model(speed_parts.decode, "decode"),
        "rivals": with_model(speed_parts.rivals, "rivals"),
        **{f"profile/{model}": profile(model) for model in config["models"]},
    }


def chosen(names: Sequence[str], wanted: Sequence[str] | None) -> list[str]:
    """The parts that are wanted: by their names, or by what stands before the slash; all if None.

    Raises:
        LocretError: one of them is unknown.
    """
    if wanted is None:
        return list(names)
    for want in wanted:
        if not any(want in (name, name.split("/")[0]) for name in names):
            raise LocretError(f"no part {want!r}: choose from {', '.join(names)}")
    return [name for name in names if name in wanted or name.split("/")[0] in wanted]


def settings_of(part: str, config: dict[str, Any]) -> dict[str, Any]:
    """What a part was measured with, to stand beside its result."""
    kind, _, model = part.partition("/")
    own = config.get(kind, {})
    return {**own, "subject": config["models"][model or own["model"]]}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, save, say whether the bounds hold; the exit code is 1 only if `--check` is given and one does not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", metavar="PART", help="measure these parts; the others stay")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a bound does not hold")
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--plot", type=Path, help="by default docs/assets/speed.png; none with --out")
    parser.add_argument("--page", type=Path, help="by default docs/speed.md; none with --out")
    options = parser.parse_args(arguments)
    config = json.loads(options.config.read_text(encoding="utf-8"))
    result = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {"parts": {}}
    parts = parts_of(config)
    held = hold_memory()  # as the command line does
    for name in chosen(list(parts), options.only):
        from benchmarks.machine import describe_machine

        print(name, file=sys.stderr, flush=True)
        machine = describe_machine() | {"memory_held": held}
        result["parts"][name] = {"config": settings_of(name, config), "machine": machine, **parts[name]()}
        result["bounds"] = [bound.as_json() for bound in bounds(result["parts"], config["bounds"])]
        write_text_whole(options.out, json.dumps(result, indent=1) + "\n")
    found = bounds(result["parts"], config["bounds"])
    for bound in found:
        print(bound)
    ours = options.out == RESULTS
    if plot := options.plot or (PLOT if ours else None):
        from benchmarks.speed_plot import draw

        draw(result["parts"], plot)
    if page := options.page or (SPEED if ours else None):
        fill(page, "speed", document(result["parts"], found))
    return int(options.check and not all(bound.holds for bound in found))


if __name__ == "__main__":
    sys.exit(main())
