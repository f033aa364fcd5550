"""Devices, precisions, and work side by side."""

import threading

import pytest
import torch

from bestiary.core.runtime import computes_natively, dtype_of, in_threads, packed_rows, pick_device, pick_precision, side_by_side
from bestiary.errors import InputError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_precisions_by_name():
    assert [pick_precision(name, (), CPU) for name in (None, "fp32", "bf16", "int8")] == ["fp32", "fp32", "bf16", "int8"]
    assert [dtype_of(name, CPU) for name in ("fp32", "bf16", "fp16")] == [torch.float32, torch.bfloat16, torch.float16]


def test_what_is_to_be_rounded_comes_in_16_bits():
    assert dtype_of("int8", CPU) == torch.float16
    assert dtype_of("int8", torch.device("mps")) == torch.float16


def test_fast_is_what_was_measured_and_is_native():
    assert pick_precision("fast", (), CPU) == "fp32"
    native = "bf16" if computes_natively(torch.bfloat16, CPU) else "fp32"
    assert pick_precision("fast", ("bf16", "fp16", "int8"), CPU) == native


@pytest.mark.parametrize("precision", ["int3", "FP32"])
def test_an_unknown_precision_is_refused(precision):
    with pytest.raises(InputError, match="is not known\nit is one of fast, fp32"):
        pick_precision(precision, (), CPU)


def test_devices_by_name():
    assert pick_device("cpu") == CPU
    assert pick_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(InputError, match="device='quantum' cannot be used here"):
        pick_device("quantum")


def test_side_by_side_keeps_the_order_and_the_threads(four_threads):
    together = threading.Barrier(4, timeout=60)

    def compute(item):
        together.wait()  # passes only when four are at work at once
        return item * 2, torch.get_num_threads()

    assert side_by_side(compute, range(8), CPU) == [(item * 2, 1) for item in range(8)]
    assert torch.get_num_threads() == 4
    later = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [4]


def test_a_few_items_get_all_threads_one_after_the_other(four_threads):
    assert side_by_side(lambda item: torch.get_num_threads(), range(3), CPU) == [4, 4, 4]
    assert side_by_side(lambda item: item, [], CPU) == []


def test_an_error_comes_through_and_the_threads_stay(four_threads):
    def fail(item):
        raise InputError(f"item {item}")

    with pytest.raises(InputError, match="item 0"):
        side_by_side(fail, range(8), CPU)
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize(("rows", "expected"), [(10, 256), (4000, 500), (10**6, 1024)])
def test_packed_rows_fill_the_threads_and_the_cache(four_threads, rows, expected):
    assert packed_rows(CPU, rows) == expected
    assert packed_rows(CUDA, rows) == 65536


@pytest.mark.parametrize("inference", [True, False])
def test_threads_compute_in_the_mode_of_the_caller(inference, four_threads):
    with torch.inference_mode(inference):
        assert in_threads(lambda item: torch.is_inference_mode_enabled(), [1, 2, 3]) == [inference] * 3
