"""From a fix to the user's source code.

Its business: to find the places that the plans of a fix change (`locate`) and, without Keras and
TensorFlow, to turn a fix.json into a diff (`patch`).
Not its business: to note which call of the user's made an object (`source`), to run the user's
script (`scripts`), to print the diff (`cli`).
"""
