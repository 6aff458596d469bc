"""Every private name of Keras, TensorFlow and keras-tuner that nanfix uses.

Its business: one small function, import or constant for each, which says what the public way lacks.
No other room uses such a name, so a new version of these packages breaks here, and a test says
which name is gone. `objects` reads attributes of the user's own models and loads nothing; `keras`,
`graphs`, `tensorflow` and `tuner` load the package that they are about.
Not its business: what is done with these things.
"""
