"""The precision that the loss is computed in."""

from dataclasses import dataclass
from typing import Any, ClassVar

from nanfix.changes.change import Change, Lasts

AGAIN = (
    "A later evaluate or fit computes the loss in float32 again: write the cast into your loss, or "
    "go on with nanfix.fit(..., fix=report.fix)."
)


@dataclass(frozen=True)
class LossPrecision(Change):
    """Compute the loss in this `dtype`, to which what it is given is cast; as it is for None."""

    dtype: str | None = None
    kind: ClassVar[str] = "loss precision"
    order: ClassVar[int] = 51

    @property
    def lasts(self):
        return Lasts.TRAINING

    @property
    def may_change_predictions(self):
        return False

    def install_for_training(self, shop, plan):
        from nanfix.changes.loss_installer import compute_in

        if self.dtype is not None:
            compute_in(shop.model, self.dtype, shop.training)

    def hand_back(self, shop, plan, undo):
        return [AGAIN]

    def in_source(self, run, plan, call):
        from nanfix.records.cast_change import CastChange
        from nanfix.records.source_changes import NoPlace

        code = code_of(run.user_loss)
        if self.dtype is None:
            return
        if code is None:
            yield NoPlace(reason="the loss is no function of the script's own")
            return
        file, line = call.places.of_code(code)
        yield CastChange(file=file, line=line, dtype=self.dtype)


def code_of(loss: Any) -> Any:
    """Return the code that a loss of the user's own computes: of a function, or of the `call` of a
    class; None for Keras' own and for several.
    """
    from nanfix.model.user_code import is_users

    computed = getattr(loss, "fn", None) or (
        loss if hasattr(loss, "__code__") else getattr(type(loss), "call", None)
    )
    code = getattr(computed, "__code__", None)
    return code if code is not None and is_users(code.co_filename) else None
