"""The skinny kernel against torch's product, its independence of neighbours, its cache, and life without a compiler."""

import platform
import shutil

import pytest
import torch

from shared.models.skinny_gemm import LEVELS, SOURCE, compile_levels, compiled, shipped_for

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    return compiled(tmp_path_factory.mktemp("kernels"))


@needs_compiler
@pytest.mark.parametrize("rows", [*range(1, 10), 17, 40])
@pytest.mark.parametrize(("inputs", "outputs"), [(16, 32), (128, 384), (344, 128), (7, 5), (64, 33), (1, 1)])
def test_products_are_torchs(kernel, rows, inputs, outputs):
    torch.manual_seed(rows)
    x, weight = torch.randn(rows, inputs), torch.randn(outputs, inputs)
    panels = kernel.pack(weight)
    expected = (x.double() @ weight.double().t()).float()
    torch.testing.assert_close(kernel.product(x, panels, outputs), expected, atol=1e-4, rtol=1e-5)
    onto = torch.ones(rows, outputs)
    assert kernel.product(x, panels, outputs, onto) is onto
    torch.testing.assert_close(onto, expected + 1, atol=1e-4, rtol=1e-5)


@needs_compiler
def test_a_row_is_the_same_bits_however_many_run_along(kernel):
    torch.manual_seed(0)
    x, panels = torch.randn(11, 130), kernel.pack(torch.randn(70, 130))
    whole = kernel.product(x, panels, 70)
    for rows in range(1, 11):
        for start in range(0, 12 - rows):
            assert torch.equal(kernel.product(x[start : start + rows], panels, 70), whole[start : start + rows])


@needs_compiler
def test_strided_rows_are_taken_as_they_are(kernel):
    wide, weight = torch.randn(5, 64), torch.randn(9, 32)
    found = kernel.product(wide[:, 32:], kernel.pack(weight), 9)
    torch.testing.assert_close(found, wide[:, 32:] @ weight.t(), atol=1e-5, rtol=1e-5)


@needs_compiler
def test_threads_change_no_bit(kernel):
    x, panels = torch.randn(3, 64), kernel.pack(torch.randn(500, 64))
    one = kernel.product(x, panels, 500)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    two = kernel.product(x, panels, 500)
    torch.set_num_threads(before)
    assert torch.equal(one, two)


@needs_compiler
def test_it_is_compiled_once_per_source_compiler_and_processor(tmp_path):
    compiled(tmp_path)
    (built,) = tmp_path.iterdir()
    changed = built.stat().st_mtime_ns
    compiled(tmp_path)
    assert [path.stat().st_mtime_ns for path in tmp_path.iterdir()] == [changed]


def test_without_a_compiler_the_plain_product_runs_and_says_so(tmp_path, monkeypatch):
    said = []
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert compiled(tmp_path, said.append) is None
    assert "no C++ compiler" in said[0]


def test_a_compiler_that_fails_leaves_the_plain_product(tmp_path, monkeypatch):
    said = []
    monkeypatch.setenv("CXX", "false")
    assert compiled(tmp_path, said.append) is None
    assert "could not be compiled" in said[0]
    assert list(tmp_path.glob("*.so")) == []


def test_the_source_ships_beside_its_module():
    assert "skinny_product" in SOURCE.read_text()


@needs_compiler
@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="compiled for levels of x86-64")
def test_without_a_compiler_the_best_kernel_that_came_along_computes(tmp_path, monkeypatch):
    libraries = compile_levels(tmp_path)
    assert [library.name for library in libraries] == ["skinny-x86-64-v4.so", "skinny-x86-64-v3.so"]
    monkeypatch.setattr("shared.models.skinny_gemm.SHIPPED", tmp_path)
    monkeypatch.setenv("CXX", "no-such-compiler")
    said: list[str] = []
    kernel = compiled(tmp_path / "cache", said.append)
    if kernel is None:
        pytest.skip(f"a processor older than x86-64-v3: {said}")
    x, weight = torch.randn(3, 130), torch.randn(70, 130)
    torch.testing.assert_close(kernel.product(x, kernel.pack(weight), 70), x @ weight.t(), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(
    ("flags", "chosen"),
    [
        pytest.param("avx avx2 bmi1 bmi2 f16c fma movbe avx512f avx512bw avx512cd avx512dq avx512vl", "v4", id="v4"),
        pytest.param("avx avx2 bmi1 bmi2 f16c fma movbe avx512f", "v3", id="half-of-v4"),
        pytest.param("sse4_2 avx", None, id="older"),
    ],
)
def test_a_processor_gets_the_highest_level_it_has(tmp_path, monkeypatch, flags, chosen):
    for level in LEVELS:
        (tmp_path / f"skinny-{level}.so").touch()
    monkeypatch.setattr("shared.models.skinny_gemm._processor", lambda: f"flags : {flags}".encode())
    found = shipped_for(tmp_path)
    assert (found and found.name) == (f"skinny-x86-64-{chosen}.so" if chosen else None)
