"""The runner of the benchmark: what it computes of given times, in what order it calls, what it skips. No speed is asserted."""

import json
from collections.abc import Iterator

import pytest

from bestiary.cli import main
from bestiary.scripts import benchmark
from bestiary.scripts.benchmark import Bench, Row, Skipped, Times, limit

calls: list[str] = []


def tiny(bench: Bench) -> Iterator[Row]:
    """A case that only notes who was called."""
    times = bench.alternate(lambda: calls.append("ours"), lambda: calls.append("peer"))
    yield times.speed("noting a call", "itself", at_least=1e-9)
    yield limit("a number", 3.0, unit="", at_most=2)


def without_peer(bench: Bench) -> Iterator[Row]:
    """A case whose peer is not installed."""
    raise ModuleNotFoundError("no timm", name="timm")
    yield


def impossible(bench: Bench) -> Iterator[Row]:
    """A case that this machine cannot run."""
    raise Skipped("it needs two moons")
    yield


def broken(bench: Bench) -> Iterator[Row]:
    """A case that misses a module which is no peer."""
    raise ModuleNotFoundError("no griffin", name="griffin")
    yield


@pytest.fixture(autouse=True)
def cases(monkeypatch: pytest.MonkeyPatch) -> None:
    calls.clear()
    for case in (tiny, without_peer, impossible, broken):
        monkeypatch.setitem(benchmark.CASES, case.__name__, f"{__name__}:{case.__name__}")


def test_both_sides_are_called_in_turns_after_one_call_each() -> None:
    result = benchmark.run(["tiny"], Bench(rounds=3))
    assert calls == ["ours", "peer"] * 4
    assert [row.case for row in result.rows] == ["tiny", "tiny"]


def test_rows_hold_medians_and_the_judged_ratio() -> None:
    times = Times(ours=[1.0, 9.0, 2.0], peer=[4.0, 5.0, 3.0])
    faster = times.speed("x", "peer", at_least=2)
    assert (faster.ours, faster.peer, faster.score, faster.met) == (2.0, 4.0, 2.0, True)
    share = times.share("x", "peer", at_most=0.4)
    assert (share.score, share.met) == (0.5, False)
    more = times.difference("x", "peer", at_most=-1)
    assert (more.score, more.met) == (-2.0, True)


def test_a_case_that_cannot_run_is_skipped_by_name() -> None:
    result = benchmark.run(["without_peer", "impossible", "tiny"], Bench(rounds=1))
    assert result.skipped == {"without_peer": "timm is not installed", "impossible": "it needs two moons"}
    assert len(result.rows) == 2


def test_a_missing_module_that_is_no_peer_is_no_reason_to_skip() -> None:
    with pytest.raises(ModuleNotFoundError, match="griffin"):
        benchmark.run(["broken"], Bench())


def test_progress_is_told_case_by_case() -> None:
    said: list[str] = []
    benchmark.run(["tiny"], Bench(rounds=2, say=said.append))
    assert said == ["tiny: warming up", "tiny: round 1 of 2", "tiny: round 2 of 2"]


def test_the_command_prints_rows_and_keeps_progress_apart(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "tiny", "impossible", "--rounds", "2"]) == 0
    printed, said = capsys.readouterr()
    first, second = (line.split("\t") for line in printed.splitlines())
    assert first[:2] == ["tiny", "noting a call"]
    assert second == ["tiny", "a number", "3", "", "3", "at most 2", "NO"]
    assert "tiny: round 2 of 2" in said
    assert "impossible skipped: it needs two moons" in said


def test_the_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "tiny", "impossible", "--json", "--quiet"]) == 0
    printed, said = capsys.readouterr()
    content = json.loads(printed)
    assert content["schema"] == 1
    assert content["skipped"] == {"impossible": "it needs two moons"}
    assert [row["met"] for row in content["rows"]] == [True, False]
    assert "round" not in said


def test_every_case_of_the_table_is_there() -> None:
    own = [name for name, place in benchmark.CASES.items() if place.startswith("bestiary.")]
    assert {"embed-fp32", "classify-fp32", "start", "download", "memory"} <= set(own)
    for name in own:
        assert callable(benchmark._case(name))
