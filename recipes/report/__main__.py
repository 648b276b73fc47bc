"""`make report`: every method on the built-in model, `docs/results.md` and its pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from locret.errors import LocretError
from locret.eval.benchmarks.jsonl import write_jsonl
from locret.eval.planning import parse_shard
from recipes.report.document import write
from recipes.report.run import check_kept, gather, parts, run

ROWS = Path(__file__).parent / "results"  # all rows, with settings and intervals; predictions stay in --runs


def main() -> None:
    """Evaluate what has not been evaluated yet, then write the report."""
    parser = argparse.ArgumentParser(prog="make report", description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/report"), help="results; a run goes on from them")
    parser.add_argument("--only", nargs="+", help="only these parts of config.json are evaluated")
    parser.add_argument("--shard", default="0/1", help="a share i/n, one a process; --write puts all together")
    parser.add_argument("--evaluate", action="store_true", help="evaluate and write no report")
    parser.add_argument("--write", action="store_true", help="evaluate nothing; write the report from all shares")
    arguments = parser.parse_args()
    console = Console(stderr=True)
    every = parts()
    for part in [] if arguments.write else every:
        if not arguments.only or part.name in arguments.only:
            run(part, arguments.runs, parse_shard(arguments.shard), console)
    if not arguments.evaluate:
        try:
            check_kept(every, arguments.runs, ROWS)
        except LocretError as error:
            raise SystemExit(str(error)) from None
        write(every, arguments.runs)
        for part in every:
            if rows := gather(part, arguments.runs):
                write_jsonl(ROWS / f"{part.name}.jsonl", [row.as_json() for row in rows])
        console.print("docs/results.md is written")


if __name__ == "__main__":
    main()
