"""Kernels of our own: compiled once, whole or not at all, under what decides their code; which core `auto` takes."""

import shutil
import subprocess
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from shared.models import native, swiglu_choice
from shared.models.silu import FEW, swiglu
from shared.models.swiglu_choice import MARGIN, SEEN_BEFORE_MEASURING, WORTH_COMPILING, Case, available, core, fastest

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
SOURCE = 'extern "C" int answer() { return %d; }\n'


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source" / "kernel.cpp"
    path.parent.mkdir()
    path.write_text(SOURCE % 42)
    native._key.cache_clear()
    return path


# Compiling ------------------------------------------------------------------------------------------------------------


@needs_compiler
def test_a_library_lies_under_its_sources_name_and_digest(source, tmp_path):
    built = native.compiled(source, tmp_path / "cache")
    assert built.parent == tmp_path / "cache"
    assert built.name.startswith("kernel-")
    assert [path.name for path in built.parent.iterdir()] == [built.name]  # no half-written file beside it


@needs_compiler
def test_another_source_header_or_flag_is_another_library(source, tmp_path, monkeypatch):
    keys = {native._key(source, "g++")}
    for change in (
        lambda: source.write_text(SOURCE % 43),
        lambda: (source.parent / "lanes.h").write_text("// one\n"),
        lambda: monkeypatch.setattr(native, "FLAGS", ("-O1", "-shared", "-fPIC")),
        lambda: monkeypatch.setattr(native, "_processor", lambda: b"another processor"),
    ):
        change()
        native._key.cache_clear()
        keys.add(native._key(source, "g++"))
    native._key.cache_clear()
    assert len(keys) == 5


@needs_compiler
def test_what_another_process_compiled_is_taken_as_it_is(source, tmp_path, monkeypatch):
    built = native.compiled(source, tmp_path / "cache")
    monkeypatch.setattr(native.subprocess, "run", lambda *args, **kwargs: pytest.fail("compiled again"))
    assert native.compiled(source, tmp_path / "cache") == built


@needs_compiler
def test_a_source_that_does_not_compile_says_what_the_compiler_did(source, tmp_path):
    said = []
    source.write_text("no C++\n")
    native._key.cache_clear()
    assert native.compiled(source, tmp_path / "cache", said.append) is None
    assert "kernel.cpp could not be compiled" in said[0]
    assert "error" in said[0]


def test_a_cache_that_cannot_be_written_leaves_no_kernel(source, tmp_path):
    said = []
    (tmp_path / "cache").write_text("a file, no folder")
    assert native.compiled(source, tmp_path / "cache", said.append) is None
    assert said


def test_a_compiler_that_hangs_is_given_up(source, tmp_path, monkeypatch):
    def hang(command, **kwargs):
        raise subprocess.TimeoutExpired(command, native.COMPILE_TIMEOUT_S)

    said = []
    monkeypatch.setattr(native.shutil, "which", lambda name: "/usr/bin/g++")
    monkeypatch.setattr(native.subprocess, "run", hang)
    assert native.compiled(source, tmp_path / "cache", said.append) is None
    assert "timed out" in said[0]


def test_the_users_folder_follows_the_cache_home(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert native.own_folder() == tmp_path / "tenfold" / "kernels"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert native.own_folder() == tmp_path / "home" / ".cache" / "tenfold" / "kernels"


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch):
    """What these tests choose is forgotten after them."""
    monkeypatch.setattr(swiglu_choice, "_known", {})
    monkeypatch.setattr(swiglu_choice, "_seen", {})


# Choosing -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    """Contenders whose runs take so many made-up seconds: `clock({"eager": 1.0, …})`."""

    def make(seconds):
        now = [0.0]

        def run(impl, case):
            def once():
                now[0] += seconds[impl]

            return once

        monkeypatch.setattr(swiglu_choice, "_run", run)
        monkeypatch.setattr(swiglu_choice, "_now", lambda device: now[0])
        monkeypatch.setattr(swiglu_choice, "available", lambda device, dtype: list(seconds))

    return make


LARGE, SMALL = ((1, WORTH_COMPILING), (1, WORTH_COMPILING // 2))


def case(shape=LARGE, trained=False):
    return Case(shape, torch.float32, "cpu", trained)


def test_the_fastest_contender_is_taken(clock):
    clock({"eager": 1.0, "compile": 0.8, "native": 0.6})
    assert fastest(case()) == "native"


def test_eager_stays_unless_another_is_faster_by_more_than_noise(clock):
    clock({"eager": 1.0, "native": MARGIN + 0.01})
    assert fastest(case()) == "eager"
    clock({"eager": 1.0, "native": MARGIN - 0.01})
    assert fastest(case()) == "native"


def test_on_the_cpu_few_elements_are_not_worth_compiling(clock):
    clock({"eager": 1.0, "compile": 0.1, "native": 0.6})
    assert fastest(case(SMALL)) == "native"
    assert fastest(case(LARGE)) == "compile"


def test_the_choice_is_kept_by_shape_type_and_training(monkeypatch):
    asked = []
    monkeypatch.setattr(swiglu_choice, "fastest", lambda each: asked.append(each) or "eager")
    shape = (5, FEW)
    for trained in (False, True):
        g, u = (torch.randn(shape, requires_grad=trained) for _ in "gu")
        for _ in range(SEEN_BEFORE_MEASURING + 2):
            with torch.set_grad_enabled(trained):
                swiglu(g, u)
    assert asked == [Case(shape, torch.float32, "cpu", False), Case(shape, torch.float32, "cpu", True)]


def test_nothing_is_measured_for_no_elements(monkeypatch):
    monkeypatch.setattr(swiglu_choice, "fastest", lambda each: pytest.fail("measured"))
    for _ in range(SEEN_BEFORE_MEASURING + 1):
        assert swiglu_choice.chosen(torch.zeros(0, 7), torch.zeros(0, 7)) == "eager"


def test_without_a_compiler_only_eager_is_there_on_the_cpu(monkeypatch):
    monkeypatch.setattr(swiglu_choice.shutil, "which", lambda name: None)
    monkeypatch.setattr(swiglu_choice.swiglu_native, "kernel", lambda: None)
    assert available("cpu") == ["eager"]


@needs_compiler
def test_native_is_there_for_float32_and_bfloat16_alone():
    there = {dtype: "native" in available("cpu", dtype) for dtype in (torch.float32, torch.bfloat16, torch.float16)}
    assert there == {torch.float32: True, torch.bfloat16: True, torch.float16: False}


def test_what_was_chosen_for_one_tensor_is_not_taken_for_another_type(monkeypatch):
    """A choice is by type: float64 of the same shape must not go to a float32 kernel."""
    monkeypatch.setattr(swiglu_choice, "fastest", lambda each: "native" if each.dtype == torch.float32 else "eager")
    monkeypatch.setattr(swiglu_choice.swiglu_native, "native_swiglu", lambda g, u: g.new_full(g.shape, 7.0))
    g, u = torch.randn(3, FEW), torch.randn(3, FEW)
    for _ in range(SEEN_BEFORE_MEASURING + 1):
        float(swiglu(g, u)[0, 0])
    torch.testing.assert_close(swiglu(g.double(), u.double()), F.silu(g.double()) * u.double())


@pytest.mark.parametrize("impl", ["auto", "eager"])
def test_a_core_by_name_computes_the_core(impl):
    g, u = torch.randn(4, 5), torch.randn(4, 5)
    torch.testing.assert_close(core(impl, "recompute")(g, u), F.silu(g) * u)


@pytest.mark.parametrize(
    ("flags", "chosen"),
    [
        pytest.param("avx avx2 bmi1 bmi2 f16c fma movbe avx512f avx512bw avx512cd avx512dq avx512vl", "v4", id="v4"),
        pytest.param("avx avx2 bmi1 bmi2 f16c fma movbe avx512f", "v3", id="half-of-v4"),
        pytest.param("sse4_2 avx", None, id="older"),
    ],
)
def test_a_processor_gets_the_highest_level_it_has(tmp_path, monkeypatch, flags, chosen):
    for level in native.LEVELS:
        (tmp_path / f"kernel-{level}.so").touch()
    monkeypatch.setattr("shared.models.native._processor", lambda: f"flags : {flags}".encode())
    found = native.shipped_for(Path("kernel.cpp"), tmp_path)
    assert (found and found.name) == (f"kernel-x86-64-{chosen}.so" if chosen else None)
