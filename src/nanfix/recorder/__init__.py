"""The flight recorder: what happens while Keras trains, and how a training goes back to a good
state and on from there.

Its business: `watch` runs the user's own `model.fit` and records verified snapshots and the batches
since; the rest keeps callbacks, their files and the history as Keras would have left them.
Not its business: what a snapshot is (`model.snapshot`), why a training failed (`explain`) and what
to do about it. A healthy run needs nothing behind this room.
"""
