"""Hold the norm of each unit's weights below a limit, for weights that nothing else
keeps from growing.
"""

from nanfix.changes.layers import LayerAttributes
from nanfix.model.run import kernels
from nanfix.records.cause import Cause
from nanfix.records.plurals import counted
from nanfix.remedies.strategy import Strategy, Tier


class ConstrainWeights(Strategy):
    """After each step rescale every column w of a kernel to w * min(1, c / ||w||).

    Keras' MaxNorm constraint, on the kernels of all layers of weights; it stays with
    the layers and is saved with them. Searches c, mild to strong. Training starts again
    from the initial weights. Does not help when inputs or targets are so large that the
    weights have to be large or small to fit them.

    Reference: Srivastava et al. (2014), Dropout, JMLR 15, section 5.1 (max-norm regularization);
    keras.constraints.MaxNorm.
    """

    name = "constrain-weights"
    tier = Tier.ARCHITECTURE
    eases = frozenset(
        {
            Cause.EXPLODING_GRADIENT,
            Cause.LEARNING_RATE,
            Cause.UNSTABLE_ACTIVATION,
            Cause.UNSTABLE_RECURRENCE,
            Cause.BAD_INITIALIZATION,
        }
    )
    keeps_weights = False
    reference = "Srivastava et al. (2014), JMLR 15; keras.constraints.MaxNorm"

    def refusal(self, diagnosis, run, plan):
        if not _weighted(run) or any(
            "max_norm" in attributes for attributes in plan.of(LayerAttributes).attributes.values()
        ):
            return "no kernel is without a constraint"
        return None

    def space(self, hp, diagnosis, run, plan):
        return {"layers": _weighted(run), "max_norm": hp.Choice("max_norm", [4.0, 2.0])}

    def apply(self, run, plan, *, layers, max_norm):
        return plan.with_change(LayerAttributes.of(layers, max_norm=max_norm))

    def explain(self, params):
        return (
            f"Hold the weights of every unit below a norm of {params['max_norm']:g} in "
            f"{counted(len(params['layers']), 'layer')}."
        )

    def snippet(self, params):
        return (
            f"# kernel_constraint=keras.constraints.MaxNorm({params['max_norm']:g}) in "
            f"{', '.join(params['layers'])}"
        )


def _weighted(run) -> list[str]:
    """Return the addresses of layers that have kernels, none of them with a constraint."""
    found = {
        address: [getattr(layer, argument) for argument in kernels(layer).values()]
        for address, layer in run.members.items()
    }
    return [
        address for address, constraints in found.items() if constraints and not any(constraints)
    ]
