"""Enums whose members are told in prose."""

from enum import Enum


class Told(Enum):
    """What can be wrong, under a short name.

    `value` is that name, which never changes; the rest is prose for people, which may.

    Attributes:
        sentence: what is wrong, as a report says it.
        symptom: what a person sees of it without nanfix, in Markdown.
        remedy: what an expert would do about it.
    """

    _value_: str
    sentence: str
    symptom: str
    remedy: str

    def __new__(cls, value: str, sentence: str, symptom: str, remedy: str) -> "Told":
        self = object.__new__(cls)
        self._value_, self.sentence, self.symptom, self.remedy = value, sentence, symptom, remedy
        return self

    @property
    def page(self) -> str:
        """Where the documentation says more: the strategies for it, mildest first."""
        return f"docs/strategies.md#{self.value}"
