"""The settings in which two runs differ (model, number format, question, options, versions), and
how similar their trials are."""

from collections.abc import Mapping

from rgb_circuit.keeping.manifest import differing
from rgb_circuit.keeping.shared_trials import shared_trials

from ..run import Run
from ..writing import listed

# Dotted name in a manifest → its name on the page; "" for entries that are not listed.
NAMES = {
    "dtype": "number format",
    "template": "conversation",
    "parameters": "parameters",
    "answer_form": "form of answers",
    "heads": "heads per layer",
    "kv_heads": "key-value heads per layer",
    "tile_px": "pixels per tile",
    "picture_px": "pixels per picture",
    "words": "answer words",
    "options.trials": "trials requested",
    "versions.rgb_circuit": "version of rgb_circuit",
} | dict.fromkeys(
    ("started", "finished", "options.dtype", "options.device", "options.name",
     "options.no_pictures", "options.trials_file", "options.hypotheses", "also_asked",
     "registered.after", "registered.file", "registered.hash"), ""
)  # fmt: skip
# Hashes, which only say that something differs.
HASHED = ("config", "weights", "chat_template", "tokenizer")
# Entries that differ with the number format, even for the same model.
OF_NUMBERS = {"config", "weights"}
# Entries with more differing parts than this, such as a processor, get a single row.
MOST_PARTS = 4
LONGEST = 160


def settings(a: Run, b: Run) -> list[tuple[str, str, str]]:
    """The differences: name, and its value in A and in B."""
    rows: dict[str, list[tuple[str, str, str]]] = {}
    different = differing(a.manifest, b.manifest)
    same_model = not {"model", "revision", "commit"} & set(different)
    follows = OF_NUMBERS if same_model and "dtype" in different else set()
    for name, (in_a, in_b) in different.items():
        if name in follows:
            continue
        top, _, rest = name.partition(".")
        called = NAMES.get(name, f"{top}: {rest}" if rest else name)
        if top == "options" and name not in NAMES:
            called = f"--{rest.replace('_', '-').replace('.', ' ')}"
        if top == "versions" and name not in NAMES:
            called = f"version of {rest}"
        if called:
            if name == "model":
                # A model's parent folders are private.
                in_a, in_b = a.model_title, b.model_title
            rows.setdefault(top, []).append((called, *_values(top, in_a, in_b)))
    listed_rows = []
    for top, parts in rows.items():
        few = len(parts) <= MOST_PARTS or top in ("options", "versions")
        listed_rows += parts if few else [(top, f"{len(parts)} of its settings differ", "")]
    return listed_rows + _trials(a, b)


def _values(top, one, other):
    if top in HASHED:
        return ("none" if one is None else "one", "none" if other is None else "another")
    return _short(one), _short(other)


def _short(value):
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = listed([str(entry) for entry in value]) if isinstance(value, list) else str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _trials(a, b):
    shared = shared_trials(a, b)
    rows = []
    if not shared.same:
        both = f" ({shared.n} of them in both)" if shared.n else ""
        rows.append(("trials", f"{a.n}{both}", f"{b.n}{both}"))
    questions = [_question(run.manifest) for run in (a, b)]
    if questions[0] != questions[1]:
        rows.append(("first prompt", *questions))
    return rows


def _question(manifest: Mapping):
    return manifest["trials"][0]["prompt"].strip()
