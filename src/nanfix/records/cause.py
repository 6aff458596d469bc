"""The table of causes: why a run went non-finite, how that looks, and what helps."""

from nanfix.records.told import Told


class Cause(Told):
    """Why a run went non-finite. Members stand in the order of docs/strategies.md, which has an
    anchor for each: its short name.
    """

    NONFINITE_INPUT = (
        "nonfinite-input",
        "the input data contain NaN or inf",
        (
            "`loss: nan` in the first epoch, whatever the learning rate; `np.isfinite(X).all()` "
            "is False"
        ),
        "Fill the holes (median of the column) inside the model, or leave those rows out.",
    )
    NONFINITE_TARGET = (
        "nonfinite-target",
        "the targets contain NaN or inf",
        (
            "`loss: nan` in the first epoch, whatever the learning rate; `np.isfinite(y).all()` "
            "is False"
        ),
        "Leave out the rows whose target is missing.",
    )
    CODED_TARGET = (
        "coded-target",
        "the targets hold a code for what is not known",
        (
            "the first loss is inf or beyond all measure; a number such as 1e20 or -9999 stands in "
            "the targets again and again, as padding or for a missing value"
        ),
        "Leave what is not known out of the loss, and keep the rest of the row.",
    )
    CODED_INPUT = (
        "coded-input",
        "the inputs hold a code for a missing value",
        (
            "a number such as -999, 1e20 or -9.2e18 (a missing date as an integer) stands in a "
            "column again and again, far from all others; `loss: nan`, or one that does not fall"
        ),
        "Put a hole in the place of the code, and fill it (median of the column) inside the model.",
    )
    NONFINITE_WEIGHT = (
        "nonfinite-weight",
        "the sample weights contain NaN or inf",
        "nan from the first batch with such a row; inputs and targets are finite",
        "Give every row a finite weight, 0 for those that do not count.",
    )
    NONFINITE_LOSS_WEIGHT = (
        "nonfinite-loss-weight",
        "a weight of the loss that was given to fit or compile is NaN or inf",
        "`class_weight` or `loss_weights` are divided by a count or a variance, which may be 0",
        "Divide by at least 1 (a count) or give that class or output a weight of its own.",
    )
    NONFINITE_START = (
        "nonfinite-start",
        "the model's weights contain NaN or inf before training begins",
        (
            "`loss: nan` from the first batch on finite data: a bias of log(0), missing rows of a "
            "pretrained embedding, a model that an earlier training has ruined"
        ),
        (
            "Start these entries from finite numbers; build or load the model anew if an earlier "
            "training has ruined it."
        ),
    )
    NONFINITE_CONSTANT = (
        "nonfinite-constant",
        "a constant that the loss or a layer computes with contains NaN or inf",
        (
            "`loss: nan` on finite data, from the first batch or at certain rows; an array in the "
            "loss or a layer was made by a log of 0 or by 0 / 0: log of counts, a prior, class "
            "weights, idf"
        ),
        (
            "Mend the line that makes the constant (count from 1 before the log, divide by at "
            "least 1), or put finite numbers in the place of those that are not."
        ),
    )
    INVALID_LABEL = (
        "invalid-label",
        "labels lie outside the classes of the output layer",
        (
            '`loss: nan` at once on a GPU or with `jit_compile`; on a CPU an error: "outside the '
            'valid range"'
        ),
        "Count the labels from 0 and leave out those without a class, or widen the output layer.",
    )
    RUINED_STATISTICS = (
        "ruined-statistics",
        "a Normalization layer was adapted to data with NaN or inf",
        (
            "`loss: nan` from the first batch; the mean of a `Normalization` layer is nan after "
            "`adapt`"
        ),
        "Fill the holes before the layer is adapted, and fill those of what is trained on, too.",
    )
    UNSCALED_INPUT = (
        "unscaled-input",
        "the inputs are far from unit scale",
        "the first losses are huge, the next ones inf and nan; raw columns or pixels go in",
        "Scale the inputs: RobustScaler or StandardScaler, or a Normalization layer in front.",
    )
    UNSCALED_TARGET = (
        "unscaled-target",
        "the targets are far from unit scale",
        (
            "the first loss is in the millions or more, then inf and nan; prices, counts or the "
            "like are learned"
        ),
        "Train on scaled targets and scale the predictions back.",
    )
    LEARNING_RATE = (
        "learning-rate",
        "the learning rate is too high for this model and data",
        "the loss rises from step to step, is inf, then nan; at a tenth of the rate it falls",
        "Lower the learning rate, or clip the gradients to their usual norm.",
    )
    NO_LOWER_BOUND = (
        "no-lower-bound",
        "the loss has no lower bound: it falls for as long as the weights grow",
        (
            "the loss is below 0 and falls ever faster, then it is -inf or nan; it is that of a "
            "critic, rewards something without end, or has labels below 0"
        ),
        (
            "Hold the weights, biases too (a constraint, spectral normalization or a gradient "
            "penalty), or give the loss a least value: of labels below 0 leave the rows out, or "
            "keep the probabilities above a floor."
        ),
    )
    EXPLODING_GRADIENT = (
        "exploding-gradient",
        "the gradient grows from layer to layer until it overflows",
        "the loss of a deep model jumps up by orders of magnitude, then it is nan",
        "Clip the gradients to the norm they had before, or normalize between the layers.",
    )
    UNSTABLE_ACTIVATION = (
        "unstable-activation",
        "an unbounded or unsuitable activation lets values grow without limit",
        (
            "the loss jumps to inf; hidden layers use relu, exponential or nothing, or a softmax "
            "is missing"
        ),
        (
            "Use an activation that suits: tanh or relu inside, softmax or sigmoid before a "
            "crossentropy."
        ),
    )
    UNSTABLE_RECURRENCE = (
        "unstable-recurrence",
        "a recurrent layer that nothing bounds feeds its growing output back into itself",
        '`activation="relu"` in an LSTM, GRU or SimpleRNN: nan, sooner with longer sequences',
        "Bound what is fed back: give a recurrent layer its usual tanh, or recurrent weights "
        "with a spectral radius below 1.",
    )
    BAD_INITIALIZATION = (
        "bad-initialization",
        "the initial weights are too large for the width of the layers",
        "the very first loss is huge although inputs and targets are of unit scale",
        (
            "Draw the weights to suit the width of the layers: he_normal before relu, else "
            "glorot_uniform."
        ),
    )
    LOSS_DOMAIN = (
        "loss-domain",
        "the loss computes an operation outside its domain",
        "a loss of your own, with a log, a root or a division in it, is nan while it was small",
        "Keep what goes into the operation inside its domain, or compute a stable form of it.",
    )
    LAYER_DOMAIN = (
        "layer-domain",
        "a layer computes an operation outside its domain",
        (
            "predictions are nan though every weight is finite; a layer has a log, a root or a "
            "division in it"
        ),
        ("Keep what goes into the operation inside its domain, or use Keras' own stable layer."),
    )
    STEP_DOMAIN = (
        "step-domain",
        "the training step computes an operation outside its domain",
        "loss or weights are nan, outputs are not; a `train_step` of your own divides by a norm",
        "Keep what goes into the operation inside its domain: add an epsilon to a norm, say.",
    )
    GRADIENT_SINGULARITY = (
        "gradient-singularity",
        "an operation is finite but its gradient is not",
        (
            "the loss is finite, and nan at the next step; there is a root, norm or power of 0 in "
            "the model"
        ),
        (
            "Keep the operation away from the point where its slope is infinite: add an epsilon "
            "inside it."
        ),
    )
    LOGITS_BY_HAND = (
        "logits-by-hand",
        "the loss takes the logarithm of a probability that rounds to 0",
        "accuracy is good, then `loss: nan`; the loss has a `log` of a softmax or sigmoid in it",
        "Take Keras' crossentropy from logits instead of the logarithm of a probability.",
    )
    NONFINITE_RATE = (
        "nonfinite-rate",
        "the learning rate is not a finite number",
        (
            "`loss` falls as it should until a certain step, then every weight is nan at once; a "
            "schedule of your own, or `learning_rate: nan` in the logs"
        ),
        (
            "Mend what computes the rate: at this step a schedule or callback divides by zero, or "
            "takes a root or a logarithm outside its domain."
        ),
    )
    OPTIMIZER_CONSTANT = (
        "optimizer-constant",
        (
            "a constant of the optimizer makes its update divide by zero, turn the weights over "
            "or never fade"
        ),
        "every weight is nan after a step or two while loss and gradient were small",
        (
            "Set that constant of the optimizer (epsilon, beta, decay, initial accumulator) back "
            "into its range."
        ),
    )
    REDUCED_PRECISION = (
        "reduced-precision",
        "a value is too large or too small for half precision",
        "`loss: nan` with `mixed_float16` or `float16`; in float32 the same training is fine",
        "Scale what grows, or compute this layer in float32.",
    )
    STALE_MOMENTS = (
        "stale-moments",
        "the optimizer still remembers the gradients of another training",
        (
            "the first training is fine, a second one with the same optimizer is nan within a few "
            "steps"
        ),
        "Make a new optimizer (or compile again) whenever the weights are set back.",
    )
    OUTLIER = (
        "outlier",
        "a few rows have values far outside all others",
        "the loss falls, then one batch throws it up; with other shuffling that is at another step",
        (
            "Leave these rows out if they are wrong; else a robust loss or a power transform of "
            "the inputs."
        ),
    )
    BATCH_STATISTICS = (
        "batch-statistics",
        "a normalization layer divides by a variance of zero",
        (
            "nan at the last, small batch of an epoch, or with a constant column, in a model that "
            "normalizes"
        ),
        (
            "Set the layer's epsilon back to its default, and see that no batch is constant or of "
            "one row."
        ),
    )
    INFERENCE_STATISTICS = (
        "inference-statistics",
        "a normalization layer predicts with statistics that are not those of the data",
        (
            "`loss` is fine, `val_loss` or `model.predict` is nan, or all is with a frozen model; "
            "the moving variance of a `BatchNormalization` is negative or inf"
        ),
        (
            "Set the layer's momentum back to its default, or load its weights in the right order, "
            "and let the layer take up its statistics anew."
        ),
    )
    INFERENCE_ONLY = (
        "inference-only",
        "what the model computes in inference alone is not finite",
        (
            "`loss` is fine, `val_loss` or `model.predict` is nan for the very rows that were "
            "trained on"
        ),
        (
            "Look at what the layer does when `training` is False, and keep it inside its domain "
            "there too."
        ),
    )
    EMPTY_REDUCTION = (
        "empty-reduction",
        "a mean or maximum is taken over nothing",
        "nan at a batch with a row that is all padding or masked",
        "Divide by at least 1 (or use divide_no_nan) where everything may be masked, or leave rows "
        "out that hold nothing.",
    )
    POISON_BATCH = (
        "poison-batch",
        "single batches carry non-finite values",
        "data are made batch by batch, and the loss is nan at certain batches only",
        "Leave out the rows of these batches, or fill their holes.",
    )
    VALIDATION_ONLY = (
        "validation-only",
        "only the validation data give a non-finite loss; training is fine",
        "`val_loss: nan` while `loss` is fine",
        (
            "Clean the validation data as the training data were; the trained weights are fine, "
            "unless a callback watched the validation."
        ),
    )
    XLA_ONLY = (
        "xla-only",
        "the step is non-finite only when XLA compiles it",
        (
            "`loss: nan` with `jit_compile=True`, or on a GPU, where Keras sets it by itself; with "
            "`jit_compile=False` the same training is fine"
        ),
        (
            "Compile the model with jit_compile=False: XLA orders and merges operations, and small "
            "or great numbers between them get lost."
        ),
    )
    RUINING_CALLBACK = (
        "ruining-callback",
        "a callback sets weights to numbers that are not finite",
        "`loss: nan` in the first step after a callback has set weights, as averages of weights do",
        (
            "Mend the callback: it divides by zero there, as by 1 - decay ** 0 or by the norm of "
            "weights that are all 0, or sets weights from before they were known."
        ),
    )
    TRANSIENT = (
        "transient",
        "the failure does not repeat when the same steps are run again",
        "`loss: nan` once, at another step each time or never again; the data are the same",
        (
            "Train on from before the failure and skip such steps; look at what is not repeatable: "
            "random numbers outside Keras, callbacks, files, hardware."
        ),
    )
    UNKNOWN = (
        "unknown",
        "the cause could not be determined",
        "`loss: nan`, and nothing else in this table fits",
        "Let nanfix.fit search: it tries what helps such runs most often.",
    )
