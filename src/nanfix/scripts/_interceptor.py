"""Stands in for `model.fit` in the process of a script, and writes down what came of each call."""

import contextlib
import functools
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

from nanfix.records.errors import ExitCode
from nanfix.records.source_places import Made
from nanfix.scripts._hand_written_loops import LoopWatch
from nanfix.scripts._job import Job
from nanfix.scripts._own_fit import KerasFit, history_of, keras_own_fit
from nanfix.scripts._reached import is_finite, watch_use
from nanfix.scripts._watched_fit import Apart, watch_fit
from nanfix.source.code_file import digest
from nanfix.source.creation_sites import Places

if TYPE_CHECKING:
    from keras import Model
    from keras.callbacks import History

    from nanfix.model.faults import Net
    from nanfix.recorder.watch import Watched
    from nanfix.records.diagnosis import Diagnosis
    from nanfix.report.report import Report
    from nanfix.scripts._carried import CarriedFixes, Start, Way
    from nanfix.scripts._follower import Follower
    from nanfix.source.fit_call import FitCall

FitArguments = dict[str, Any]  # what the script gave its call, by name


class Interceptor:
    """Takes the place of Keras' `Model.fit`; hands each call of the script to `nanfix.fit` and
    writes down what came of it.

    Calls that nanfix itself makes, and calls made inside a fit by the script's own
    callbacks, are Keras' own.
    """

    def __init__(self, job: Job, events: Path):
        self._job = job
        self._events = events
        self._calls = itertools.count()
        self._places = Places()
        self._apart = Apart()
        self._loops = LoopWatch(self.note)
        self._shown = False  # what nanfix found was shown when the training failed
        self._follower: Follower | None = None

    def install(self, keras: ModuleType) -> None:
        """Replace `keras.Model.fit`; runs when the script itself imports Keras, so its
        environment lines still count.
        """
        if keras.backend.backend() != "tensorflow":
            self.note(
                f"Keras runs on {keras.backend.backend()} here; nanfix repairs Keras on TensorFlow "
                "only."
            )
            return
        self._places.install(keras)
        watch_fit(keras, self._called, self._apart)
        if self._job.mode == "run":
            watch_use(keras, self._told_use, self._apart)
        self._loops.install(keras)

    def _called(
        self, model: "Model", original: KerasFit, arguments: FitArguments, frame: FrameType
    ) -> "History":
        with self._loops.fitting(), self._not_followed(frame):
            place, way = self._places.called("fit", frame), self._places.way(frame)
            return self._handle(model, original, arguments, place, way)

    def _told_use(self, method: str, place: str | None, finite: bool) -> None:
        self._emit(kind="used", method=method, place=place, finite=finite)

    def follow(self) -> None:
        """Follow the script's data from here on, up to the fit call that the job names."""
        from nanfix.scripts._follower import Follower

        self._follower = Follower()
        self._follower.start()

    def _not_followed(self, frame: FrameType) -> contextlib.AbstractContextManager[None]:
        """Leave a training out of what is followed."""
        follower = self._follower
        return contextlib.nullcontext() if follower is None else follower.waiting(frame)

    def note(self, text: str) -> None:
        self._emit(kind="note", text=text)

    def refuse(self, error: str, text: str) -> NoReturn:
        """End the script with an error of nanfix's own, by the name of its class."""
        self._emit(kind="error", error=error, text=text)
        raise SystemExit(ExitCode.USAGE_ERROR)

    def _handle(
        self,
        model: "Model",
        original: KerasFit,
        arguments: FitArguments,
        place: Made | None,
        way: "Way",
    ) -> "History":
        from nanfix.model.faults import Net
        from nanfix.records.errors import InputError, NanfixError
        from nanfix.source.fit_call import FitCall

        call, net = next(self._calls), Net()
        if self._follower is not None and call == self._job.traced:
            origins = self._follower.origins(arguments)
            self._emit(kind="origins", origins=origins, fault=self._follower.fault)
            raise SystemExit(0)
        try:
            with keras_own_fit(model, original, self._apart):
                if self._job.mode == "diagnose":
                    return self._explain(model, call, arguments)
                if self._job.mode == "plan":
                    return self._plan(model, call, arguments)
                begun = None
                if getattr(model, "compiled", False):
                    begun = net.attempt(
                        "noting the call",
                        lambda: FitCall.of(self._places, model, place, arguments),
                        None,
                    )
                start = self._carried.start(call, model, way)
                with self._logs_apart(call, arguments):
                    report = self._fit(model, start, arguments)
        except InputError as refusal:
            self._emit(kind="unwatched", call=call, model=model.name, text=str(refusal))
        except NanfixError as error:
            self.refuse(type(error).__name__, str(error))
        else:
            return self._hand_back(model, start, report, begun, net)
        return original(model, **arguments)  # fails, or trains, just as it would without nanfix

    @functools.cached_property
    def _carried(self) -> "CarriedFixes":
        from nanfix.remedies.fix import Fix
        from nanfix.scripts._carried import CarriedFixes

        known = self._job.fixes.items()
        return CarriedFixes(
            self._places, {call: Fix.from_json(fix.edits, fix.layers) for call, fix in known}
        )

    def _fit(self, model: "Model", start: "Start", arguments: FitArguments) -> "Report":
        from nanfix.api.fit import fit
        from nanfix.recorder.outset import seen_falling
        from nanfix.records.budget import Budget

        job, given = self._job, {} if start.fix is None else {"fix": start.fix}
        if job.mode in ("run", "trace"):
            # Without a fix it is watched and rolled back like every other, but not searched.
            searched = {} if given and start.carried is None else {"strategies": ()}
            return fit(model, throw=False, **given, **searched, **arguments)
        if start.call in job.falling:
            seen_falling(model)
        return fit(
            model,
            budget=Budget(**job.budget),
            strategies=job.strategies,
            forbid=job.forbid,
            seed=job.seed,
            run_dir=job.run_dir and str(Path(job.run_dir) / f"call-{start.call}"),
            workers=job.workers,
            repair_divergence=job.repair_divergence,
            throw=False,
            **given,
            **arguments,
        )

    @contextlib.contextmanager
    def _logs_apart(self, call: int, arguments: FitArguments) -> Iterator[None]:
        """Keep the logs of a training that is only a proof out of those of the repaired one."""
        self._shown = arguments.get("verbose", "auto") != 0
        if self._job.logs is None:
            yield
            return
        from nanfix.recorder.logs import listed, logging_to

        folder = Path(self._job.logs) / f"call-{call}"
        folder.mkdir(parents=True)
        with logging_to(folder, listed(arguments.get("callbacks"))):
            yield

    def _explain(self, model: "Model", call: int, arguments: FitArguments) -> "History":
        """Train, write down why it failed, and end the script there; it goes on when
        the training stays finite.
        """
        from nanfix.api.diagnose import FINITE, train_and_explain

        watched, diagnosis = train_and_explain(model, **arguments)
        text = str(diagnosis) if diagnosis is not None else FINITE
        return self._explained(model, call, watched, diagnosis, text)

    def _plan(self, model: "Model", call: int, arguments: FitArguments) -> "History":
        """Do as `_explain` does, and write down too what a repair would try."""
        from nanfix.api.plan import train_and_plan
        from nanfix.records.budget import Budget

        job = self._job
        watched, plan = train_and_plan(
            model,
            budget=Budget(**job.budget),
            strategies=job.strategies,
            forbid=job.forbid,
            repair_divergence=job.repair_divergence,
            **arguments,
        )
        candidates = [[edit.as_json() for edit in fix.edits] for fix in plan.fixes]
        return self._explained(model, call, watched, plan.diagnosis, str(plan), candidates)

    def _explained(
        self,
        model: "Model",
        call: int,
        watched: "Watched",
        diagnosis: "Diagnosis | None",
        text: str,
        candidates: Sequence[Sequence[Mapping[str, Any]]] = (),
    ) -> "History":
        """Write the event of a training that was explained; end the script if it
        failed, else return its History.
        """
        from nanfix.report.fix_file import diagnosis_record

        record = None if diagnosis is None else diagnosis_record(diagnosis).model_dump_json()
        self._emit(
            kind="diagnosis",
            call=call,
            model=model.name,
            diagnosis=record,
            text=text,
            candidates=candidates,
        )
        if watched.incident is not None:
            raise SystemExit(0)
        return model.history

    def _hand_back(
        self, model: "Model", start: "Start", report: "Report", begun: "FitCall | None", net: "Net"
    ) -> "History":
        """Write the event and return the History object that the script expects from
        its fit call.
        """
        from nanfix.patch.locate import source_changes
        from nanfix.report.fix_file import run_record
        from nanfix.report.report import Outcome

        source = []
        if begun is not None:
            source = net.attempt(
                "finding the fix's places",
                lambda: source_changes(report.run, report.stages, begun),
                [],
            )
        carried = self._carried
        begins = net.attempt("carrying the fix", lambda: carried.ended(start, report), None)
        report = replace(
            report, notes=(*report.notes, *net.notes()), faults=(*report.faults, *net.faults)
        )
        short, report = start.words(report, begins)
        update = {"source": source, "begins": begins, "carried": start.carried_in(report)}
        record = run_record(report, call=start.call).model_copy(update=update)
        if record.carried is not None:
            record = record.model_copy(update={"edits": []})
        paths = sorted({path for change in source for path in change.paths})
        self._emit(
            kind="fit",
            call=start.call,
            model=model.name,
            finite=is_finite(model, report.history),
            text=short or str(report),
            summary=str(replace(report, diagnosis=None)) if self._shown and not short else None,
            history={name: repr(values[-1]) for name, values in report.history.items() if values},
            highest=_highest(report.history),
            record=record.model_dump_json(),
            spread=report.spread,
            counts=[
                (place.model_dump(), callee, made) for place, callee, made in self._places.counts
            ],
            files={path: self._digest(path) for path in paths},
        )
        if report.outcome is Outcome.INTERRUPTED:
            raise KeyboardInterrupt
        return history_of(model, report)

    def _emit(self, **event: Any) -> None:
        with self._events.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")

    def _digest(self, path: str) -> str:
        return digest(Path(self._places.absolute(path)).read_bytes(), path)


def _highest(history: Mapping[str, Sequence[Any]]) -> dict[str, float]:
    """Return the highest finite value of each quantity that was logged as single numbers."""
    finite = {
        name: [each for each in values if isinstance(each, int | float) and math.isfinite(each)]
        for name, values in history.items()
    }
    return {name: float(max(values)) for name, values in finite.items() if values}
