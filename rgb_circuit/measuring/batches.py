"""Batches of pictures with equally long prompts, as large as fit into memory."""

from collections.abc import Iterator, Sequence

from ..prompts import prompt_ids
from ..running.memory import chunks, pictures_at_once
from ..trial import Trial
from ..vlm import Vlm


def batches(
    model: Vlm, trials: Sequence[Trial], conditions: Sequence[str]
) -> Iterator[list[tuple[list[tuple[Trial, str]], int]]]:
    """Batches of every picture of every trial, to be read at [end]; the trials are checked.

    Yields:
        All pictures of some trials, as batches: (trial, condition) pairs whose prompts have equally
        many tokens, and the position of [end] in them. One batch, or one for each condition if
        their prompts differ in length.
    """
    ids = {condition: prompt_ids(model, trials, condition) for condition in conditions}
    alike: dict[tuple[int, ...], list[Trial]] = {}
    for trial in trials:
        lengths = tuple(len(ids[condition][trial.name]) for condition in conditions)
        alike.setdefault(lengths, []).append(trial)
    for lengths, similar in alike.items():
        longest = max(lengths)
        for group in chunks(
            similar, pictures_at_once(model, longest, longest - 1) // len(conditions)
        ):
            if len(set(lengths)) == 1:
                yield [
                    (
                        [(trial, condition) for trial in group for condition in conditions],
                        longest - 1,
                    )
                ]
            else:
                yield [
                    ([(trial, condition) for trial in group], length - 1)
                    for condition, length in zip(conditions, lengths)
                ]
