"""Which site holds which model, so that a round's model goes to it as what has changed, where the study compresses.

A site holds the model of the last round that it answered. After a failure nothing is taken for granted and it is sent
the next one whole. The last two models are remembered, not more: each has the size of the network.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sarco_models.messages import Request, Train, TrainOn
from sarco_models.model_down import shorter
from sarco_models.parameters import Parameters


@dataclass
class ModelDown:
    """What the sites of a run hold.

    Attributes:
        on: whether the study compresses at all.
        held: site -> the model that it holds.
    """

    on: bool = False
    held: dict[str, Parameters] = field(default_factory=dict)
    _made: tuple[Train, Parameters, TrainOn] | None = None

    def lightest(self, site: str, request: Request) -> Request:
        """The request, or the same in fewer bytes; one object for all sites that get the same."""
        base = self.held.get(site)
        if base is None or not isinstance(request, Train) or request.masking or base is request.parameters:
            return request
        if self._made is None or self._made[0] is not request or self._made[1] is not base:
            self._made = (request, base, shorter(request, base))
        return self._made[2]

    def has(self, site: str, request: Request) -> None:
        """The site has answered this request, which is the whole one."""
        if not self.on or not isinstance(request, Train):
            return
        before = self._made[1] if self._made else None
        kept = {name: model for name, model in self.held.items() if model in (before, request.parameters)}
        self.held = {**kept, site: request.parameters}

    def lost(self, site: str) -> bool:
        """Nothing is known of the site any more; returns whether anything was."""
        return self.held.pop(site, None) is not None
