"""The rules by which claims are judged, as a value."""

from dataclasses import dataclass

from rgb_circuit.arguments import as_number
from rgb_circuit.errors import InputError


@dataclass(frozen=True)
class Rules:
    """The rules by which claims are judged; see `examine`."""

    margin: float
    least: float
    level: float
    split: bool

    def __post_init__(self):
        for name in ("margin", "least"):
            if (number := as_number(getattr(self, name))) is None:
                raise InputError(f"{name} is {getattr(self, name)!r}; give a number, such as 0.05")
            object.__setattr__(self, name, number)
        if not self.margin > 0:
            raise InputError(
                f"margin is {self.margin:g}; use a fraction of the gap above 0, such as 0.1"
            )
        if not 0 <= self.least <= self.margin:
            raise InputError(
                f"least is {self.least:g}; use a fraction of the gap from 0 to the margin, "
                f"{self.margin}"
            )
