"""Whether a head raises a word above every other word, not only above their mean.

A head that tells how bright a tile is raises both black and blue for a blue tile: above the mean of
all words, yet not above each.
"""

import numpy as np
from scipy import stats


def above_others(
    own: np.ndarray,
    others: np.ndarray,
    words: np.ndarray,
    relative: np.ndarray,
    strata: np.ndarray | None,
    some: float,
    margin: float,
    level: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How far a word rises above the others, and whether one of them rises as well.

    Args:
        own: effects on the word, (trials, heads).
        others: effects on the other words, (trials, heads, columns).
        words: the word of each column in a trial, empty where the trial has none, (trials,
            columns).
        relative: effects on the word relative to the mean of the others, (trials, heads).
        strata: the word itself in every trial, (trials,), or None.
        some: the least rise that counts.
        margin: how much more another word must be shown to rise where the head serves nothing.
        level: significance level.

    Returns:
        ``ahead``, (trials, heads): in strata that the head is shown to serve, the rise above the
        other word that rises most there; ``relative`` elsewhere. ``as_well``, (heads,): whether in
        a stratum that the head serves the mean lead over another word is ``some`` or less, or in
        any stratum another word is shown to rise more by ``margin``. ``against``, (heads,): p value
        for no word rising more by ``margin``.
    """
    # A stratum with a single trial has no spread to test, so all trials become one stratum.
    alone = strata is None or np.unique(strata, return_counts=True)[1].min() < 2
    labels = np.full(len(own), "") if alone else np.asarray(strata)
    served = serves(relative, labels, some, level)
    ahead, as_well = np.empty_like(own), np.zeros(own.shape[1], dtype=bool)
    behind, pairs = [], []
    for number, stratum in enumerate(np.unique(labels)):
        in_stratum = labels == stratum
        lead, words_here = own[in_stratum][..., None] - others[in_stratum], words[in_stratum]
        names = [word for word in np.unique(words_here) if word]
        # (words, heads): the mean lead over each word, in the trials that have it.
        means = np.stack([_where(lead, words_here == word).mean(0) for word in names])
        as_well |= served[number] & (means.min(0) <= some)
        first = _beside_first(lead, words_here, names, means.argsort(0))
        ahead[in_stratum] = np.where(served[number], first, relative[in_stratum])
        for word in names:
            behind.append(_where(-lead - margin, words_here == word))
            pairs += [f"{stratum} {word}"] * len(behind[-1])
    against = _any_p(np.concatenate(behind), np.array(pairs))
    return ahead, as_well | (against <= level), against


def serves(effects: np.ndarray, strata: np.ndarray, some: float, level: float) -> np.ndarray:
    """The strata in which more than ``some`` is shown, Booleans, (strata in order, heads);
    corrected over strata, each of two trials or more."""
    p = _p_by_stratum(effects - some, strata)
    return np.array([stats.false_discovery_control(column) for column in p.T]).T <= level


def _any_p(effects, strata):
    """p value for a mean of zero or less in every stratum, (heads,) (Bonferroni)."""
    names, counts = np.unique(strata, return_counts=True)
    several = np.isin(strata, names[counts > 1])
    if not several.any():
        return np.ones(effects.shape[1])
    p = _p_by_stratum(effects[several], strata[several])
    return np.minimum(1, p.min(0) * len(p))


def _p_by_stratum(effects, strata):
    """p value for a mean of zero or less, (strata, heads), with the spread within all strata."""
    names, counts = np.unique(strata, return_counts=True)
    means = np.stack([effects[strata == name].mean(0) for name in names])
    spread = sum(((effects[strata == name] - mean) ** 2).sum(0) for name, mean in zip(names, means))
    freedom = len(effects) - len(names)
    error = np.sqrt(spread / freedom / counts[:, None])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(error > 0, stats.t.sf(means / error, freedom), (means <= 0).astype(float))


def _where(values, chosen):
    """Select from (trials, heads, columns) by (trials, columns): (selected, heads)."""
    trial, column = np.nonzero(chosen)
    return values[trial, :, column]


def _beside_first(lead, words, names, order):
    """The lead over the first word in a head's order that the trial has, (trials, heads).

    Args:
        lead: (trials, heads, columns).
        words: of the columns, (trials, columns).
        names: the distinct words.
        order: indices into ``names``, (words, heads).
    """
    leads = np.full(lead.shape[:2], np.nan)
    for rank in order:
        # (trials, heads, columns): whether the column has the word of this rank.
        has = words[:, None, :] == np.array(names)[rank][None, :, None]
        value = np.take_along_axis(lead, has.argmax(-1)[..., None], -1)[..., 0]
        leads = np.where(np.isnan(leads) & has.any(-1), value, leads)
    return leads
