"""Pictures in batches: as many at once as fit into memory, of equally long prompts."""

from collections.abc import Iterator, Sequence

from ..prompts import by_length, prompt_ids
from ..running.memory import chunks, pictures_at_once
from ..trial import Trial
from ..vlm import Vlm


def batches(
    model: Vlm, trials: Sequence[Trial], conditions: Sequence[str]
) -> Iterator[tuple[list[tuple[Trial, str]], int]]:
    """Every picture of every trial, to be read at [end]; for trials that were checked.

    Yields:
        (trial, condition) pairs, all conditions of some trials whose prompts have equally many
        tokens; and the position of [end] in them.
    """
    ids = prompt_ids(model, trials)
    for alike in by_length(trials, ids):
        end = len(ids[alike[0].name]) - 1
        for group in chunks(alike, pictures_at_once(model, end + 1, end) // len(conditions)):
            yield [(trial, condition) for trial in group for condition in conditions], end
