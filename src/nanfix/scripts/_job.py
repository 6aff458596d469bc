"""What the process of a script is to do, as it travels there: one JSON file."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from nanfix.remedies.fix import Fix
from nanfix.search.workers.pool import ALONE, Workers


class KnownFix(BaseModel):
    """A fix as a job holds it; the fields are those that `Fix.from_json` takes."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")

    edits: list[dict[str, Any]]
    layers: dict[str, Any] | None = None

    @classmethod
    def of(cls, fix: Fix) -> "KnownFix":
        layers = None if fix.layers is None else dict(fix.layers)
        return cls(edits=[edit.as_json() for edit in fix.edits], layers=layers)


class Job(BaseModel):
    """What becomes of the fit calls of a script.

    In the mode "trace" the script is followed up to the fit call number `traced` and ends there;
    earlier calls run with their known fixes. In the mode "plain" nanfix is not there, and
    `sources` gives for each patched file, by its absolute path, where its content lies.

    Attributes:
        mode: repair them, with a search by the fields below; explain the first that fails, or list
            what would be tried for it, and end there; or run them with known fixes.
        module: whether the script is given by the name of a module.
        budget: arguments of `nanfix.Budget`.
        strategies: names of those to search among; None for all.
        falling: numbers of the calls whose model has been seen to let its loss fall for ever.
        run_dir: the folder in which each call gets one for its search.
        repair_divergence: whether a training that diverges counts as failed.
        fixes: by number of the call.
        logs: the folder that CSVLogger and TensorBoard write into instead of their own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")

    mode: Literal["repair", "diagnose", "plan", "run", "trace", "plain"]
    module: bool = False
    budget: dict[str, Any] = {}
    strategies: list[str] | None = None
    forbid: list[str] = []
    seed: int | None = None
    run_dir: str | None = None
    workers: Workers = ALONE
    repair_divergence: bool = False
    falling: list[int] = []
    fixes: dict[int, KnownFix] = {}
    logs: str | None = None
    traced: int | None = None
    sources: dict[str, str] = {}
