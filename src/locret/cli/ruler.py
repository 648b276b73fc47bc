"""`locret ruler`: files of RULER's tasks, of any length, for any tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from locret.cli.common import MOST_SEED, JsonOption, ModelOption, output

FAR_BELOW = 0.9  # of the wanted length


def ruler_command(
    task: Annotated[str, typer.Option(help="One of RULER's 13, such as niah_single_1.")],
    out: Annotated[Path, typer.Option(help="The file: JSON lines of index, input, outputs, length, answer_prefix.")],
    length: Annotated[int, typer.Option(help="Tokens of a prompt with the room for its answer.")] = 4096,
    model: ModelOption = "builtin",
    samples: Annotated[int, typer.Option(help="How many.")] = 500,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Another seed draws other samples.")] = 42,
    essay: Annotated[
        str | None,
        typer.Option(
            help="Essay haystack: a text, JSON or JSONL file, or hf://datasets/OWNER/NAME/FILE.",
            show_default="the Python reference",
        ),
    ] = None,
    questions: Annotated[
        str | None, typer.Option(help="For qa_1 and qa_2: the JSON file of SQuAD v2 or HotpotQA, here or hf://...")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a file of one of RULER's tasks: prompts that fill a length to the token, with the answers expected.

    Of the model only the tokenizer is read. The same seed makes the same file.
    """
    with output(as_json) as written:
        from locret.cli.progress import reading
        from locret.eval.ruler import Recipe, Sources, write_records
        from locret.files import check_writable
        from locret.models.checkpoint import load_tokenizer

        check_writable(out)

        recipe = Recipe(task, length, samples, seed, Sources(essay, questions))
        with reading(written.notes, f"{task}, {length} tokens") as progress:
            made = write_records(
                out, recipe, load_tokenizer(model), lambda done, total: progress(done * length, total * length)
            )
        written.notes.print(
            f"{out}: {made.samples} samples of {made.shortest} to {made.longest} tokens", soft_wrap=True
        )
        if made.longest < FAR_BELOW * length:
            written.notes.print(f"there is no text for {length} tokens: more documents make longer samples")
        written.result.update(
            task=task, samples=made.samples, length=length, shortest=made.shortest, longest=made.longest, out=str(out)
        )
