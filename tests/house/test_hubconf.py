"""torch.hub on a clone, in an environment in which Bestiary is not installed."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.house.conftest import Environment


@pytest.fixture(scope="module")
def run(clone: Path, new_environment: Callable[[], Environment]) -> Callable[[str], str]:
    """Runs a program that knows the clone's path as `clone`, away from the clone."""
    environment = new_environment()
    return lambda program: environment.run("python", "-c", f"clone = {str(clone)!r}\n{program}", cwd=environment.folder)


def test_bestiary_itself_is_not_installed_there(run: Callable[[str], str]) -> None:
    assert run("import importlib.util; print(importlib.util.find_spec('bestiary'))").strip() == "None"


def test_every_card_is_an_entry_point_that_says_what_it_gives(run: Callable[[str], str], card_names: list[str]) -> None:
    """`torch.hub.list` and `torch.hub.help` take no local folder: this reads what they would read."""
    program = """
import json, sys
sys.path.insert(0, clone)
import hubconf
offered = {name: value.__doc__ for name, value in vars(hubconf).items() if callable(value) and not name.startswith("_")}
print(json.dumps(offered))
"""
    offered = json.loads(run(program))
    assert set(offered) == {name.replace("-", "_").replace(".", "_") for name in card_names} | {"load", "build"}
    assert "bestiary.load('minilm-l6-v2'" in offered["minilm_l6_v2"]


@pytest.mark.parametrize("arguments", ["'minilm_l6_v2'", "'load', 'minilm-l6-v2'"])
def test_a_model_loads_and_computes(run: Callable[[str], str], arguments: str) -> None:
    loaded = f"import torch; embed = torch.hub.load(clone, {arguments}, source='local')"
    assert run(f"{loaded}; print(*embed(['a cat', 'a dog']).shape)").split()[-2:] == ["2", "384"]


def test_a_bare_module_is_built(run: Callable[[str], str]) -> None:
    built = "import torch; net = torch.hub.load(clone, 'build', 'efficientnet-lite0', num_classes=7, source='local')"
    assert run(f"{built}; print(*net(torch.zeros(1, 3, 224, 224)).shape)").split()[-2:] == ["1", "7"]
