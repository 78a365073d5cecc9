"""Pictures in batches: as many at once as fit into memory, of equally long prompts, with a progress bar."""

from collections.abc import Iterator, Sequence

from tqdm.auto import tqdm

from .llava import Llava
from .memory import pictures_at_once
from .prompts import by_length, check_trials, chunks, prompt_ids
from .trial import Trial


def batches(
    model: Llava, trials: Sequence[Trial], conditions: Sequence[str], what: str, progress: bool
) -> Iterator[tuple[list[tuple[Trial, str]], int]]:
    """Every picture of every trial, to be read at [end].

    Args:
        what: what the bar says is being done.
        progress: show the bar when it takes longer than two seconds.

    Yields:
        (trial, condition) pairs whose prompts have equally many tokens, and the position of [end] in them.

    Raises:
        InputError: before the first batch, as `prompts.check_trials`.
    """
    check_trials(model, trials, conditions)
    ids = prompt_ids(model, trials)
    with tqdm(total=len(trials), desc=what, unit="trial", delay=2, disable=not progress) as bar:
        for alike in by_length(trials, ids):
            end = len(ids[alike[0].prompt]) - 1
            for group in chunks(alike, pictures_at_once(model, end + 1, end) // len(conditions)):
                yield [(trial, condition) for trial in group for condition in conditions], end
                bar.update(len(group))
