"""The logit of an answer with several accepted words: the log-sum-exp of their logits, which
relates to the probability of any of the words as a word's logit does to its own."""

from __future__ import annotations

import torch


def pooled(logits: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
    """The logits of answers, (…, answers); for an answer with one word, that word's logit to the
    last bit.

    Args:
        logits: (…, ids).
        asked: columns of ``logits``, (answers, words) or (…, answers, words); padded with -1 if an
            answer has fewer words.
    """
    return _read(logits, asked).logsumexp(-1)


def pooled_shares(shares: torch.Tensor, logits: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
    """Shares of the logits of answers, (…, answers): the mean of the shares of an answer's words,
    weighted by how likely each word is among them; for an answer with one word, that word's share
    to the last bit.

    Args:
        shares: of logits, (…, ids).
        logits: the logits that these are shares of, (ids,) or (…, ids).
        asked: as in `pooled`.
    """
    weights = _read(logits, asked).softmax(-1)
    # A padded place has no share, whatever its value.
    own = _read(shares, asked).masked_fill(asked < 0, 0)
    return (own * weights).sum(-1)


def _read(logits, asked):
    """Logits by answer and word, (…, answers, words); -∞ at padded places."""
    columns = asked.to(logits.device).expand(*logits.shape[:-1], *asked.shape[-2:])
    read = logits.gather(-1, columns.clamp_min(0).flatten(-2)).unflatten(-1, asked.shape[-2:])
    return read.masked_fill(columns < 0, -torch.inf)
