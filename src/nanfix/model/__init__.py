"""What nanfix knows of Keras and of the code around it: layers, optimizers, steps, operations,
whose code is running.

Its business: to name the parts of a model, to read and set their attributes so that it
can be undone, to run its training step, to see every operation, and to tell a fault of
nanfix's own from an error of the user's code (`user_code`, `faults`). `setup` holds a
run as data, with the changes of a fix.
Not its business: the user's data (`data`), snapshots (`recorder`), what a fix changes
in a model (`install`).
"""
