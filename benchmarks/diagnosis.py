"""Is the right cause named first, and the onset exact? One process per case.

usage: python benchmarks/diagnosis.py FOLDER_OR_CASE.py ...
       python benchmarks/diagnosis.py [N [FIRST]]

Without cases: is the cause of N (300) generated explosions found, from number FIRST (0) on, whose
cause is known as the training learns without it? One process; no limit of time, so that a busy
machine finds the same.

A case is a Python file with build() -> (model, x, y, fit_arguments) and CAUSE, one of
the names in SAME below; where several single changes are known to cure it, CURES lists
them, and a cause that one of them takes away is right too. The onset is compared with
that of plain Keras, every variable and the loss looked at after every step. Seconds are
those of nanfix.diagnose less those of the failed run itself.
"""

import collections
import os
import statistics
import sys
import time

from _cases import files_named, load, measured

SAME = {
    "learning_rate": {"LEARNING_RATE"},
    "unscaled_inputs": {"UNSCALED_INPUT"},
    "unscaled_targets": {"UNSCALED_TARGET"},
    "nan_in_data": {"NONFINITE_INPUT", "NONFINITE_TARGET", "VALIDATION_ONLY"},
    "inf_in_data": {"NONFINITE_INPUT", "NONFINITE_TARGET"},
    "bad_labels": {"INVALID_LABEL"},
    "loss_domain": {"LOSS_DOMAIN", "LOGITS_BY_HAND"},
    # Told apart by place and operation.
    "custom_loss": {
        "LOSS_DOMAIN",
        "STEP_DOMAIN",
        "LOGITS_BY_HAND",
        "GRADIENT_SINGULARITY",
        "NO_LOWER_BOUND",
    },
    "custom_layer": {"LAYER_DOMAIN", "EMPTY_REDUCTION"},
    "gradient_singularity": {"GRADIENT_SINGULARITY"},
    "activation": {"UNSTABLE_ACTIVATION"},
    "recurrent": {"UNSTABLE_RECURRENCE"},
    "initialisation": {"BAD_INITIALIZATION", "NONFINITE_START"},
    "optimizer": {"OPTIMIZER_CONSTANT"},
    "mixed_precision": {"REDUCED_PRECISION"},
    "batchnorm": {"BATCH_STATISTICS", "INFERENCE_STATISTICS"},
    "poison_batch": {"POISON_BATCH"},
    "unrepairable": {"NONFINITE_INPUT", "NONFINITE_TARGET", "EMPTY_REDUCTION"},
    # Faults that each suffice: whichever is met first.
    "combined": {"NONFINITE_INPUT", "UNSCALED_INPUT", "UNSCALED_TARGET", "LOSS_DOMAIN"},
    "healthy": {"-"},
}
TAKEN_AWAY = {
    "learning_rate": {"LEARNING_RATE"},
    "scale_inputs": {"UNSCALED_INPUT"},
    "initialisation": {"BAD_INITIALIZATION"},
    "activation": {"UNSTABLE_ACTIVATION", "UNSTABLE_RECURRENCE"},
    "clip": {"EXPLODING_GRADIENT"},
}


def plain_run(case):
    """Train with Keras alone and return the first step with a non-finite loss or
    variable, and the seconds it took.
    """
    import keras
    import numpy as np

    class Found(Exception):
        pass

    class Oracle(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch + 1

        def on_train_batch_end(self, batch, logs=None):
            state = [*self.model.variables, *getattr(self.model.optimizer, "variables", [])]
            held = [np.asarray(v).astype("float64") for v in state if "float" in str(v.dtype)]
            if not all(
                np.isfinite(value).all() for value in (*held, (logs or {}).get("loss", 0.0))
            ):
                self.onset = [self.epoch, batch + 1]
                raise Found

    model, x, y, arguments = case.build()
    oracle = Oracle()
    callbacks = [*(arguments.pop("callbacks", None) or []), oracle]
    begun = time.perf_counter()
    try:
        model.fit(x, y, **{**arguments, "verbose": 0}, callbacks=callbacks)
    except Found:
        return oracle.onset, time.perf_counter() - begun
    return None, time.perf_counter() - begun


def measure(path):
    import nanfix

    case = load(path)
    onset, plain = plain_run(case)
    model, x, y, arguments = case.build()
    begun = time.perf_counter()
    diagnosis = nanfix.diagnose(model, x, y, **{**arguments, "verbose": 0})
    seconds = time.perf_counter() - begun
    apart = ("VALIDATION", "INFERENCE")
    validation = diagnosis is not None and diagnosis.place.phase.name in apart
    said = (
        [finding.cause.name for finding in diagnosis.findings] if diagnosis is not None else ["-"]
    )
    seen = (
        [diagnosis.onset.epoch, diagnosis.onset.step]
        if diagnosis is not None and not validation
        else None
    )
    right = set(SAME[case.CAUSE]).union(*(TAKEN_AWAY[cure] for cure in getattr(case, "CURES", [])))
    return {
        "case": path.stem,
        "cause": case.CAUSE,
        "said": said[:3],
        "place": str(diagnosis.place) if diagnosis is not None else "-",
        "first": said[0] in right,
        "second": bool(set(said[:2]) & right),
        "labelled": said[0] in SAME[case.CAUSE],
        "onset": seen == onset,
        "seconds": max(0.0, seconds - plain),
        "affordable": seconds - plain <= max(3.0, plain / 2),
    }


def generated(count, first):
    """Diagnose generated runs; print each that is not right, the confusions, and the rates."""
    from _generated import explosion

    import nanfix
    from nanfix.explain import incident

    incident.DIAGNOSIS_SECONDS = 60.0
    confusion, single, pairs, seconds = collections.Counter(), [], [], []
    for number in range(first, first + count):
        run = explosion(number)
        if run is None:
            continue
        model, x, y, arguments = run.build()
        begun = time.perf_counter()
        diagnosis = nanfix.diagnose(model, x, y, **arguments)
        seconds.append(time.perf_counter() - begun)
        said = named(diagnosis)
        right = is_right(run, said)
        (single if len(run.faults) == 1 else pairs).append(right)
        if not right:
            print(f"number {number}, {run.label}: {', '.join(said)}", flush=True)
        confusion[run.label, said[0] if len(run.faults) == 1 else " + ".join(said[:2])] += 1
    print("| fault | named | runs |\n|---|---|---|")
    for (label, cause), runs in sorted(confusion.items()):
        print(f"| {label} | {cause.lower().replace('_', ' ')} | {runs} |")
    print(f"\nfirst cause right: {sum(single)} of {len(single)}")
    print(f"both causes of a pair named first: {sum(pairs)} of {len(pairs)}")
    print(f"seconds: median {statistics.median(seconds):.1f}, most {max(seconds):.1f}")


def named(diagnosis):
    """Return the causes that a diagnosis tells, in their order."""
    if diagnosis is None:
        return ["-"]
    told = (f for place, f in enumerate(diagnosis.findings) if not place or not f.refuted)
    return [finding.cause.name for finding in told]


def is_right(run, said):
    """Say whether the first cause is that of a generated run, or the first two those of a pair."""
    return all(set(said[: len(run.faults)]) & each.causes for each in run.faults)


def main():
    if all(word.isdigit() for word in sys.argv[1:]):
        count, first, *_ = [*map(int, sys.argv[1:]), *(300, 0)[len(sys.argv) - 1 :]]
        return generated(count, first)
    files = files_named(__doc__, measure)
    print(
        "| case | its cause | named | place | right | onset | seconds |\n"
        "|---|---|---|---|---|---|---|"
    )
    rows = []
    for file in files:
        row = measured(__file__, file)
        if isinstance(row, str):
            print(row, flush=True)
            continue
        rows.append(row)
        right = "first" if row["first"] else "second" if row["second"] else "no"
        named = ", ".join(row["said"]).lower().replace("_", " ")
        onset = "exact" if row["onset"] else "differs"
        cells = (
            row["case"],
            row["cause"],
            named,
            row["place"],
            right,
            onset,
            f"{row['seconds']:.1f}",
        )
        print(f"| {' | '.join(cells)} |", flush=True)
    share = lambda name: f"{sum(row[name] for row in rows)} of {len(rows)}"  # noqa: E731
    print(
        f"\nright cause first: {share('first')}; among the first two: {share('second')}; the very "
        f"label: {share('labelled')}"
    )
    print(
        f"onset exact: {share('onset')}; within 3 s or half of the failed run: "
        f"{share('affordable')}"
    )
    print(
        f"seconds: median {statistics.median(row['seconds'] for row in rows):.1f}, most "
        f"{max(row['seconds'] for row in rows):.1f}"
    )


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    main()
