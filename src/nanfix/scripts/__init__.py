"""Unmodified training scripts, run in a child process.

Its business: `parent` starts a script, repairs what fails in it and proves the fix by a second run;
`child` stands in for `model.fit` in the script's own process.
Not its business: the repair of a call (`api`), the patch of the script (`patch`),
options and output (`cli`).
"""
