"""From a fix to the user's source code.

Its business: beside Keras, to note which call of the user's code made an object (`creation_sites`,
`fit_call`) and to find the places that a fix changes (`locate`); without Keras and TensorFlow, to
turn a fix.json into a diff (`patch`).
Not its business: to run the user's script (`scripts`), to print the diff (`cli`).
"""
