"""Put constants of optimizers and normalization layers back into the range in which
they mean something.
"""

from nanfix.changes.layers import LayerAttributes
from nanfix.changes.optimizer import OptimizerSettings
from nanfix.model.optimizers import divides_by_nothing, trained_optimizers, usual_rate
from nanfix.model.run import DECAYS, SMALLEST_EPSILON, fades, smallest_epsilon
from nanfix.records.cause import Cause
from nanfix.remedies.strategy import Strategy, Tier

# What Keras takes when nothing is said.
OPTIMIZER_DEFAULTS = {
    "epsilon": 1e-7,
    "momentum": 0.9,
    "rho": 0.9,
    "beta_1": 0.9,
    "beta_2": 0.999,
}
ACCUMULATOR, WEIGHT_DECAY = 0.1, 0.004
LAYER_DEFAULTS = {"epsilon": 1e-3, "momentum": 0.99}


class SaneConstants(Strategy):
    """Replace an epsilon too small to keep g / (sqrt(v) + epsilon) finite, or a decay outside [0,
    1), by Keras' default.

    In half precision an epsilon of 2.4e-4 is the least: the square of a smaller gradient is 0.
    So too an initial accumulator below 0, of which there is no root, or of 0 where nothing is added
    to that root before it divides, as in Ftrl; the accumulators are filled anew then. A negative
    learning rate, which climbs where it should descend, loses its sign and is at most Keras'
    default. And a weight decay d with which a step w - r * d * w at the learning rate r turns the
    weights over. Looks at the optimizer and at every normalization layer, and touches only what is
    out of range. A stronger level takes an epsilon 100 times the default. Does not help when all
    constants are in range.

    Reference: Kingma & Ba (2015), arXiv:1412.6980, section 2; Ioffe & Szegedy (2015),
    arXiv:1502.03167, Algorithm 1.
    """

    name = "sane-constants"
    tier = Tier.OPTIMIZER
    treats = frozenset(
        {Cause.OPTIMIZER_CONSTANT, Cause.BATCH_STATISTICS, Cause.INFERENCE_STATISTICS}
    )
    reference = "Kingma & Ba (2015), arXiv:1412.6980; Ioffe & Szegedy (2015), arXiv:1502.03167"

    def refusal(self, diagnosis, run, plan):
        return (
            None
            if _optimizer(run, plan, 1.0) or _layers(run, 1.0)
            else "every constant is in range"
        )

    def space(self, hp, diagnosis, run, plan):
        factor = hp.Choice("factor", [1.0, 100.0])
        return {"optimizer": _optimizer(run, plan, factor), "layers": _layers(run, factor)}

    def apply(self, run, plan, *, optimizer, layers):
        if optimizer:
            plan = plan.with_change(OptimizerSettings(optimizer))
        if "initial_accumulator_value" in optimizer:  # the accumulators have to be filled anew
            plan = plan.with_change(OptimizerSettings(fresh_moments=True))
        for address, constants in layers.items():
            plan = plan.with_change(LayerAttributes.of([address], **constants))
        return plan

    def explain(self, params):
        words = [
            f"the optimizer's {name} to {value:.3g}" for name, value in params["optimizer"].items()
        ]
        words += [
            f"{name} of layer {p} to {v:.3g}"
            for p, constants in params["layers"].items()
            for name, v in constants.items()
        ]
        return f"Set {' and '.join(words)}."

    def snippet(self, params):
        lines = [f"optimizer.{name} = {value:.3g}" for name, value in params["optimizer"].items()]
        lines += [
            f"# layer {p}: {name}={v:.3g}"
            for p, constants in params["layers"].items()
            for name, v in constants.items()
        ]
        return "\n".join(lines)


def _optimizer(run, plan, factor: float) -> dict[str, float]:
    constants: dict[str, float] = {}
    for optimizer in trained_optimizers(run.model):
        constants |= _replaced(optimizer, OPTIMIZER_DEFAULTS, factor, smallest_epsilon(run))
        if divides_by_nothing(optimizer):
            constants["initial_accumulator_value"] = ACCUMULATOR
    if run.has_one_rate and run.learning_rate is not None and run.learning_rate < 0:
        constants["learning_rate"] = min(-run.learning_rate, usual_rate(run.optimizers[0]))
    elif not 0 <= plan.of(OptimizerSettings).decay_of_a_step(run) < 1:
        constants["weight_decay"] = WEIGHT_DECAY
    return constants


def _layers(run, factor: float) -> dict[str, dict[str, float]]:
    found = {
        address: _replaced(layer, LAYER_DEFAULTS, factor, SMALLEST_EPSILON)
        for address, layer in run.members.items()
        if "Normalization" in type(layer).__name__
    }
    return {address: constants for address, constants in found.items() if constants}


def _replaced(owner, defaults: dict[str, float], factor: float, least: float) -> dict[str, float]:
    """Return the constants of `owner` that are out of range, with what to use instead; `least` is
    the smallest epsilon in range.
    """
    constants = {}
    for name, default in defaults.items():
        value = getattr(owner, name, None)
        if isinstance(value, float | int) and not _in_range(name, value, least):
            epsilon = factor * max(default, least)
            constants[name] = float(f"{epsilon:.3g}") if name == "epsilon" else default
    return constants


def _in_range(name: str, value: float, least: float) -> bool:
    return fades(value) if name in DECAYS else value >= least
