"""Where a head looks, drawn over the picture."""

from matplotlib.axes import Axes

from ..arguments import check_wrapped
from ..calls.attention import attention_from_end, over_picture
from ..edits import check_heads
from ..errors import InputError
from ..pictures.as_seen import as_seen
from ..plots import attention_over_picture
from ..trial import Trial, one_condition
from ..vlm import Vlm


def attention_over(
    model: Vlm,
    trial: Trial,
    layer: int,
    head: int,
    condition: str = "clean",
    *,
    ax: Axes | None = None,
) -> Axes:
    """Draw where a head looks from [end] on a trial's picture: the picture as the model sees it,
    grey where the head does not look, with the trial's tile, if it has one, outlined.

    Attention alone misleads: compare it with `patch_heads`.

    Args:
        condition: the condition of the picture.
        ax: the axes to draw on; by default those of a new figure.

    Raises:
        InputError: a head that does not exist, a condition that the trial lacks, or a picture that
            the model's tokens cannot be laid over.

    Examples:
        >>> rgb.attention_over(model, trials[0], 3, 1).get_xlabel().splitlines()[1][:8]
        'outlined'
    """
    if not isinstance(trial, Trial):
        raise InputError("attention is drawn over the picture of one trial; give trials[0]")
    check_wrapped(model)
    [place] = check_heads(model, [(layer, head)])
    one_condition("condition", condition)
    [(_, _, pattern)] = attention_from_end(model, [trial], [condition], heads=[place])
    return attention_over_picture(
        over_picture(model, trial, pattern[place], condition),
        as_seen(model, trial.images[condition]),
        tile=trial.tile,
        ax=ax,
    )
