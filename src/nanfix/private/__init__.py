"""Every private name of Keras, TensorFlow and keras-tuner that nanfix uses, each with what the public way lacks.

Nothing else in nanfix uses such a name, so a new version of these packages breaks here, and a test says which name is gone.
`objects` reads attributes of the user's own models and loads nothing; `keras`, `graphs`, `tensorflow` and `tuner` load the
package they are about. What is done with these things is the business of the modules that import this one.
"""
