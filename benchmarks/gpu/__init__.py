"""Checks and measurements on an accelerator, one function a check: `python -m benchmarks.gpu`, run by `make gpu`."""
