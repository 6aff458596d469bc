"""The user's data in every form that Keras takes: arrays, datasets, generators, nested structures.

Its business: to check data, to count and take rows, to sample and hold some back, to draw from
streams without losing a batch, to leave rows out, and to know how much memory is left for all that.
Not its business: to judge what is in the data (`explain.audit`, `explain.oddities`).
"""
