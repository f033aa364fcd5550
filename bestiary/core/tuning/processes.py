"""How several processes share a run: each with the whole net (DDP), or each with a part of every block (FSDP2)."""

from __future__ import annotations

import copy
import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from torch import nn
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from bestiary.core.groups import blocks_of
from bestiary.core.tuning.checkpoints import PARTIAL, read
from bestiary.core.tuning.module import FineTuning
from bestiary.core.tuning.order import Place
from bestiary.errors import InputError

META = "meta.pt"  # what Lightning calls the file of what is not sharded


class Sharded(ModelParallelStrategy):
    """FSDP2 with a file of its own for each process in a checkpoint, which has its name only once it is whole."""

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        place = Path(self.broadcast(filepath))
        partial_place = place.with_name(place.name + PARTIAL)
        if self.is_global_zero:
            shutil.rmtree(partial_place, ignore_errors=True)
        self.barrier()
        super().save_checkpoint(checkpoint, partial_place)
        self.barrier()
        if self.is_global_zero:
            shutil.rmtree(place, ignore_errors=True)
            partial_place.rename(place)
        self.barrier()


def pick_strategy(tuning: FineTuning, place: Place, device: torch.device) -> Strategy | str:
    """What Lightning is to share the work by, as the recipe asks; `tuning` is told how to shard itself where it has to."""
    asked = tuning.recipe.strategy
    backend = "nccl" if device.type == "cuda" else "gloo"
    if asked == "fsdp":
        if tuning.recipe.ema:
            raise InputError("an average of weights that are sharded is not kept\nleave out --ema, or take --strategy ddp")
        tuning.configure_model = partial(_shard, tuning)  # type: ignore[method-assign]
        return Sharded(place.processes, 1, process_group_backend=backend)
    return DDPStrategy(process_group_backend=backend) if asked == "ddp" or place.processes > 1 else "auto"


def read_whole(path: Path) -> dict[str, Any]:
    """What a checkpoint holds, put together where several processes wrote it, whatever their number."""
    if path.is_file():
        return read(path)
    whole = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
    try:
        dcp_to_torch_save(path, whole)
        return {**read(path / META), **read(whole)}
    finally:
        whole.unlink(missing_ok=True)


def step_of(path: Path) -> int:
    """The step at which a checkpoint was saved. Raises InputError for what is none."""
    return int(read(path / META if path.is_dir() else path)["global_step"])


def without_weights(net: nn.Module) -> nn.Module:
    """A copy of the net on the meta device, to take up weights later: what is sharded never is whole again."""
    empty: dict[int, Any] = {id(buffer): buffer.to("meta") for buffer in net.buffers()}
    for parameter in net.parameters():
        empty[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
    return copy.deepcopy(net, empty)


def _shard(tuning: FineTuning) -> None:
    mesh: Any = tuning.device_mesh
    for parameter in tuning.net.parameters():  # no other form can be cut, such as channels-last
        parameter.data = parameter.data.contiguous()
    for block in blocks_of(tuning.net):
        fully_shard(block, mesh=mesh["data_parallel"])
    fully_shard(tuning.net, mesh=mesh["data_parallel"])
    if hasattr(tuning.net, "hidden_states"):  # of which losses ask, beside forward
        register_fsdp_forward_method(tuning.net, "hidden_states")
