"""The only room that changes the user's model: it installs a setup, trains with it,
takes it back or hands it back.

Its business: one module for each kind of change (optimizer, loss, guard, scaling, folded or
inserted layers, learning rate), and `workbench`, through which the other rooms ask for all of it.
Not its business: to decide what is to be changed. To put back a state is the business of
`recorder.snapshot`.
"""
