"""Every known fact of f_β(x) = x·σ(βx), found numerically from our own functions and held against its closed form.

W is Lambert-W(1/e), so that W·e^W = 1/e. Positions scale with 1/β, slopes stay, curvatures grow with β. `facts` is the
entry point.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from scipy import integrate, optimize, special
from torch import Tensor

from shared.models.silu import silu, silu_by_beta, silu_derivative, silu_second_derivative

W = float(special.lambertw(math.exp(-1)).real)
INFLECTION = 2.39935728051546767  # x·tanh(x/2) = 2
STEEPEST = 1.09983932012886692
LEAST_CURVATURE_AT, LEAST_CURVATURE = 3.43584099353511, -0.0369143731998932
Function = Callable[[float], float]


class Stated(NamedTuple):
    """A fact: what is stated, its closed form, and what was found."""

    name: str
    expected: float
    found: float


def facts(beta: float) -> Iterator[Stated]:
    """All of them, family by family."""
    for family in (derivatives, minimum, limits, symmetries, slopes, curvature, distance_to_relu):
        yield from family(beta)
    yield from gaussian_moments()
    yield from by_beta(beta)
    yield from neighbours()


def of(function: Callable[..., Tensor], beta: float = 1.0) -> Function:
    """A torch function at one float64 number."""
    return lambda x: float(function(torch.tensor(x, dtype=torch.float64), beta))


def grid(beta: float) -> Tensor:
    """−12/β … 12/β."""
    return torch.linspace(-12, 12, 4801, dtype=torch.float64) / beta


def lowest(function: Function, low: float, high: float) -> float:
    """Where a function is least between two places."""
    found = optimize.minimize_scalar(function, bounds=(low, high), method="bounded", options={"xatol": 1e-12})
    return float(found.x)


def root(function: Function, low: float, high: float) -> float:
    return float(optimize.brentq(function, low, high, xtol=1e-15, rtol=8.9e-16))


def derivatives(beta: float) -> Iterator[Stated]:
    """f′ and f″ against automatic differentiation, and at 0."""
    x = grid(beta).requires_grad_()
    (slope,) = torch.autograd.grad(silu(x, beta).sum(), x, create_graph=True)
    (curve,) = torch.autograd.grad(slope.sum(), x)
    first, second = silu_derivative(x.detach(), beta), silu_second_derivative(x.detach(), beta)
    yield Stated(
        "f′ = σ(1 + βx(1 − σ)): largest difference to autograd", 0.0, float((slope.detach() - first).abs().max())
    )
    yield Stated("f″ = βσ(1 − σ)(2 + βx(1 − 2σ)): largest difference to autograd", 0.0,
                 float((curve - second).abs().max()) / beta)  # fmt: skip
    yield Stated("f′(0) = 1/2", 0.5, of(silu_derivative, beta)(0.0))
    yield Stated("f″(0) = β/2", beta / 2, of(silu_second_derivative, beta)(0.0))


def minimum(beta: float) -> Iterator[Stated]:
    """The only stationary point, by the root of f′."""
    slope, f = of(silu_derivative, beta), of(silu, beta)
    at = root(slope, -2 / beta, -0.5 / beta)
    x, signs = grid(beta), torch.sign(silu_derivative(grid(beta), beta))
    yield Stated("minimum at x* = −(1 + W)/β", -(1 + W) / beta, at)
    yield Stated("f(x*) = −W/β", -W / beta, f(at))
    yield Stated("f(x*) = x* + 1/β", at + 1 / beta, f(at))
    yield Stated("f″(x*) = 0.217811705719800·β", 0.2178117057198 * beta, of(silu_second_derivative, beta)(at))
    yield Stated("stationary points", 1.0, float((signs[1:] != signs[:-1]).sum()))
    yield Stated(
        "falls before x*: share of slopes below 0", 1.0, float((signs[x < at - 1e-9 / beta] < 0).double().mean())
    )
    yield Stated(
        "rises after x*: share of slopes above 0", 1.0, float((signs[x > at + 1e-9 / beta] > 0).double().mean())
    )
    yield Stated("least value of a grid is not below −W/β", 0.0, float((silu(x, beta) + W / beta).clamp(max=0).min()))


def limits(beta: float) -> Iterator[Stated]:
    """f → 0 from below on the left, f − x → 0 from below on the right."""
    left, right = -200 / beta, 30 / beta
    f = of(silu, beta)
    yield Stated("f(−200/β) → 0", 0.0, f(left))
    yield Stated("f stays below 0 on the left: sign of f(−200/β)", -1.0, math.copysign(1.0, f(left)))
    yield Stated("f(30/β) − 30/β → 0", 0.0, (f(right) - right) * beta)
    yield Stated("f stays below x on the right: sign", -1.0, math.copysign(1.0, f(right) - right))


def symmetries(beta: float) -> Iterator[Stated]:
    """Largest departures from the identities."""
    x = grid(beta)
    f, mirrored = silu(x, beta), silu(-x, beta)
    slope, curve = silu_derivative, silu_second_derivative
    identities = {
        "f(x) − f(−x) = x": f - mirrored - x,
        "f(x) + f(−x) = x·tanh(βx/2)": f + mirrored - x * torch.tanh(beta * x / 2),
        "f′(x) + f′(−x) = 1": slope(x, beta) + slope(-x, beta) - 1,
        "f″ is even": (curve(x, beta) - curve(-x, beta)) / beta,
        "f_−β(x) = x − f_β(x)": silu(x, -beta) - (x - f),
    }
    for name, departure in identities.items():
        yield Stated(f"{name}: largest departure", 0.0, float(departure.abs().max()))
    yield Stated("f((1 + W)/β) = 1/β", 1 / beta, of(silu, beta)((1 + W) / beta))


def slopes(beta: float) -> Iterator[Stated]:
    """Extrema of f′, which are the inflections of f; the Lipschitz constant."""
    slope, curve = of(silu_derivative, beta), of(silu_second_derivative, beta)
    right, left = root(curve, 2 / beta, 3 / beta), root(curve, -3 / beta, -2 / beta)
    yield Stated("f′ is greatest at 2.399357…/β", INFLECTION / beta, right)
    yield Stated("f′ is least at −2.399357…/β", -INFLECTION / beta, left)
    yield Stated("greatest f′", STEEPEST, slope(right))
    yield Stated("least f′", 1 - STEEPEST, slope(left))
    x = grid(beta)
    steepest = lowest(lambda at: -abs(slope(at)), 1 / beta, 4 / beta)
    found = max(abs(slope(steepest)), float(silu_derivative(x, beta).abs().max()))
    yield Stated("Lipschitz constant of f", STEEPEST, found)
    inside = silu_second_derivative(x[(x > left) & (x < right)], beta) > 0
    outside = silu_second_derivative(x[(x < left) | (x > right)], beta) < 0
    yield Stated("convex between the inflections: share", 1.0, float(inside.double().mean()))
    yield Stated("concave outside: share", 1.0, float(outside.double().mean()))


def curvature(beta: float) -> Iterator[Stated]:
    """Extrema of f″: the Lipschitz constant of f′, and the least curvature."""
    curve = of(silu_second_derivative, beta)
    x = grid(beta)
    greatest = max(curve(0.0), float(silu_second_derivative(x, beta).abs().max()))
    at = lowest(curve, 2.5 / beta, 5 / beta)
    yield Stated("Lipschitz constant of f′ = β/2", beta / 2, greatest)
    yield Stated("least f″", LEAST_CURVATURE * beta, curve(at))
    # At a minimum a search by values finds the place to about the root of machine precision; f‴ changes sign there.
    h = 1e-4 / beta
    third = optimize.brentq(lambda x: curve(x + h) - curve(x - h), 3 / beta, 4 / beta, xtol=1e-14)
    yield Stated("least f″ at ±3.435841…/β, to 7 digits", round(LEAST_CURVATURE_AT, 7), round(float(third) * beta, 7))


def distance_to_relu(beta: float) -> Iterator[Stated]:
    """Largest |f − ReLU| and where."""
    f = of(silu, beta)
    right = root(lambda x: of(silu_derivative, beta)(x) - 1, 0.5 / beta, 2 / beta)  # d(x − f)/dx = 0
    yield Stated("largest distance to ReLU = W/β", W / beta, right - f(right))
    yield Stated("at (1 + W)/β", (1 + W) / beta, right)
    x = grid(beta)
    everywhere = float((silu(x, beta) - torch.relu(x)).abs().max())
    yield Stated("no point of a grid is farther: excess", 0.0, max(0.0, everywhere - W / beta))


def gaussian_moments() -> Iterator[Stated]:
    """Of x ~ N(0, 1), β = 1."""
    f, slope = of(silu), of(silu_derivative)
    mean, square = expectation(f), expectation(lambda x: f(x) ** 2)
    yield Stated("E f, x ~ N(0,1)", 0.206620964141907, mean)
    yield Stated("E f²", 0.355775519817352, square)
    yield Stated("Var f", 0.313083296994421, square - mean**2)
    yield Stated("E f′ = 1/2", 0.5, expectation(slope))
    yield Stated("E f′²", 0.379482351632829, expectation(lambda x: slope(x) ** 2))
    yield Stated("gain 1/√E f²", 1.67653247033109, square**-0.5)
    yield Stated("gain 1/√Var f", 1.78718722210044, (square - mean**2) ** -0.5)


def expectation(function: Function) -> float:
    """Over N(0, 1), by quadrature."""
    density = 1 / math.sqrt(2 * math.pi)

    def weighted(x: float) -> float:
        return function(x) * density * math.exp(-x * x / 2)

    return float(integrate.quad(weighted, -14, 14, epsabs=1e-14, epsrel=1e-13, limit=400, points=[0.0])[0])


def by_beta(beta: float) -> Iterator[Stated]:
    """How f depends on β."""
    x = grid(beta)
    yield Stated("f_β(x) = f(βx)/β: largest departure", 0.0, float((silu(x, beta) - silu(beta * x) / beta).abs().max()))
    h = 1e-5 * beta
    slope = (silu(x, beta + h) - silu(x, beta - h)) / (2 * h)
    departure = float((slope - silu_by_beta(x, beta)).abs().max()) * beta**2
    yield Stated("∂f/∂β = x²σ(1 − σ): largest departure from differences, to 8 digits", 0.0, round(departure, 8))
    near, far = silu(x, 1e-12 * beta) - x / 2, silu(x, 1e12 * beta) - torch.relu(x)
    yield Stated("β → 0: x/2", 0.0, float(near.abs().max()) * beta)
    yield Stated("β → ∞: ReLU", 0.0, float(far.abs().max()) * beta)
    for other, at, value in ((0.1, -12.7846454276107380, -2.7846454276107380), (2.0, -0.63923227138053690,
                                                                             -0.13923227138053690)):  # fmt: skip
        found = root(of(silu_derivative, other), -2 / other, -0.5 / other)
        yield Stated(f"β = {other:g}: minimum at", at, found)
        yield Stated(f"β = {other:g}: minimum", value, of(silu, other)(found))


def neighbours() -> Iterator[Stated]:
    """GELU and Mish beside it, β = 1."""
    at = root(gelu_slope, -2, -0.1)
    yield Stated("GELU's minimum at", -0.751791524693565, at)
    yield Stated("GELU's minimum", -0.169971207479904, gelu(at))
    yield Stated("GELU's greatest slope, at √2", 1.12890414518515, gelu_slope(math.sqrt(2)))
    at = root(mish_slope, -2, -0.5)
    yield Stated("Mish's minimum at", -1.19243121451550, at)
    yield Stated("Mish's minimum", -0.308843413017250, mish(at))
    steepest = lowest(lambda x: -mish_slope(x), 0.5, 3)
    yield Stated("Mish's greatest slope", 1.08849816125173, mish_slope(steepest))
    f = of(silu)
    at = lowest(lambda x: -abs(f(x) - gelu(x)), 1, 4)
    yield Stated("largest |SiLU − GELU|, to 5 digits", 0.193, round(abs(f(at) - gelu(at)), 5))
    at = lowest(lambda x: -abs(x * _sigma(1.702 * x) - gelu(x)), 1.5, 4)
    yield Stated("largest |xσ(1.702x) − GELU|, to 5 digits", 0.02033, round(abs(at * _sigma(1.702 * at) - gelu(at)), 5))


def _sigma(x: float) -> float:
    return float(special.expit(x))


def gelu(x: float) -> float:
    """x·Φ(x)."""
    return x * float(special.ndtr(x))


def gelu_slope(x: float) -> float:
    """Φ(x) + x·φ(x)."""
    return float(special.ndtr(x)) + x * math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def mish(x: float) -> float:
    """x·tanh(softplus(x))."""
    return x * math.tanh(math.log1p(math.exp(x)))


def mish_slope(x: float) -> float:
    """t + x·σ(x)(1 − t²), t = tanh(softplus(x))."""
    t = math.tanh(math.log1p(math.exp(x)))
    return t + x * _sigma(x) * (1 - t * t)
