"""The logit of an answer for which several words are accepted: the logarithm of the summed
exponentials of theirs, so that it is to the probability of any of them what a word's logit is to
its own."""

from __future__ import annotations

import torch


def pooled(logits: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
    """The logits of answers, (…, answers); of an answer with one word its own, to the last bit.

    Args:
        logits: (…, ids).
        asked: columns of ``logits``, (answers, words) or (…, answers, words); -1 where an answer
            has fewer words.
    """
    return _read(logits, asked).logsumexp(-1)


def pooled_shares(shares: torch.Tensor, logits: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
    """Shares of the logits of answers, (…, answers): the mean of those of its words, weighed by how
    likely each is among them; of an answer with one word its own, to the last bit.

    Args:
        shares: of logits, (…, ids).
        logits: that these are shares of, (ids,) or (…, ids).
        asked: as in `pooled`.
    """
    weights = _read(logits, asked).softmax(-1)
    # No word has no share, whatever stands there.
    own = _read(shares, asked).masked_fill(asked < 0, 0)
    return (own * weights).sum(-1)


def _read(logits, asked):
    """Logits by answer and word, (…, answers, words); -∞ where there is no word."""
    columns = asked.to(logits.device).expand(*logits.shape[:-1], *asked.shape[-2:])
    read = logits.gather(-1, columns.clamp_min(0).flatten(-2)).unflatten(-1, asked.shape[-2:])
    return read.masked_fill(columns < 0, -torch.inf)
