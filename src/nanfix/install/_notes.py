"""Says what became of a repair: what was put where in the user's model."""

from collections.abc import Sequence
from dataclasses import dataclass

from nanfix.changes.maps import Power
from nanfix.changes.normalization import Normalized
from nanfix.changes.plan import Plan
from nanfix.changes.rows import RowFilter
from nanfix.changes.scaling import Scaling
from nanfix.install.sites import Sites
from nanfix.model.outputs import OUTPUT

AROUND_CALL = (
    "{what} around this model's call. A saved model holds nothing of that: put it into the source."
)


@dataclass(frozen=True)
class Parts:
    """Which scalings are folded into weights. All others are put into the model as layers, or are
    computed `around` its call.
    """

    inputs: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    why: str = ""
    around: bool = False


def notes_of_fed(rows: RowFilter, into: Sequence[str]) -> list[str]:
    """Return what a model takes that was trained on rows scaled beforehand, folded `into` layers or
    not.
    """
    if not rows.scaled:
        return []
    if rows.folds:
        return [
            f"The scaling is folded into layer {', '.join(into)}: the model takes raw rows, and a "
            "further fit sees them."
        ]
    return ["The model takes rows that are scaled like those it was trained on."]


def notes_of(plan: Plan, parts: Parts, sites: Sites, last: Sequence[str]) -> list[str]:
    """Return, as the first of the notes and without its end, what was put where; `last` are the
    layers that targets were folded into.
    """
    wanted, normalized = plan.of(Scaling), plan.of(Normalized).layers
    apart = [scaling for name, scaling in wanted.inputs.items() if name not in parts.inputs]
    into = dict.fromkeys(layer.name for name in parts.inputs for layer in sites.inputs[name].layers)
    behind = [name for name in wanted.targets if name not in parts.targets]
    ways = [f"folded into layer {', '.join(into)}"] if into else []
    stock = (
        "layers of its own"
        if any(isinstance(scaling, Power) for scaling in apart)
        else "a Normalization layer"
    )
    ways += [f"put into the model as {stock}"] if apart and not parts.around else []
    ways += [f"targets folded into layer {', '.join(last)}"] if last else []
    where = "the last layer" if behind == [OUTPUT] else f"output {', '.join(behind)}"
    ways += [f"undone behind {where}, for targets"] if behind and not parts.around else []
    done = [f"LayerNormalization put in front of {', '.join(normalized)}"] if normalized else []
    if wanted.fills and not parts.around:
        done.append("Imputation put into the model, in front of its first layer")
    done += [f"Scaling {' and '.join(ways)}"] if ways else []
    around = _around(wanted, bool(apart), bool(behind)) if parts.around else []
    if not done:
        return around
    folds = [what for what, folded in (("inputs", into), ("targets", last)) if folded]
    again = (
        [f"Folded, since {parts.why}: a further fit sees raw {' and '.join(folds)}."]
        if folds
        else []
    )
    return [". ".join(done), *again, *around]


def _around(wanted: Scaling, scaled: bool, behind: bool) -> list[str]:
    """Say what stands around the model's own call."""
    what = [
        *(["the imputation"] if wanted.fills else []),
        *(["the scaling of inputs"] if scaled else []),
        *(["the scaling of targets"] if behind else []),
    ]
    verb = "stands" if len(what) == 1 else "stand"
    words = " and ".join(what)
    return [AROUND_CALL.format(what=f"{words[:1].upper()}{words[1:]} {verb}")] if what else []
