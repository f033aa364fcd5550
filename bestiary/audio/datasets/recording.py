"""The column of sounds: kept as files or bytes, read when a row is asked for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import datasets

from bestiary.audio.sound import read_sound
from bestiary.audio.transforms import RATE
from bestiary.core.media import Medium

if TYPE_CHECKING:
    from bestiary.core.tables import Rows

AUDIO = "audio"  # the column of sounds, as LABEL is that of classes


@dataclass
class Recording(Medium, datasets.Audio):  # type: ignore[misc]
    """The audio feature of `datasets`, read by `read_sound`, whose errors name the sound: a mapping of `array`, fp32 (samples,),
    `sampling_rate` in Hz, and `path`, as that library had it before it read sounds by TorchCodec."""

    column: ClassVar[str] = AUDIO
    thing: ClassVar[str] = "a sound"
    things: ClassVar[str] = "sounds"
    own: ClassVar[type] = datasets.Audio

    def encode_example(self, value: Any) -> Any:
        """As it is kept. Bytes stay bytes, whatever lies at the path that they came with."""
        if isinstance(value, dict):
            return value
        return {"path": None, "bytes": value} if isinstance(value, bytes) else {"path": str(value), "bytes": None}

    def decoded(self, content: Path | bytes, name: str) -> dict[str, Any]:
        rate = self.sampling_rate or RATE
        return {"path": name, "array": read_sound(content, rate, name).numpy(), "sampling_rate": rate}


def heard(rows: Rows) -> Rows:
    """Rows of any origin, their sounds read by this feature: those that `map` of `datasets` has kept have that library's own.

    Whoever made the rows says where their paths lead.
    """
    kind = (rows.features or {}).get(AUDIO)
    ours = Recording(sampling_rate=getattr(kind, "sampling_rate", None), folder=os.path.abspath(os.sep))
    return rows.cast_column(AUDIO, ours) if type(kind) is datasets.Audio else rows
