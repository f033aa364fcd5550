"""The examples of docs/clusters.md: YAML that parses, shell that bash takes, and command lines that exist."""

import importlib
import re
import shlex
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from bestiary.cli import group
from tests.house.documents import Block, blocks

EXAMPLES = blocks("docs/clusters.md")
SHELL = [block for block in EXAMPLES if block.language == "sh"]
MANIFESTS = [block for block in EXAMPLES if block.language == "yaml"]


def in_shell(block: Block) -> Iterator[list[str]]:
    for line in block.body.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if "bestiary" in words:
            yield words[words.index("bestiary") + 1 :]


def in_manifest(part: Any) -> Iterator[list[str]]:
    """The commands anywhere in a manifest: lists of words, or texts."""
    if isinstance(part, dict):
        for value in part.values():
            yield from in_manifest(value)
    elif isinstance(part, list):
        if part[:1] == ["bestiary"]:
            yield part[1:]
        for value in part:
            yield from in_manifest(value)
    elif isinstance(part, str) and part.startswith("bestiary "):
        yield shlex.split(part)[1:]


def commands() -> list[list[str]]:
    shell = [command for block in SHELL for command in in_shell(block)]
    return shell + [command for block in MANIFESTS for command in in_manifest(yaml.safe_load(block.body))]


def test_there_are_examples_of_every_kind() -> None:
    assert len(SHELL) >= 3 and len(MANIFESTS) >= 2
    assert len(commands()) >= 7


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_a_command_line_is_one(words: list[str]) -> None:
    """Every option is known and every value of its kind; a misspelt one would raise."""
    assert all(isinstance(word, str) for word in words)
    with group.make_context("bestiary", list(words), resilient_parsing=False) as context:
        name, command, rest = group.resolve_command(context, words)
        assert name is not None and command is not None
        with command.make_context(name, list(rest), parent=context) as inner:
            assert inner.command is command


@pytest.mark.parametrize("block", SHELL, ids=lambda block: f"line {block.line}")
def test_bash_takes_the_script(block: Block) -> None:
    checked = subprocess.run(["bash", "-n"], input=block.body, capture_output=True, encoding="utf-8")
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("block", MANIFESTS, ids=lambda block: f"line {block.line}")
def test_pods_mount_only_volumes_that_they_have(block: Block) -> None:
    manifest = yaml.safe_load(block.body)
    assert {"apiVersion", "kind", "metadata", "spec"} == set(manifest)
    pods = list(pods_of(manifest["spec"]))
    assert pods
    for pod in pods:
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert container["image"] == "bestiary" and {mount["name"] for mount in container["volumeMounts"]} <= volumes


def pods_of(part: Any) -> Iterator[dict[str, Any]]:
    if isinstance(part, dict):
        if "containers" in part:
            yield part
        for value in part.values():
            yield from pods_of(value)
    elif isinstance(part, list):
        for value in part:
            yield from pods_of(value)


def tuned() -> list[list[str]]:
    """The scripts of fine-tuning that torchrun starts, each with its arguments, but for what the shell puts in."""
    texts = [block.body.replace("\\\n", " ") for block in SHELL]
    texts += [text for block in MANIFESTS for text in in_arguments(yaml.safe_load(block.body))]
    found = re.findall(r"torchrun .*?/(finetune_\w+)\.py\"?\s(.*?)(?:\$resume|\$\(|$)", "\n".join(texts), flags=re.DOTALL)
    return [[script, *arguments.split()] for script, arguments in found]


def in_arguments(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        yield from part.get("args", [])
        for value in part.values():
            yield from in_arguments(value)
    elif isinstance(part, list):
        for value in part:
            yield from in_arguments(value)


def test_the_scripts_that_torchrun_starts_take_what_they_are_given() -> None:
    assert len(tuned()) == 2
    for script, *arguments in tuned():
        command = importlib.import_module(f"bestiary.scripts.{script}").finetune
        with command.make_context(script, arguments) as context:
            assert context.params["output"] is not None
