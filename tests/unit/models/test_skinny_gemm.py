"""The skinny kernel against torch's product, its independence of neighbours, its cache, and life without a compiler."""

import platform
import shutil

import pytest
import torch

from shared.models import native
from shared.models.skinny_gemm import SOURCE, compiled

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
@pytest.mark.parametrize("inputs", [1, 7, 16, 130])
def test_rows_are_divided_by_their_rms_before_the_product(kernel, inputs):
    torch.manual_seed(0)
    x, weight = 5 * torch.randn(9, inputs), torch.randn(40, inputs)
    normed = torch.nn.functional.rms_norm(x.double(), (inputs,), None, 1e-5)
    whole = kernel.product(x, kernel.pack(weight), 40, eps=1e-5)
    torch.testing.assert_close(whole, (normed @ weight.double().t()).float(), atol=2e-5, rtol=2e-5)
    for row in range(9):
        assert torch.equal(kernel.product(x[row : row + 1], kernel.pack(weight), 40, eps=1e-5), whole[row : row + 1])


def attention(rows, start, heads, keys, lanes_wide, kernel):
    """(q, k, v, what torch says) over a cache whose later rows are NaN."""
    torch.manual_seed(rows + start)
    width, positions = lanes_wide * kernel.lanes, start + rows + 3
    wide = torch.randn(rows, heads + keys, width)
    k, v = torch.randn(keys, positions, width), torch.randn(keys, positions, width)
    k[:, start + rows :] = v[:, start + rows :] = float("nan")
    seen = torch.arange(start + rows) <= start + torch.arange(rows)[:, None]
    expected = torch.nn.functional.scaled_dot_product_attention(
        wide[:, :heads].transpose(0, 1).double(), k[:, : start + rows].double().repeat_interleave(heads // keys, 0),
        v[:, : start + rows].double().repeat_interleave(heads // keys, 0), attn_mask=seen, scale=1.0,
    )  # fmt: skip
    return wide[:, :heads], k, v, expected.transpose(0, 1).flatten(1).float()


@needs_compiler
@pytest.mark.parametrize(("rows", "start"), [(1, 0), (1, 40), (5, 0), (7, 129), (31, 2)])
@pytest.mark.parametrize(("heads", "keys", "lanes_wide"), [(4, 4, 1), (4, 2, 2), (6, 1, 3)])
def test_few_rows_attend_as_torchs_do_and_see_nothing_later(kernel, rows, start, heads, keys, lanes_wide):
    q, k, v, expected = attention(rows, start, heads, keys, lanes_wide, kernel)
    torch.testing.assert_close(kernel.attend(q, k, v, start), expected, atol=1e-5, rtol=1e-4)


@needs_compiler
def test_a_rows_attention_is_the_same_bits_however_many_run_along(kernel):
    q, k, v, _ = attention(9, 20, 4, 2, 2, kernel)
    whole = kernel.attend(q, k, v, 20)
    for row in range(9):
        assert torch.equal(kernel.attend(q[row : row + 1], k, v, 20 + row), whole[row : row + 1])


@needs_compiler
def test_far_scores_do_not_leave_the_floats(kernel):
    q, k, v, _ = attention(2, 30, 2, 2, 1, kernel)
    scores = torch.einsum("hw,hpw->hp", q[0], k[:, :31])
    found = kernel.attend(1e4 * q, k, v, 30)[0].view(2, -1)
    torch.testing.assert_close(found, v[torch.arange(2), scores.argmax(-1)])  # all weight on the greatest


@needs_compiler
def test_threads_share_heads_and_change_no_bit(kernel):
    q, k, v, _ = attention(3, 50, 6, 2, 1, kernel)
    one = kernel.attend(q, k, v, 50)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    two = kernel.attend(q, k, v, 50)
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
    libraries = native.compile_levels(SOURCE, tmp_path)
    assert [library.name for library in libraries] == ["skinny_gemm-x86-64-v4.so", "skinny_gemm-x86-64-v3.so"]
    monkeypatch.setattr("shared.models.native.SHIPPED", tmp_path)
    monkeypatch.setenv("CXX", "no-such-compiler")
    said: list[str] = []
    kernel = compiled(tmp_path / "cache", said.append)
    if kernel is None:
        pytest.skip(f"a processor older than x86-64-v3: {said}")
    x, weight = torch.randn(3, 130), torch.randn(70, 130)
    torch.testing.assert_close(kernel.product(x, kernel.pack(weight), 70), x @ weight.t(), atol=1e-4, rtol=1e-5)
