"""Where in the user's source things come from: which call made a layer or an optimizer, which
call of `fit` trains it, which statement made NaN in the data.

Its business: to look while the user's program runs, at its frames, variables and files.
Not its business: what is written into the source (`patch`), and to run a script again (`scripts`).
"""
