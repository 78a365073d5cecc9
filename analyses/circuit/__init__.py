"""Is a set of heads enough to play the game, and is each of them needed?

A circuit is a set C of heads at [end]. Everything is measured on the logit difference m = right
answer of the source picture (odd) − right answer of the target picture, as the restored fraction,
called faithfulness: f = (m(run) − m(target)) / (m(source) − m(target)), means over trials: 0 is the
target run, 1 the source run. Without such a gap it is refused (`.faithfulness`).

- **sufficiency**: in the target run, C's z are restored from the source run and every other head is
  held at the target's. Is what C *writes* enough?
- **isolation**: in the source run, every head outside C is given its target z, and C works by
  itself. Is what C *computes* enough? A sender whose receivers are in C counts here only:
  sufficiency hands the receivers their finished output. This is the faithfulness of the MIB
  benchmark, with heads at [end] as the units.
- **necessity**: in the source run, C is ablated, everything else is free. 0 if nothing replaces C.
- **partial necessity**: does ablating C hurt more than ablating sets of heads from outside it?
- **independence**: with C ablated, does m still follow from trial to trial what it is in the source
  run?
- **minimality**: isolation with one head left out of C; a head that is needed makes it fall.

What C is ablated by, the random sets that it is compared with, and what its p values mean:
`.one_set`. Which heads come first, and how faithful the first of them are: `.ranking`.

Earlier positions are never touched: what heads do there belongs to all of these runs alike.

Source: Mueller et al. 2025, MIB (arXiv 2504.13151) for faithfulness and its areas CPR and CMD; Wang
et al. 2022 (arXiv 2211.00593) for minimality and mean ablation; Shi et al. 2024 (arXiv 2410.13032)
for random circuits as control, partial necessity and independence. They ask of partial necessity by
a binomial test whether C beats 90 % of random circuits, which takes 29 of them; here its rank among
them is the p value.
"""

from .one_set import circuit
from .ranking import areas, curve, ranked
from .resampling import partners

__all__ = ["areas", "circuit", "curve", "partners", "ranked"]
