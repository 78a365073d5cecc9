"""Is a set of heads enough to play the game, and is each of them needed?

A circuit is a set C of heads at [end]. Everything is measured on the logit difference m = right
answer of the source picture (odd) − right answer of the target picture. The restored fraction of
it, called faithfulness, is f = (m(run) − m(target)) / (m(source) − m(target)), from means over
trials: 0 is the target run, 1 the source run. Trials without such a gap are refused
(`.faithfulness`).

- **sufficiency**: in the target run, C's z are restored from the source run and every other head is
  held at the target's. Is what C *writes* enough?
- **isolation**: in the source run, every head outside C is given its target z, and only C works. Is
  what C *computes* enough? A sender whose receivers are in C counts only here: sufficiency hands
  the receivers their finished output. This is the faithfulness of the MIB benchmark, with heads at
  [end] as the units.
- **necessity**: in the source run, C is ablated, everything else is free. 0 if nothing replaces C.
- **partial necessity**: does ablating C hurt more than ablating sets of heads from outside it?
- **independence**: with C ablated, does m still follow its value in the source run from trial to
  trial?
- **minimality**: isolation with one head left out of C; without a needed head it falls.

`.one_set` explains the ablations, the random sets and the p values. `.ranking` puts heads in order
and measures how faithful the first of them are.

Earlier positions are never edited: all these runs share what heads do there.

Source: Mueller et al. 2025, MIB (arXiv 2504.13151) for faithfulness and its areas CPR and CMD; Wang
et al. 2022 (arXiv 2211.00593) for minimality and mean ablation; Shi et al. 2024 (arXiv 2410.13032)
for random circuits as control, partial necessity and independence. For partial necessity they test
by a binomial test whether C beats 90 % of random circuits, which takes 29 of them; here C's rank
among them is the p value.
"""

from .one_set import circuit
from .ranking import areas, curve, ranked
from .resampling import partners

__all__ = ["areas", "circuit", "curve", "partners", "ranked"]
