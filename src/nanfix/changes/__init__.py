"""What a fix can change about a training: one file for each kind of change, and the
plan that holds them.

The file of a kind says all there is to it: its record, how it is installed in the model
and handed back, what of it is built into the traced graph, and what a person would
write for it in the source. The other files are what kinds are installed with. Nothing
here decides which change is made: strategies do. A package of somebody else's adds a
kind by a class of its own, derived from `change.Change`.
"""
