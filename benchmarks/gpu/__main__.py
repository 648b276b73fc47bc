"""Checks on an accelerator: `python -m benchmarks.gpu`.

Results are written to `benchmarks/results/gpu/DEVICE.json`, and the tables of docs/speed.md are made from all files
there. Without an accelerator nothing is run. `--device cpu --tiny --out FILE` tries out the checks themselves.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.document import SPEED, fill

FOLDER = Path(__file__).parents[1] / "results" / "gpu"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks; the exit code is 1 if one of them failed."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny models: tries out the checks, measures nothing")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="checks whose names begin so")
    parser.add_argument("--out", type=Path, help="instead of the device's file; docs/speed.md then stays as it is")
    options = parser.parse_args(arguments)

    import torch

    from benchmarks.gpu.checks import checks
    from benchmarks.gpu.device import describe_device, file_name
    from benchmarks.gpu.report import document
    from benchmarks.gpu.run import Row, chosen, run
    from benchmarks.gpu.setting import make_setting
    from locret.files import write_text_whole

    cuda = torch.device(options.device).type == "cuda"
    if cuda and not torch.cuda.is_available():
        print("benchmarks.gpu: no accelerator found, nothing was run")
        return 0
    if not options.out and (options.tiny or options.only or not cuda):
        parser.error("a partial run, tiny models or a CPU are no result of a device: give --out FILE")
    wanted = chosen(checks(), options.only)
    setting = make_setting(options.device, options.tiny)
    device = describe_device(setting)
    print(f"benchmarks.gpu: {device['name']}", flush=True)
    out = options.out or FOLDER / file_name(device["name"])
    rows: list[Row] = []
    for row in run(wanted, setting, watch=lambda line: print(line, flush=True)):
        rows.append(row)  # written at once: a device may be gone before the last check
        result = {"device": device, "setting": setting.as_json(), "checks": rows}
        write_text_whole(out, json.dumps(result, indent=1) + "\n")
    print(f"benchmarks.gpu: wrote {out}")
    if not options.out:
        fill(SPEED, "gpu", document(FOLDER))
    failed = [row["check"] for row in rows if not row["passed"]]
    print(f"benchmarks.gpu: {len(failed)} of {len(rows)} checks failed{': ' if failed else ''}{', '.join(failed)}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
