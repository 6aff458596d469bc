"""Keep every predicted probability above a floor, so that a loss with labels below 0 has a least
value.
"""

from nanfix.changes.behind_outputs import BehindOutputs
from nanfix.changes.maps import Mixed
from nanfix.model.crossentropies import are_outweighed, has_negative_shares, takes_logits
from nanfix.records.cause import Cause
from nanfix.remedies.strategy import Strategy, Tier

SHARE = 0.1  # of an even guess: less lets a label below 0 pay more, by steps that unlearn the rest


class FloorProbabilities(Strategy):
    """Predict (1 - s) * p + s / K in the place of the probabilities p of K classes.

    A label below 0, as the reward of a move that lost, makes a crossentropy fall without end as the
    probability of its class goes to 0. With a share s of an even guess none gets below s / K: the
    loss has a least value, the gradient of a move that is hardly made any more is next to 0, and
    the order of the classes stays. s is 0.1: the losses of different shares do not compare. The
    model then predicts such probabilities. Training starts again from the initial weights. Does not
    help where nearly all labels are below 0, since then there is nothing to learn towards, nor
    where the loss takes logits.

    Reference: Auer et al. (2002), The nonstochastic multiarmed bandit problem, SIAM J. Computing
    32(1) (Exp3 mixes its probabilities so); Sutton & Barto (2018), Reinforcement Learning, section
    5.4 (soft policies).
    """

    name = "floor-probabilities"
    tier = Tier.ARCHITECTURE
    treats = frozenset({Cause.NO_LOWER_BOUND})
    keeps_weights = False
    reference = "Auer et al. (2002), SIAM J. Computing 32(1); Sutton & Barto (2018), section 5.4"

    def refusal(self, diagnosis, run, plan):
        if not has_negative_shares(run.user_loss, run.sample.targets):
            return "no crossentropy is given labels below 0"
        if takes_logits(run.user_loss):
            return "the loss takes logits, no probabilities"
        if are_outweighed(run.sample.targets):
            return "labels below 0 far outweigh the others: there is little to learn towards"
        if len(run.ends) != 1:
            return "nothing can be put behind the output"
        return None

    def space(self, hp, diagnosis, run, plan):
        return {
            "output": run.ends[0],
            "classes": int(run.sample.targets[0].shape[-1]),
            "share": SHARE,
        }

    def apply(self, run, plan, *, output, classes, share):
        return plan.with_change(BehindOutputs({output: Mixed(share, classes)}))

    def explain(self, params):
        return (
            f"Mix {100 * params['share']:g} % of an even guess into the probabilities, so that "
            "what a label below 0 pays has an end."
        )

    def snippet(self, params):
        factors = f"{1.0 - params['share']:g}, offset={params['share']:g} / {params['classes']}"
        return f"model.add(keras.layers.Rescaling({factors}))  # behind the last layer"
