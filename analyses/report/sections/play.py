"""How often the model answers right, picture by picture."""

from scipy.stats import binomtest

from rgb_circuit.calls.play import right_words

from ..run import Needs, Run
from ..section import Section, beside
from ..writing import percent


def _values(run: Run):
    play = run.frames["play"]
    wrong = play[~play["correct"].fillna(True).astype(bool)]
    every = len(run.manifest["trials"])
    scored = play["correct"].dropna()
    return dict(
        gist=f"{percent(scored.mean())} of {len(scored)} pictures" if len(scored) else "not scored",
        split=_split(run.frames.get("answers")),
        rows=[_row(*rows) for rows in play.groupby("condition", observed=True, sort=False)],
        wrong=wrong.assign(expected=right_words(wrong)).head(3).to_dict("records"),
        n_wrong=len(wrong),
        every=every,
        left_out=every - run.trials,
    )


def _row(condition, played):
    scored = played["correct"].dropna()
    # If answers are scored, list only the wrong ones.
    told = played.loc[scored.index[~scored.astype(bool)]] if len(scored) else played
    row = dict(
        condition=condition,
        right=int(scored.sum()),
        n=len(scored),
        often=_most_often(told["answer"]),
    )
    if len(scored):
        interval = binomtest(row["right"], row["n"]).proportion_ci(method="wilson")
        row |= dict(share=row["right"] / row["n"], low=interval.low, high=interval.high)
    return row


def _most_often(answers):
    if answers.empty:
        return None
    word, times = next(iter(answers.value_counts().items()))
    return dict(word=word, times=int(times), of=len(answers))


def _split(pieces):
    """The words of several tokens, and the piece at which each is read."""
    if pieces is None:
        return []
    read = pieces[~pieces["whole"]].drop_duplicates(["answer", "piece"])
    return read[read.columns.intersection(["answer", "piece", "behind"])].to_dict("records")


SECTION = Section(
    order=20,
    link="Answers",
    title="Does the model {{ 'play the game' if run.task.is_game else 'answer correctly' }}?",
    needs=Needs(
        {"play": "trial condition expected answer correct", "patch_heads": "trial"},
        optional=[{"answers": "answer piece whole"}],
    ),
    values=_values,
    fragment=beside(__file__),
    half=True,
)
