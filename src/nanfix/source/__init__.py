"""Where in the user's source things are made: creation sites, the call of `fit`, numbers as
a person writes them, and data that are not finite.

Runs beside Keras, while the user's program runs. What is written into the source is the
business of `patch`.
"""
