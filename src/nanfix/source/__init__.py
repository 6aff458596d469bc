"""Where in the user's source things are made: creation sites, the call of `fit`, and
numbers as a person writes them.

Runs beside Keras, while the user's program runs. What is written into the source is the
business of `patch`.
"""
