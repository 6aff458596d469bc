"""From a failed run to ranked causes.

Its business: to describe the run, replay its failing steps, look at its data, run steps again with
one thing changed, and weigh the evidence. `incident` holds it all together; `failed_run` is what it
leaves for the search.
Not its business: to choose or try a fix. The model is left as the newest snapshot has it.
"""
