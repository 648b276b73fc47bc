"""What all commands share: options, output, and one clear line when something fails."""

from __future__ import annotations

import functools
import inspect
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from typing import Annotated, Any, TextIO

import typer
from rich.console import Console

from locret.cli.interrupted import what_is_left
from locret.errors import LocretError, first_line
from locret.memory import is_out_of_memory

MOST_SEED = (1 << 64) - 1  # what torch's generators take
MOST_WIDTH = 1 << 20  # of retaining heads
LONGEST = 1 << 30  # tokens of a prompt, as `locret.cache.budget` has it, which help does not load
SHOWN = 200  # characters of what torch says of memory
LESS = "give a shorter text, a smaller --chunk or --budget, or a smaller model"
NARROWEST, WIDEST = 20, 1000  # columns
INTERRUPTED = 130  # what shells report for a command ended by Ctrl-C

MODELS = "'builtin', 'smollm2', a folder, a .gguf file, a hub id, or owner/name:file.gguf for one on the hub"
ModelOption = Annotated[str, typer.Option("--model", help=f"{MODELS}.")]
HeadsOption = Annotated[
    str | None,
    typer.Option("--heads", help="Retaining heads: a folder or a hub id. [default: those that come with the model]"),
]
DtypeOption = Annotated[str, typer.Option("--dtype", help="auto, float32, bfloat16 or float16.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 ...")]
MethodOption = Annotated[
    str, typer.Option("--policy", help="What is kept, how it is held, what is seen: locret, infllm, locret+quant4 ...")
]
BudgetOption = Annotated[
    int | None,
    typer.Option("--budget", help="Units kept per KV head.", show_default="1024 for builtin and smollm2, else 6000"),
]
QueryFirstOption = Annotated[bool, typer.Option("--query-first", help="The question also stands before the document.")]
ChunkOption = Annotated[int | None, typer.Option("--chunk", help="Tokens read at once.", show_default="by budget")]
StabilizersOption = Annotated[
    int | None,
    typer.Option("--stabilizers", help="Newest units kept after every chunk but the last.", show_default="by budget"),
]
LocalOption = Annotated[
    int | None, typer.Option("--local", help="Last prompt tokens, never evicted.", show_default="by budget")
]
PinFirstOption = Annotated[
    int | None,
    typer.Option("--pin-first", help="First tokens, never evicted, whatever the policy.", show_default="by budget"),
]
PinNewestOption = Annotated[
    int | None,
    typer.Option("--pin-newest", help="Newest units that no cut evicts, part of the budget.", show_default="by budget"),
]
PositionsOption = Annotated[
    str, typer.Option("--positions", help="'true', or 'compact' for prompts longer than the model's window.")
]
StaticOption = Annotated[
    bool, typer.Option("--static", help="Write in static shapes, on CUDA by a recorded graph (docs/generation.md).")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else there.")]


@dataclass
class Output:
    """Where a command writes.

    Attributes:
        console: tables and pictures for people: stdout, or stderr if stdout is for JSON.
        notes: progress and remarks, always stderr.
        verbatim: whether `write` writes.
        result: the JSON object, to be filled by the command.
    """

    console: Console
    notes: Console
    verbatim: bool
    result: dict[str, Any] = field(default_factory=dict)

    def write(self, text: str) -> None:
        """Write generated text to stdout as it is, at once; nothing under `--json`, where it is in the result."""
        if self.verbatim:
            sys.stdout.write(text)
            sys.stdout.flush()


@contextmanager
def output(as_json: bool) -> Iterator[Output]:
    """Keep stdout clean for `--json`, and print the result there when the command has succeeded."""
    notes = _console(sys.stderr)
    if not as_json:
        yield Output(_console(sys.stdout), notes, verbatim=True)
        return
    with redirect_stdout(sys.stderr):
        written = Output(notes, notes, verbatim=False)
        yield written
    print(json.dumps(written.result, allow_nan=False), flush=True)


def _console(stream: TextIO) -> Console:
    """Shows names as they are, brackets and colons in them, too; a stream that is named is asked for its encoding.

    Something can be drawn on it: a terminal may say that it has no columns at all, or billions.
    """
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    if not NARROWEST <= console.width <= WIDEST:
        console.width = min(max(console.width, NARROWEST), WIDEST)
    return console


def guarded(name: str, command: Callable[..., None]) -> Callable[..., None]:
    """Add `--debug` to a command, and turn its errors into one line on stderr and exit code 1, Ctrl-C into 130."""

    @functools.wraps(command)
    def run(*args: Any, debug: bool, **options: Any) -> None:
        quiet_libraries()
        try:
            command(*args, **options)
        except KeyboardInterrupt:
            _fail(what_is_left(name, options), INTERRUPTED)
        except (LocretError, OSError) as error:
            if debug:
                raise
            _fail(_one_line(error))
        except Exception as error:  # a fault of ours: no traceback unless asked for, but its kind is named
            if debug or _is_usage_error(error):
                raise
            if is_out_of_memory(error):  # no fault of ours, and it can happen anywhere
                _fail(f"out of memory ({first_line(error)[:SHOWN]}): {LESS}")
            _fail(f"unexpected {type(error).__name__}: {_one_line(error)} (--debug shows where)")

    signature = inspect.signature(command, eval_str=True)
    option = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
    added = inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=option)
    parameters = [*signature.parameters.values(), added]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def quiet_libraries() -> None:
    """Stop libraries from printing advice and progress bars of their own."""
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging

    hub_logging.set_verbosity_error()
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _is_usage_error(error: Exception) -> bool:
    """Whether typer knows how to show this error and what to exit with."""
    return isinstance(error, (typer.BadParameter, typer.Exit, typer.Abort))


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:  # without its number, which says nothing
        named = f"{error.filename}: " if error.filename else ""
        return f"{named}{error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def _fail(message: str, code: int = 1) -> None:
    print(f"locret: {message}", file=sys.stderr)
    raise SystemExit(code)
