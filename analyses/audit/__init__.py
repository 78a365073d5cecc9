"""Does a published list of heads do what its paper says?

Lists of visual, localization or hallucination heads mostly rest on where heads look, on probes, or
on the ablation of single heads. `audit` restores and silences each list as a whole, and each of its
heads, and compares the answers with those for random lists of the same layers.

1. **Of a list**: how much of the logit difference (right answer of the clean picture − right answer
   of the corrupted one) comes back when the list's heads are restored in the corrupted run; how
   much is lost when they are silenced in the clean run, by their mean over trials, by zero, or by
   what they do on another trial's picture; how much is left when every other head is held at the
   corrupted run ("alone"); how often the answer is still right; and where its heads look.
2. **Against random lists** with as many heads in each layer: the rank among them is the p value. If
   too few lists exist for the rank to reach 0.05, the audit says so.
3. **Of a head**: restored and silenced alone, its effect on the difference and on every answer's
   word.

All edits are at the given positions, [end] by default: a head that acts on image tokens, or while
the model talks, does nothing *at [end]*, and verdicts say so.

Source: Wang et al. 2022 (arXiv 2211.00593) for mean ablation; Shi et al. 2024 (arXiv 2410.13032)
for random sets as the control.
"""

from .lists import read_lists
from .measures import audit
from .verdicts import heads

__all__ = ["audit", "heads", "read_lists"]
