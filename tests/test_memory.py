from __future__ import annotations

import pytest
import torch

from locret.errors import LocretError
from locret.memory import check_room, is_out_of_memory, main_memory


def test_what_no_memory_holds_is_refused() -> None:
    memory = main_memory()
    assert memory is not None
    check_room("this", memory, "that")
    with pytest.raises(
        LocretError, match=r"^this would take [0-9.]+ GiB, and this machine has [0-9.]+ GiB of memory: x$"
    ):
        check_room("this", memory + 1, "x")


@pytest.mark.parametrize("rows", [10**12, 10**18])
def test_torch_says_on_the_cpu_that_there_is_no_more_memory(rows: int) -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(rows, 1000)
    assert is_out_of_memory(caught.value)


def test_of_a_cuda_device_and_of_python_it_is_known_by_its_class() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("no room"))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))
