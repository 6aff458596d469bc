"""What nanfix knows of Keras and of the code around it: layers, optimizers, steps, operations,
whose code is running.

Its business: to name the parts of a model, to hold the facts of a training (`run`), to read and set
attributes so that it can be undone, to run the model's training step, to take and restore its state
(`snapshot`), to see every operation, and to tell a fault of nanfix's own from an error of the
user's code (`user_code`, `faults`).
Not its business: the user's data (`data`), when a snapshot is taken (`recorder`), what a fix
changes in a model (`changes`).
"""
