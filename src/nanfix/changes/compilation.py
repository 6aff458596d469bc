"""How the training step is compiled: by XLA or not."""

import inspect
from dataclasses import dataclass
from typing import ClassVar

from nanfix.changes.change import Change, Lasts


@dataclass(frozen=True)
class Compilation(Change):
    """Let XLA compile what the model computes, or not; None leaves it to the user.

    The model keeps it, and a saved one is compiled with it.
    """

    jit_compile: bool | None = None
    kind: ClassVar[str] = "compilation"
    order: ClassVar[int] = 5

    @property
    def lasts(self):
        return Lasts.COMPILED

    def install(self, shop, plan):
        from nanfix.model.undo import put
        from nanfix.private.objects import compile_config

        if self.jit_compile is None:
            return
        put(shop.repair, shop.model, "jit_compile", self.jit_compile)
        compiled = compile_config(shop.model)
        if compiled is not None:
            config = {**compiled.config, "jit_compile": self.jit_compile}
            put(shop.repair, compiled, "config", config)

    def in_source(self, run, plan, call):
        from nanfix.records.source_changes import ArgumentChange, NoPlace

        parameters = list(inspect.signature(run.model.compile).parameters.values())
        position = next((n for n, p in enumerate(parameters) if p.name == "jit_compile"), None)
        if call.compiled is None:
            yield NoPlace(reason="the call of compile is not in the script's own code")
        elif position is None and all(p.kind is not p.VAR_KEYWORD for p in parameters):
            yield NoPlace(reason="the model's own compile takes no jit_compile")
        else:
            yield ArgumentChange(
                target=call.compiled,
                name="jit_compile",
                value=repr(self.jit_compile),
                position=position,
            )
