"""Words and records that every other room speaks in: errors, budgets, diagnoses, changes of
source code.

Its business: what nanfix has to say, as exceptions and frozen records that can be compared and
written down; and that a file is written whole or not at all (`atomic`).
Not its business: to measure or to change anything. Importing it loads neither Keras nor TensorFlow;
`model` is the first room that looks at a model.
"""
