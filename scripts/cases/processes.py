"""New processes for what is measured from the start."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

# Whoever installs a package has its modules compiled, so those of a checkout are to be kept so too.
LEFT_OUT = "PYTHONDONTWRITEBYTECODE"


def output(command: Sequence[str]) -> str:
    """What a command writes to its standard output; raises where it fails."""
    environment = {name: value for name, value in os.environ.items() if name != LEFT_OUT}
    environment["HF_HUB_OFFLINE"] = "1"  # or a peer asks its hub about a folder that lies here
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
