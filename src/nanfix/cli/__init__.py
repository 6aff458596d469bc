"""The command line: `nanfix repair`, `diagnose`, `run`, `patch`, `export`, `strategies`.

Its business: options, what is refused before anything runs, saved models and data in files, the
answer in words or as JSON.
Not its business: anything that a caller from Python needs, too.
"""
