"""Hold the norm of each unit's weights below a limit, for weights that nothing else
keeps from growing.
"""

from nanfix.changes.layers import LayerAttributes
from nanfix.model.constraints import held_by_constraints, kernels
from nanfix.model.crossentropies import has_negative_shares
from nanfix.records.cause import Cause
from nanfix.records.plurals import counted
from nanfix.remedies.strategy import Strategy, Tier


class ConstrainWeights(Strategy):
    """After each step rescale every column w of a kernel to w * min(1, c / ||w||).

    Keras' MaxNorm constraint, on the kernels of all layers of weights; it stays with
    the layers and is saved with them. Searches c, mild to strong. Training starts again
    from the initial weights. Under a loss without a lower bound, as a critic's, biases and gains
    are held, too: else these grow in their place. Of a model with several optimizers the parts are
    held whose weights had grown. Does not help when inputs or targets are so large that the
    weights have to be large or small to fit them.

    Reference: Srivastava et al. (2014), Dropout, JMLR 15, section 5.1 (max-norm regularization);
    Arjovsky et al. (2017), Wasserstein GAN, arXiv:1701.07875, section 3; keras.constraints.MaxNorm.
    """

    name = "constrain-weights"
    tier = Tier.ARCHITECTURE
    treats = frozenset({Cause.NO_LOWER_BOUND})
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
    reference = (
        "Srivastava et al. (2014), JMLR 15; Arjovsky et al. (2017), arXiv:1701.07875; "
        "keras.constraints.MaxNorm"
    )

    def refusal(self, diagnosis, run, plan):
        if not _free(diagnosis, run) or any(
            {"max_norm", "max_norm_of_all"} & {*attributes}
            for attributes in plan.of(LayerAttributes).attributes.values()
        ):
            return "no weight is without a constraint"
        if _of_all(diagnosis) and has_negative_shares(run.user_loss, run.sample.targets):
            return "labels below 0 stay what the loss falls with, however small the weights are"
        beyond = _beyond(diagnosis, run) if _of_all(diagnosis) else None
        return beyond and f"no constraint of Keras holds the weights of layer {beyond}"

    def space(self, hp, diagnosis, run, plan):
        return {
            "layers": _free(diagnosis, run),
            "max_norm": hp.Choice("max_norm", [4.0, 2.0]),
            "of_all": _of_all(diagnosis),
        }

    def apply(self, run, plan, *, layers, max_norm, of_all=False):
        name = "max_norm_of_all" if of_all else "max_norm"
        return plan.with_change(LayerAttributes.of(layers, **{name: max_norm}))

    def explain(self, params):
        what = "weights, biases too," if params.get("of_all") else "weights"
        return (
            f"Hold the {what} of every unit below a norm of {params['max_norm']:g} in "
            f"{counted(len(params['layers']), 'layer')}."
        )

    def snippet(self, params):
        norm = f"keras.constraints.MaxNorm({params['max_norm']:g})"
        bias = f", bias_constraint={norm}" if params.get("of_all") else ""
        return f"# kernel_constraint={norm}{bias} in {', '.join(params['layers'])}"


def _of_all(diagnosis) -> bool:
    return Cause.NO_LOWER_BOUND in diagnosis.causes


def _free(diagnosis, run) -> list[str]:
    """Return the addresses of layers that have weights to be held, none of them with a
    constraint.
    """
    of_layer = held_by_constraints if _of_all(diagnosis) else kernels
    found = {
        address: [getattr(layer, argument) for argument in of_layer(layer).values()]
        for address, layer in _members(diagnosis, run).items()
    }
    return [
        address for address, constraints in found.items() if constraints and not any(constraints)
    ]


def _members(diagnosis, run):
    """Return the layers that may be held: of several players the parts that have grown."""
    if not _of_all(diagnosis) or len(run.optimizers) < 2:
        return run.members
    return {
        address: layer
        for address, layer in run.members.items()
        if run.members[address.partition("/")[0]].name in diagnosis.outgrown
    }


def _beyond(diagnosis, run) -> str | None:
    """Return the name of a layer with trainable weights of its own that no constraint can hold."""
    members = _members(diagnosis, run).values()
    held = {id(getattr(layer, name)) for layer in members for name in held_by_constraints(layer)}
    own = {  # of an operation there are none
        id(weight): layer.name
        for layer in members
        for weight in getattr(layer, "trainable_variables", ())
    }
    return next((name for weight, name in own.items() if weight not in held), None)
