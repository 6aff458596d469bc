"""What a fix is, and the contract that every remedy fulfills.

Its business: `strategy` is what a plug-in implements, `registry` finds all that are installed,
`fix` holds edits as plain data.
Not its business: single remedies (`strategies`), how a change gets into the model (`install`),
which one to try (`search`).
"""
