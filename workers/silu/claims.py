"""Popular claims about SiLU beside the numbers. What only data can say is `silu.compare`'s."""

from shared.jobs.catalog.silu import Claim
from shared.models.silu import silu, silu_derivative
from workers.silu.facts import expectation, of, root


def claims(beta: float) -> list[Claim]:
    """Each with what was found."""
    f, slope = of(silu, beta), of(silu_derivative, beta)
    mean = expectation(f)
    steepest = slope(2.39935728051546767 / beta)
    at = root(slope, -2 / beta, -0.5 / beta)
    return [
        _claim(
            "SiLU is zero-centred", abs(mean) < 1e-6, f"f(0) = 0, but for x ~ N(0,1) the mean output is {mean:+.4f}"
        ),
        _claim("SiLU is 1-Lipschitz", steepest <= 1, f"its slope reaches {steepest:.4f}"),
        _claim("SiLU is monotone", False, f"it falls until x = {at:.4f}, where it is {f(at):.4f}"),
        _claim("SiLU is bounded below", True, f"by {f(at):.4f}"),
        _claim("SiLU is smooth", True, f"its slope is Lipschitz with {beta / 2:g}, and it has every derivative"),
        _claim(
            "SiLU was first proposed by Google in 2017",
            False,
            "Hendrycks and Gimpel named it in 2016 (arXiv 1606.08415), Elfwing et al. in February 2017 (1702.03118); "
            "Ramachandran et al. (1710.05941) found it again and added β",
        ),
    ]


def _claim(text: str, is_true: bool, evidence: str) -> Claim:
    return Claim(claim=text, verdict="true" if is_true else "false", evidence=evidence)
