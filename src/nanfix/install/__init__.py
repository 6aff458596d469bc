"""Installs a plan in the user's model, trains with it, takes it back or hands it back.

Its business: to ask each change of a plan to install itself, to train with it for some steps and
judge that, and to make a repair part of the user's own object. Other rooms ask `workbench` for all
of it.
Not its business: to decide what is to be changed (`search`), how a kind of change is installed
(`changes`), and to put back a state (`model.snapshot`).
"""
