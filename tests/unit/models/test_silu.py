"""SiLU, its derivatives and the SwiGLU core against worked numbers, identities and float64."""

import math
import shutil
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from shared.models import swiglu_native
from shared.models.silu import (
    RecomputedSwiglu,
    ffn_width,
    silu,
    silu_by_beta,
    silu_derivative,
    silu_second_derivative,
    swiglu,
)
from shared.models.swiglu_choice import SEEN_BEFORE_MEASURING, Case, available, chosen, has_triton

W = 0.278464542761073795
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
needs_triton = pytest.mark.skipif(not has_triton(), reason="no CUDA device, or the package triton is missing")
# torch.compile itself warns through the modules that it loads
compiles = [needs_compiler, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize(
    ("x", "f", "slope", "curve"),
    [
        pytest.param(-10, -0.000453978687024, -0.000408560208657, -0.000363125244429, id="-10"),
        pytest.param(-2, -0.238405844044, -0.0907842487849, 0.0500621686947, id="-2"),
        pytest.param(-1, -0.268941421370, 0.0723294881285, 0.302366118810, id="-1"),
        pytest.param(0.5, 0.311229665601, 0.739961187303, 0.441229026977, id="0.5"),
        pytest.param(1, 0.731058578630, 0.927670511871, 0.302366118810, id="1"),
        pytest.param(5, 4.966535745380, 1.02654743243, -0.01949922549, id="5"),
    ],
)
def test_value_and_derivatives_are_those_worked_to_thirty_digits(x, f, slope, curve):
    at = torch.tensor(float(x), dtype=torch.float64)
    assert float(silu(at)) == pytest.approx(f, rel=1e-11)
    assert float(silu_derivative(at)) == pytest.approx(slope, rel=1e-11)
    assert float(silu_second_derivative(at)) == pytest.approx(curve, rel=1e-9)


@pytest.mark.parametrize(
    ("beta", "at", "value"), [(0.1, -12.78464543, -2.784645428), (1.0, -1 - W, -W), (2.0, -0.6392322714, -0.1392322714)]
)
def test_the_minimum_moves_with_beta(beta, at, value):
    x = torch.tensor(at, dtype=torch.float64)
    assert float(silu(x, beta)) == pytest.approx(value, abs=1e-9)
    assert float(silu_derivative(x, beta)) == pytest.approx(0, abs=1e-8)


def test_the_derivative_by_beta_is_that_of_differences():
    x = torch.linspace(-5, 5, 41, dtype=torch.float64)
    difference = (silu(x, 1.5 + 1e-6) - silu(x, 1.5 - 1e-6)) / 2e-6
    torch.testing.assert_close(silu_by_beta(x, 1.5), difference, atol=1e-8, rtol=0)


def test_far_values_stay_finite_and_on_their_side():
    x = torch.tensor([-104.0, 88.0, 1e4])
    low, *high = silu(x).tolist()
    assert math.isfinite(low)
    assert low <= 0
    assert abs(low) < 1e-37
    assert high == [88.0, 1e4]


def test_infinities_take_their_limits_and_nan_stays_nan():
    x = torch.tensor([-math.inf, math.inf, math.nan], requires_grad=True)
    value = silu(x)
    value[:2].sum().backward()
    assert value[:2].tolist() == [0.0, math.inf]
    assert value[2].isnan()
    assert x.grad[:2].tolist() == [0.0, 1.0]
    assert F.silu(torch.tensor(-math.inf)).isnan()  # what torch's own gives


def test_halves_do_not_underflow_to_zero():
    x = torch.tensor([-12.0], dtype=torch.float16)
    assert float(silu(x)) == pytest.approx(-7.37e-5, rel=0.01)
    naive = x / (1 + torch.exp(-x))
    assert float(naive) == 0.0  # exp(12) is beyond float16


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (2, 3, 7), (0, 4)], ids=str)
@pytest.mark.parametrize("strided", [False, True], ids=["contiguous", "strided"])
def test_gradients_of_both_orders_are_right_in_double_precision(shape, strided):
    def leaf():
        x = torch.randn(*shape[:-1], 2 * shape[-1], dtype=torch.float64)[..., :: 2 if strided else 1]
        return x[..., : shape[-1]].detach().requires_grad_()

    g, u = leaf(), leaf()
    assert torch.autograd.gradcheck(silu, (g,))
    assert torch.autograd.gradgradcheck(silu, (g,))
    for core in (RecomputedSwiglu.apply, lambda a, b: swiglu(a, b, "eager")):
        assert torch.autograd.gradcheck(core, (g, u))
        assert torch.autograd.gradgradcheck(core, (g, u))


CORE = (torch.tensor([1.0, -1, 2]), torch.tensor([0.5, 2, -1]), torch.ones(3))


@pytest.mark.parametrize(
    "impl",
    [
        "eager",
        "plain formulas",
        pytest.param("compile", marks=compiles),
        pytest.param("native", marks=needs_compiler),
        pytest.param("triton", marks=needs_triton),
    ],
)
def test_the_swiglu_core_is_that_worked_by_hand(impl):
    device = "cuda" if impl == "triton" else "cpu"
    g, u, grad = (x.to(device) for x in CORE)
    g, u = g.clone().requires_grad_(), u.clone().requires_grad_()
    out = RecomputedSwiglu.apply(g, u) if impl == "plain formulas" else swiglu(g, u, impl)
    dg, du = torch.autograd.grad(out, (g, u), grad)
    for found, expected in (
        (out, [0.365529289315, -0.537882842740, -1.761594155956]),
        (du, [0.731058578630, -0.268941421370, 1.761594155956]),
        (dg, [0.463835255936, 0.144658976257, -1.090784248785]),
    ):
        torch.testing.assert_close(found.detach().cpu(), torch.tensor(expected), atol=1e-6, rtol=0)


FUSED = [
    pytest.param("compile", marks=compiles),
    pytest.param("native", marks=needs_compiler),
    pytest.param("triton", marks=needs_triton),
]


@pytest.mark.parametrize("impl", FUSED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_fused_forms_are_within_tolerance_of_float64_in_both_directions(impl, dtype):
    device = "cuda" if impl == "triton" else "cpu"
    if impl not in available(device, dtype):
        pytest.skip(f"{impl} has no {dtype}")
    torch.manual_seed(0)
    both = torch.randn(37, 2 * 50, device=device).to(dtype)
    g, u = (half.detach().requires_grad_() for half in both.chunk(2, dim=-1))  # strided views of one product
    grad = torch.randn(37, 50, device=device).to(dtype)
    out = swiglu(g, u, impl)
    dg, du = torch.autograd.grad(out, (g, u), grad)
    wide = [x.detach().double().requires_grad_() for x in (g, u)]
    exact = F.silu(wide[0]) * wide[1]
    slopes = torch.autograd.grad(exact, wide, grad.double())
    bound = {torch.float32: 4e-6, torch.bfloat16: 2**-8, torch.float16: 2**-10}[dtype]
    for found, expected in ((out, exact), (dg, slopes[0]), (du, slopes[1])):
        torch.testing.assert_close(found.double(), expected.detach(), atol=bound, rtol=bound)


@pytest.mark.parametrize("impl", FUSED)
def test_backward_may_run_twice_and_be_differentiated(impl):
    device = "cuda" if impl == "triton" else "cpu"
    g, u = (torch.randn(4, 6, device=device, requires_grad=True) for _ in "gu")
    out = swiglu(g, u, impl)
    kept = g.detach().clone(), u.detach().clone()
    first = torch.autograd.grad(out.sum(), (g, u), retain_graph=True, create_graph=True)
    second = torch.autograd.grad(out.sum(), (g, u), retain_graph=True)
    torch.testing.assert_close(first, second)
    assert torch.equal(g.detach(), kept[0])  # saved tensors are never overwritten
    assert torch.equal(u.detach(), kept[1])
    (curve,) = torch.autograd.grad(first[0].sum(), g)
    torch.testing.assert_close(curve, u * silu_second_derivative(g), atol=1e-5, rtol=1e-5)


# C++ ------------------------------------------------------------------------------------------------------------------


@needs_compiler
def test_native_values_are_as_near_to_the_truth_as_torchs_over_the_whole_range():
    g = torch.cat((torch.linspace(-100, 100, 4001), torch.tensor([-3e38, -88.5, -87.0, 0.0, 1e-30, 3e38])))
    found = swiglu(g, torch.ones_like(g), "native").double()
    exact = F.silu(g.double())
    assert ((found - exact).abs() <= 3e-7 * exact.abs() + 1e-35).all()


@needs_compiler
def test_native_takes_the_limits_that_torch_does():
    g = torch.tensor([math.inf, math.nan, -math.inf])
    for dtype in (torch.float32, torch.bfloat16):
        found = swiglu(g.to(dtype), torch.ones(3, dtype=dtype), "native").tolist()
        assert found[0] == math.inf
        assert all(math.isnan(value) for value in found[1:])


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_an_elements_bits_are_the_same_wherever_it_stands(dtype):
    torch.manual_seed(0)
    g, u, grad = (torch.randn(67).to(dtype) for _ in "gud")
    core = swiglu_native.kernel()
    whole, slopes = core.forward(g, u), core.backward(g, u, grad)
    for first, last in ((0, 1), (3, 20), (50, 67), (1, 66)):
        part = slice(first, last)
        assert torch.equal(core.forward(g[part], u[part]), whole[part])
        again = core.backward(g[part], u[part], grad[part])
        assert all(torch.equal(own, other[part]) for own, other in zip(again, slopes, strict=True))


@needs_compiler
@pytest.mark.parametrize("shape", [(2, 3, 7), (5, 1), (0, 4), ()], ids=str)
def test_native_takes_any_shape_and_strided_views_without_changing_a_bit(shape):
    torch.manual_seed(0)
    g, u = (torch.randn(*shape[:-1], 2 * shape[-1])[..., ::2] if shape else torch.randn(()) for _ in "gu")
    plain = swiglu(g.contiguous(), u.contiguous(), "native")
    assert torch.equal(swiglu(g, u, "native"), plain)
    assert plain.shape == g.shape
    torch.testing.assert_close(plain, F.silu(g) * u)


@needs_compiler
def test_threads_share_the_elements_and_change_no_bit():
    g, u = torch.randn(8, 33), torch.randn(8, 33)
    one = swiglu(g, u, "native")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    two = swiglu(g, u, "native")
    torch.set_num_threads(before)
    assert torch.equal(one, two)


@needs_compiler
def test_bfloat16_is_rounded_to_the_nearest_ties_to_even():
    torch.manual_seed(0)
    g, u = torch.randn(1 << 14).bfloat16(), torch.randn(1 << 14).bfloat16()
    exact = (F.silu(g.float()) * u.float()).bfloat16()
    assert float((swiglu(g, u, "native") != exact).double().mean()) < 0.001  # σ's last bit aside


def test_native_without_a_compiler_or_on_another_type_says_so(monkeypatch):
    with pytest.raises(RuntimeError, match="impl native needs a C\\+\\+ compiler"):
        swiglu(torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64), "native")
    monkeypatch.setattr(swiglu_native, "kernel", lambda: None)
    assert "native" not in available("cpu")
    with pytest.raises(RuntimeError, match="use eager or compile"):
        swiglu(torch.zeros(2), torch.zeros(2), "native")


def test_inside_a_compiled_function_auto_is_the_two_operations(monkeypatch):
    """Whoever compiles around it fuses it: no measuring, no call out of the graph."""
    monkeypatch.setattr(torch, "compiler", SimpleNamespace(is_compiling=lambda: True))
    monkeypatch.setattr("shared.models.swiglu_choice.fastest", lambda case: pytest.fail("measured"))
    g, u = torch.randn(4, 1024), torch.randn(4, 1024)
    for _ in range(SEEN_BEFORE_MEASURING + 1):
        torch.testing.assert_close(swiglu(g, u), F.silu(g) * u)


def test_one_rounding_is_nearer_to_the_truth_than_two_in_bfloat16():
    torch.manual_seed(0)
    g, u = (torch.randn(1 << 16).bfloat16() for _ in "gu")
    exact = F.silu(g.double()) * u.double()

    def error(out):
        return float(((out.double() - exact) / exact.abs().clamp(min=1e-30)).pow(2).mean().sqrt())

    once, twice = RecomputedSwiglu.apply(g, u), F.silu(g) * u
    assert error(once) < 0.8 * error(twice)
    assert float((once != twice).double().mean()) > 0.2  # the specification measured 27 %


def test_recomputing_saves_two_tensors_where_eager_saves_three():
    def saved(run):
        kept = {}
        g, u = (torch.randn(8, 8, requires_grad=True) for _ in "gu")
        with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.setdefault(x.data_ptr(), x), lambda x: x):
            run(g, u)
        return len(kept)

    assert saved(RecomputedSwiglu.apply) == 2
    assert saved(lambda g, u: swiglu(g, u, "eager")) == 3


def test_decoding_takes_the_form_in_place_and_leaves_its_inputs_alone():
    g, u = torch.randn(1, 8), torch.randn(1, 8)
    before = g.clone()
    with torch.no_grad():
        torch.testing.assert_close(swiglu(g, u, "eager"), F.silu(before) * u)
    assert torch.equal(g, before)


def test_unlike_shapes_are_refused_with_both():
    with pytest.raises(ValueError, match=r"gate \(2, 3\) and up \(2, 4\)"):
        swiglu(torch.zeros(2, 3), torch.zeros(2, 4))
    with torch.no_grad(), pytest.raises(ValueError, match="must have one shape"):
        swiglu(torch.zeros(2, 3), torch.zeros(2, 4))
    with torch.no_grad(), pytest.raises(RuntimeError, match=r"shape|size"):
        swiglu(torch.zeros(2, 3), torch.zeros(3, 2))


@pytest.mark.filterwarnings("ignore")
def test_auto_waits_for_a_shape_to_come_back_and_then_takes_what_it_measured(monkeypatch):
    measured = []
    monkeypatch.setattr("shared.models.swiglu_choice.fastest", lambda case: measured.append(case) or "eager")
    g, u = torch.randn(3, 1111), torch.randn(3, 1111)
    for _ in range(SEEN_BEFORE_MEASURING - 1):
        torch.testing.assert_close(swiglu(g, u), F.silu(g) * u)
    assert measured == []
    for _ in range(3):
        torch.testing.assert_close(swiglu(g, u), F.silu(g) * u)
    assert measured == [Case((3, 1111), torch.float32, "cpu", False)]
    swiglu(g.requires_grad_(), u)  # trained, it is another case
    assert chosen(g, u) == "eager"


def test_few_elements_are_never_measured(monkeypatch):
    monkeypatch.setattr("shared.models.swiglu_choice.fastest", lambda case: pytest.fail("measured"))
    g, u = torch.randn(2, 8), torch.randn(2, 8)
    for _ in range(SEEN_BEFORE_MEASURING + 1):
        torch.testing.assert_close(swiglu(g, u), F.silu(g) * u)


def test_what_cannot_run_here_says_so():
    if "triton" in available("cpu") or has_triton():
        pytest.skip("Triton is here")
    with pytest.raises(RuntimeError, match="use eager or compile"):
        swiglu(torch.zeros(2), torch.zeros(2), "triton")


@pytest.mark.parametrize(
    ("d", "multiple", "factor", "width"),
    [
        pytest.param(4096, 256, 1.0, 11008, id="llama-7b"),
        pytest.param(5120, 256, 1.0, 13824, id="llama-13b"),
        pytest.param(256, 16, 1.0, 688, id="small"),
        pytest.param(8192, 4096, 1.3, 28672, id="llama-2-70b"),
    ],
)
def test_gated_blocks_are_as_wide_as_llamas(d, multiple, factor, width):
    assert ffn_width(d, multiple, factor) == width
