"""Every error: one message of at most three lines on stderr, nothing on stdout, an exit code of its own."""

import os
import pty
import signal
import subprocess
from contextlib import suppress

import pytest

from bestiary import errors
from tests.cli.conftest import COMMAND, Zoo


def complaint(completed: subprocess.CompletedProcess[str], code: int) -> str:
    """The message of a command that has to fail with this code."""
    assert completed.returncode == code, completed.stdout + completed.stderr
    assert completed.stdout == ""
    assert completed.stderr.startswith("error: ")
    assert len(completed.stderr.splitlines()) <= 3
    return completed.stderr


def test_no_two_errors_share_an_exit_code() -> None:
    family = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.BestiaryError)]
    assert len({kind.exit_code for kind in family}) == len(family)
    assert 2 not in {kind.exit_code for kind in family}


@pytest.mark.parametrize(
    "arguments",
    [["lst"], ["show"], ["ls", "--colour"], ["run", "sphinx"], ["benchmark", "speed"], ["completion", "dos"]],
    ids=" ".join,
)
def test_wrong_usage(zoo: Zoo, arguments: list[str]) -> None:
    assert "--help" in complaint(zoo.run(*arguments), 2)


@pytest.mark.parametrize("verb", ["show", "pull", "verify", "run"])
def test_an_unknown_name_offers_the_nearest(zoo: Zoo, verb: str) -> None:
    zoo.add("sphinx", {"sphinx.safetensors": b"riddle"})
    assert "sphinx" in complaint(zoo.run(verb, "sfinx", *(["text"] if verb == "run" else [])), 3)


def test_a_malformed_card_is_named(zoo: Zoo) -> None:
    (zoo.cards / "chimera.md").write_text("---\nlicense: mit\nbestiary: {name: chimera, colour: red}\n---\n")
    message = complaint(zoo.run("show", "chimera"), 4)
    assert "chimera.md" in message and "colour" in message


def test_bytes_that_are_not_the_card_s(zoo: Zoo, served: str) -> None:
    zoo.add("sphinx", {"sphinx.safetensors": b"riddle"}, promised=b"answer", source=f"url: {served}")
    assert served in complaint(zoo.run("pull", "sphinx"), errors.IntegrityError.exit_code)


def test_offline_with_a_cold_store(zoo: Zoo, served: str) -> None:
    zoo.add("sphinx", {"sphinx.safetensors": b"riddle"}, source=f"url: {served}")
    complaint(zoo.run("pull", "sphinx", "--offline"), 6)
    assert not list(zoo.home.rglob("*.partial"))


def test_a_source_without_the_file(zoo: Zoo, served: str) -> None:
    zoo.add("sphinx", {"sphinx.safetensors": b"riddle"}, source=f"url: {served}")
    (zoo.cards / "sphinx.safetensors").unlink()
    complaint(zoo.run("pull", "sphinx"), 7)


def test_debug_prints_the_traceback(zoo: Zoo) -> None:
    completed = zoo.run("show", "sfinx", "--debug")
    assert completed.returncode == 3
    assert "Traceback" in completed.stderr and "UnknownModel" in completed.stderr


def test_an_escape_in_an_argument_does_not_reach_the_terminal(zoo: Zoo) -> None:
    assert "\x1b" not in complaint(zoo.run("show", "\x1b[31mred"), 3)


def _heed_interrupts() -> None:
    """As a terminal's programs do; tests that run in the background inherit that the signal is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_leaves_with_130_and_deletes_nothing(zoo: Zoo, served: str) -> None:
    zoo.add("sphinx", {"sphinx.safetensors": b"riddle"}, source=f"url: {served}")
    assert zoo.run("pull", "sphinx").returncode == 0
    controller, terminal = pty.openpty()
    command = subprocess.Popen(
        [*COMMAND, "cache", "rm", "sphinx"], cwd=zoo.folder, env=zoo.variables(), stdin=terminal, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, preexec_fn=_heed_interrupts,
    )  # fmt: skip
    assert command.stderr
    try:
        question = b""
        while not question.endswith(b"]: "):
            letter = command.stderr.read(1)
            assert letter, question
            question += letter
        for _ in range(60):  # a signal that comes just before it begins to wait for the answer does not wake it
            os.kill(command.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                command.wait(1)
                break
        rest = command.stderr.read()
    finally:
        command.kill()
        command.wait()
        command.stderr.close()
        os.close(controller)
        os.close(terminal)
    assert command.returncode == 130
    assert b"Traceback" not in rest
    assert zoo.json("ls", "sphinx")["models"][0]["stored"] is True
