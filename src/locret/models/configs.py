"""The configuration of a backbone by name, where its weights are not needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoConfig

from locret.errors import LocretError
from locret.models.families import family_of, shapes_of
from locret.models.loading import BUILTIN


def load_config(name: str | Path) -> Any:
    """The transformers configuration of a supported model.

    Args:
        name: "builtin", a folder, a hub id, or a config.json file.

    Raises:
        LocretError: there is none under that name, it is damaged, or its family is not supported.
    """
    path = BUILTIN if name == "builtin" else name
    try:
        config = AutoConfig.from_pretrained(str(path))
        family_of(config)
        shapes_of(config)
    except LocretError:
        raise
    except Exception as error:  # transformers raises whatever its parts raise
        reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        raise LocretError(
            f"{str(name)!r} gives no configuration of a backbone ({reason}): name its folder, its hub id or its "
            "config.json"
        ) from error
    return config
