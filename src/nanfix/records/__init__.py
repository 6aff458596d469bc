"""Words and records that every other room speaks in: errors, budgets, diagnoses,
changes to a run and to source code.

Its business: what nanfix has to say, as exceptions and frozen records that can be compared and
written down, each file whole or not at all.
Not its business: to measure or to change anything. Importing it loads neither Keras nor TensorFlow;
`model` is the first room that looks at a model.
"""
