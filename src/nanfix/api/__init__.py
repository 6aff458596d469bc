"""The front door: `nanfix.fit`, `nanfix.apply`, `nanfix.diagnose`, and the plan of a repair.

Its business: to check the arguments, and to lead one call through the rooms behind it, from
watching to the report.
Not its business: any of the work itself.
"""
