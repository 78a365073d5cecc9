"""Can the analyses be believed? Their verdicts on models whose heads are known.

1. A family of models is drawn at random: planted circuits, and three kinds on which every role is
   false (`.subjects`).
2. Four readings give each head a role (`.readings`), from several numbers of trials (`.judge`).
3. These roles are compared with the truth: precision and recall per role, and roles given where
   none is true (`.counts`).

Verdicts on a user's own hypotheses are tried on the user's model and trials (`.own_hypotheses`).

An analysis that is added to `analyses.roles.GAME` is calibrated here without further changes.
"""

from ..rgb.subjects import CHANGED, KINDS, NOISE, NULLS, UNEVEN_HEAD, Subject, exchanged, family
from .counts import by_evenness, by_trials, false_discoveries, summary
from .judge import verdicts
from .known import Known
from .own_hypotheses import own, says
from .readings import by_roles, permuted, reading_of

__all__ = [
    "CHANGED",
    "KINDS",
    "Known",
    "NOISE",
    "NULLS",
    "Subject",
    "UNEVEN_HEAD",
    "by_evenness",
    "by_roles",
    "by_trials",
    "exchanged",
    "false_discoveries",
    "family",
    "own",
    "permuted",
    "reading_of",
    "says",
    "summary",
    "verdicts",
]
