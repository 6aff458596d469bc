"""The optimizer: its class, its constants, its memory, which steps it takes and how large."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from nanfix.changes.change import Change, Lasts

if TYPE_CHECKING:
    import keras

    from nanfix.changes.change import Workshop
    from nanfix.changes.optimizer_installer import Optimizing
    from nanfix.model.run import Run
    from nanfix.records.source_changes import SourceChange
    from nanfix.source.fit_call import FitCall, OptimizerMade

MOST_SKIPPED = "{} of {} steps were skipped, so that little of the data was learned from"


@dataclass(frozen=True)
class AdaptiveClip:
    """Clip the gradient's global norm where it is more than so many `deviations` above its running
    mean, which starts at `norm`.
    """

    deviations: float
    norm: float


@dataclass(frozen=True)
class OptimizerSettings(Change):
    """Train with another optimizer, with other constants, or take its steps in another way.

    Attributes:
        settings: attributes of every optimizer that the training step calls, by name.
        class_name: another class in keras.optimizers; `settings` are then all that is set of it.
        rate_share: every learning rate is so many times what the user's optimizers,
            schedules and callbacks make it.
        finite_rate: the rate of steps for which the user's schedules and callbacks give none that
            is finite.
        warm_up: the number of first steps over which the learning rate rises in proportion.
        fresh_moments: whether the optimizer forgets what it remembers of earlier steps.
        adaptive_clip: a running norm to clip the gradient at.
        loss_scale: what LossScaleOptimizer starts with.
        skip_nonfinite: whether the weights stay as they are at a step whose gradient is not finite.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    class_name: str | None = None
    rate_share: float = 1.0
    finite_rate: float | None = None
    warm_up: int | None = None
    fresh_moments: bool = False
    adaptive_clip: AdaptiveClip | None = None
    loss_scale: float | None = None
    skip_nonfinite: bool = False
    kind: ClassVar[str] = "optimizer"
    order: ClassVar[int] = 20

    @property
    def lasts(self):
        return Lasts.TRAINING if self.skip_nonfinite else Lasts.COMPILED

    @property
    def may_change_predictions(self):
        return False

    def joined(self, later):
        joined = super().joined(later)
        return replace(joined, settings=later.settings) if later.class_name is not None else joined

    def graph_key(self, shop):
        from nanfix.changes.optimizer_installer import NUMBERS
        from nanfix.model.run import has_schedule

        variable = self._optimizing(shop).in_variables(self)
        variable = variable if shop.trying else variable - {*NUMBERS, "rate_share"}
        settings = {
            name: None if name in variable else value for name, value in self.settings.items()
        }
        rate, share = settings.pop("learning_rate", None), self.rate_share
        if not has_schedule(shop.model):
            rate, share = None, 1.0
        elif share != 1.0 and "rate_share" in variable:
            share = float("nan")  # whatever it is, it is multiplied by a variable
        return (
            sorted(settings.items()),
            rate,
            replace(self, settings={}, warm_up=None, fresh_moments=False, rate_share=share),
        )

    def is_evaluated(self, shop):
        # Code of the user's own may read a rate or a number of steps of the optimizer in a loss.
        return self.skip_nonfinite or not type(shop.model).__module__.startswith("keras.")

    def install(self, shop, plan):
        self._optimizing(shop).install(self, shop.repair, trying=shop.trying)

    def install_for_training(self, shop, plan):
        from nanfix.changes.optimizer_installer import without_skipped
        from nanfix.private.objects import loss_tracker

        if self.skip_nonfinite and loss_tracker(shop.model) is not None:
            without_skipped(shop.model, shop.training)

    def callbacks(self, run, callbacks):
        from nanfix.changes.rate_callbacks import with_rates

        return with_rates(callbacks, run.model, self)

    def settle(self, shop):
        return self._optimizing(shop).settle(self)

    def lacking(self, shop: "Workshop") -> str | None:
        """Return what the training that has just ended lacks to be a repair: most of its steps;
        None when that is nothing.
        """
        if not self.skip_nonfinite:
            return None
        skipped, taken = self._optimizing(shop).skipped_and_taken()
        return MOST_SKIPPED.format(skipped, skipped + taken) if skipped > taken else None

    def in_source(self, run, plan, call):
        yield from _in_source(self, run, call)

    def learning_rate(self, run: "Run") -> float | None:
        """Return the rate that the next step would use; None where the optimizer has no
        such number.
        """
        rate = self.settings.get("learning_rate", run.learning_rate)
        return None if rate is None else self.rate_share * rate

    def has_one_rate(self, run: "Run") -> bool:
        """Say whether a single number is the learning rate of the whole training: neither schedule
        nor callbacks nor several.
        """
        return not run.rate_varies and (self.class_name is not None or run.has_one_rate)

    def decay_of_a_step(self, run: "Run") -> float:
        """Return the share of itself that a weight loses at each step by weight decay;
        from 1 on it turns over.
        """
        rate = self.learning_rate(run)
        decays = [getattr(optimizer, "weight_decay", None) or 0.0 for optimizer in run.optimizers]
        return 0.0 if rate is None else rate * max(decays, key=abs, default=0.0)

    def clips(self, run: "Run") -> bool:
        """Say whether the optimizer clips gradients, by the user's will or this change's."""
        names = ("clipnorm", "global_clipnorm", "clipvalue")
        return any(
            self.settings.get(name, getattr(optimizer, name, None))
            for optimizer in run.optimizers
            for name in names
        )

    def _optimizing(self, shop: "Workshop") -> "Optimizing":
        from nanfix.changes.optimizer_installer import Optimizing

        return shop.kept("optimizers", lambda: Optimizing(shop.model))


def _in_source(wanted: OptimizerSettings, run: "Run", call: "FitCall") -> "Iterator[SourceChange]":
    """Yield the changes of every optimizer that the training step calls."""

    from nanfix.model.optimizers import trained_slots
    from nanfix.records.source_changes import NoPlace

    if wanted.adaptive_clip is not None:
        yield NoPlace(reason="Keras has no optimizer that clips at a running norm")
    if run.rate_is_set:
        yield from _where_callbacks_set_it(wanted, call)
    trained = {slot.key for slot in trained_slots(run.model)}
    for made in call.optimizers:
        if made.key in trained:
            yield from _of_one(wanted, call, made)


def _of_one(
    wanted: OptimizerSettings, call: "FitCall", made: "OptimizerMade"
) -> "Iterator[SourceChange]":
    import keras  # loads TensorFlow

    from nanfix.changes.layer_source import literal, number, parameter
    from nanfix.records.source_changes import UNKNOWN_CALL, NoPlace, OptimizerChange
    from nanfix.source.fit_call import CLIPPING

    given, first = dict(wanted.settings), made.key == ("optimizer", None)
    if wanted.adaptive_clip is not None:
        given = {name: value for name, value in given.items() if name not in CLIPPING}
    if wanted.fresh_moments and made.started:
        yield NoPlace(
            reason="the optimizer is made before an earlier training; make a new one after it"
        )
    kind = getattr(keras.optimizers, wanted.class_name) if wanted.class_name else type(made.base)
    rate = given.get("learning_rate", made.rate)
    if made.schedule is not None and not wanted.class_name:
        yield from _of_schedule(call, made.schedule, wanted)
    elif rate is not None and (wanted.rate_share != 1.0 or not math.isfinite(rate)):
        finite = rate if math.isfinite(rate) else wanted.finite_rate or rate
        rate = given["learning_rate"] = wanted.rate_share * finite
    arguments = {name: None if value is None else literal(value) for name, value in given.items()}
    if not wanted.class_name:
        arguments = {
            name: value
            for name, value in arguments.items()
            if value is not None or name in made.clips
        }
    if wanted.warm_up is not None:
        rate, steps = rate or 0.0, wanted.warm_up
        start, end = number(rate / steps), number(rate)
        arguments["learning_rate"] = (
            f"keras.optimizers.schedules.PolynomialDecay({start}, {steps}, end_learning_rate={end})"
        )
    scale = (
        wanted.loss_scale
        if wanted.loss_scale is not None
        else 1.0
        if wanted.skip_nonfinite
        else None
    )
    if not (arguments or wanted.class_name or scale is not None):
        return
    if made.made is None and not first:
        yield NoPlace(reason=UNKNOWN_CALL.format(what=f"the optimizer {made.key[0]}"))
        return
    places = {name: parameter(kind, name)[1] for name in arguments}
    yield OptimizerChange(
        target=made.made,
        compiled=call.compiled if first else None,
        fit=call.fit if first else None,
        name=type(made.base).__name__,
        inner=made.inner,
        new_class=wanted.class_name,
        arguments=arguments,
        positions={name: position for name, position in places.items() if position is not None},
        loss_scale=scale,
    )


def _where_callbacks_set_it(wanted: OptimizerSettings, call: "FitCall") -> "Iterator[SourceChange]":
    """Yield that the learning rate has no place, since a callback sets it again."""
    import keras  # loads TensorFlow

    from nanfix.changes.layer_source import number
    from nanfix.records.source_changes import NoPlace

    stock = any(isinstance(c, keras.callbacks.LearningRateScheduler) for c in _callbacks(call))
    who = "a LearningRateScheduler of the script" if stock else "a callback of the script"
    words = f"{who} sets the learning rate again"
    if "learning_rate" in wanted.settings:
        most = number(wanted.settings["learning_rate"])
        yield NoPlace(reason=f"{words}: have it set at most {most}")
    elif wanted.finite_rate is not None:
        yield NoPlace(reason=f"{words}: {_finite_in_words(wanted.finite_rate)}")
    elif wanted.rate_share != 1.0:
        yield NoPlace(reason=f"{words}: multiply what it sets by {number(wanted.rate_share)}")


def _finite_in_words(rate: float) -> str:
    from nanfix.changes.layer_source import number

    return f"have it give {number(rate)} where it gives no finite number"


def _callbacks(call: "FitCall") -> "list[keras.callbacks.Callback]":
    from keras import tree  # loads TensorFlow

    given = call.arguments.get("callbacks")
    return tree.flatten(getattr(given, "callbacks", given) or [])


def _of_schedule(
    call: "FitCall", schedule: Any, wanted: OptimizerSettings
) -> "Iterator[SourceChange]":
    """Yield the arguments of a stock schedule whose rates are all lowered in proportion, and what
    has no place, as whatever a schedule of the script's own computes.
    """
    from nanfix.changes.layer_source import number, parameter
    from nanfix.model.schedules import ScaledSchedule, scaled_schedule
    from nanfix.model.user_code import name_of
    from nanfix.records.source_changes import UNKNOWN_CALL, ArgumentChange, NoPlace

    share, own = wanted.rate_share, f"{name_of(schedule)} is the script's own"
    if wanted.finite_rate is not None:
        yield NoPlace(reason=f"{own}: {_finite_in_words(wanted.finite_rate)}")
    if share == 1.0:
        return
    target, scaled = call.places.of(schedule), scaled_schedule(schedule, share)
    if isinstance(scaled, ScaledSchedule):
        yield NoPlace(reason=f"{own}: multiply it by {number(share)}")
        return
    if target is None:
        yield NoPlace(reason=UNKNOWN_CALL.format(what="the schedule of the learning rate"))
        return
    before, after = schedule.get_config(), scaled.get_config()
    for name in before:
        if before[name] != after[name]:
            values = after[name] if isinstance(after[name], list) else [after[name]]
            numbers = [number(value) for value in values]
            value = f"[{', '.join(numbers)}]" if isinstance(after[name], list) else numbers[0]
            yield ArgumentChange(
                target=target, name=name, value=value, position=parameter(type(schedule), name)[1]
            )
