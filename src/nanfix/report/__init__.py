"""How a run ended, and what is left on disk.

Its business: `Report` and its trials, the format of a fix.json, what `report.export` writes, and
the run folder.
Not its business: snapshots on disk (`recorder`), words and JSON of the command line (`cli`).
"""
