"""The cases of the benchmark, one file for each thing that is measured."""

from bestiary.scripts.benchmark import Skipped


def need_bf16() -> None:
    """Raise Skipped where the processor has no bf16 instructions: torch then emulates them, fifty times slower than fp32."""
    import torch

    from bestiary.core.runtime import computes_natively

    if not computes_natively(torch.bfloat16, torch.device("cpu")):
        raise Skipped("this processor has no bf16 instructions, and precision fast is the default here")
