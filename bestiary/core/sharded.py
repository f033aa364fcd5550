"""Weights in several safetensors files, and the index that says which tensor is in which.

The index is that of transformers: beside `model-00001-of-00002.safetensors` and its like lies `model.safetensors.index.json`,
whose `weight_map` gives the file of every tensor.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PureWindowsPath

from torch import Tensor

from bestiary.core.configmap import read_json
from bestiary.core.mapped import MappedTensors, short
from bestiary.core.streamed import write_safetensors
from bestiary.errors import LayoutError

SHARD_SIZE = 5 * 10**9  # bytes of tensors that go into one file at most
INDEX = "{}.index.json"  # after the name that a single file would have


class ShardedTensors(Mapping[str, Tensor]):
    """The tensors of several safetensors files by name: what `MappedTensors` is for one.

    Raises LayoutError for a file that is not well-formed, and where two files hold a tensor of one name.
    """

    def __init__(self, paths: Sequence[str | os.PathLike[str]]) -> None:
        self._shards: dict[str, MappedTensors] = {}
        for shard in map(MappedTensors, paths):
            for name in shard:
                if other := self._shards.get(name):
                    raise LayoutError(
                        f"{other.path.name} and {shard.path.name} both hold {short(name)}\nfetch them again, from one source"
                    )
                self._shards[name] = shard

    def __getitem__(self, name: str) -> Tensor:
        return self._shards[name][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._shards)

    def __len__(self) -> int:
        return len(self._shards)

    def __contains__(self, name: object) -> bool:
        return name in self._shards

    def release(self, name: str) -> None:
        """Give the memory pages of a tensor back to the system, as `MappedTensors.release` does."""
        self._shards[name].release(name)


def shards(index: Path) -> list[str]:
    """The names of the files that an index names, all of which lie beside it. Raises LayoutError."""
    return sorted(set(_weight_map(index).values()))


def check_shards(index: Path) -> None:
    """Raise LayoutError unless every file that the index names holds the tensors that it should, and no others."""
    expected = _weight_map(index)
    for shard in shards(index):
        if not (index.parent / shard).is_file():
            raise LayoutError(f"{index.parent} has no {shard}\n{index.name} names it: fetch it again")
        held = set(MappedTensors(index.parent / shard))
        if wrong := sorted(held ^ {name for name, file in expected.items() if file == shard}):
            does, says = ("has", "elsewhere or nowhere") if wrong[0] in held else ("has not", "there")
            raise LayoutError(
                f"{index.parent / shard} {does} {short(wrong[0])}, which is {says} by {index.name}\n"
                "fetch them again, from one source"
            )


def write_shards(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None, *, shard_size: int = SHARD_SIZE
) -> list[Path]:
    """Write tensors as one safetensors file, or as several with an index where they exceed `shard_size` bytes.

    Returns the files of tensors. A tensor larger than `shard_size` has a file of its own. Raises what `write_safetensors` does.
    """
    groups = _groups({name: tensor.nbytes for name, tensor in tensors.items()}, shard_size)
    if len(groups) == 1:
        write_safetensors(path, tensors, metadata)
        return [path]
    paths = [path.with_stem(f"{path.stem}-{number:05}-of-{len(groups):05}") for number in range(1, len(groups) + 1)]
    for shard, names in zip(paths, groups, strict=True):
        write_safetensors(shard, {name: tensors[name] for name in names}, metadata)
    index = {
        "metadata": {"total_size": sum(tensor.nbytes for tensor in tensors.values())},
        "weight_map": {name: shard.name for shard, names in zip(paths, groups, strict=True) for name in names},
    }
    path.with_name(INDEX.format(path.name)).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return paths


def _groups(sizes: Mapping[str, int], most: int) -> list[list[str]]:
    """The names in order, in groups whose sizes add up to `most` or less."""
    groups: list[list[str]] = [[]]
    filled = 0
    for name, size in sizes.items():
        if groups[-1] and filled + size > most:
            groups.append([])
            filled = 0
        groups[-1].append(name)
        filled += size
    return groups


def _weight_map(index: Path) -> dict[str, str]:
    content = read_json(index)
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise LayoutError(f"{index} has no weight_map of names to files\nfetch it again")
    for shard in set(map(str, weight_map.values())):
        # What a stranger names becomes a path here; Windows' rules are the stricter ones.
        if PureWindowsPath(shard).name != shard or not shard.isprintable() or not shard.endswith(".safetensors"):
            raise LayoutError(f"{index} names {short(shard)}, which is no safetensors file beside it\nask who made it")
    return {name: str(shard) for name, shard in weight_map.items()}
