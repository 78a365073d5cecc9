"""Messages of the package, with the command's options in place of Python arguments."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

# Option → its argument in Python, if the two have different names.
ARGUMENTS = {"device": "device_map"}


def as_options(message: str, options: Iterable[str], fixed: Mapping[str, str] | None = None) -> str:
    """A message with options in place of the arguments that it names.

    A word counts as an argument if the message gives its value (``dtype='bfloat16'``, ``tiles is
    1``) or says to leave it out; elsewhere it is an ordinary word.

    Args:
        options: names of the command's options, with ``_`` for ``-``.
        fixed: role → the option, up to its value, that sets the role's word, such as ``--odd `` or
            ``--fix odd=``.

    Examples:
        >>> as_options("it is too large; give dtype='bfloat16' or remote=True", ["dtype", "remote"])
        'it is too large; give --dtype bfloat16 or --remote'
        >>> as_options("make more with rgb_trials(model, n=16)", ["trials"])
        'make more with --trials 16'
        >>> as_options("trial is 5 and --trial is 5", ["trial"])
        '--trial is 5 and --trial is 5'
    """
    message = re.sub(r"rgb_trials\(model, n=(\d+)\)", r"--trials \1", message)
    for role, option in (fixed or {}).items():
        message = re.sub(rf"\b{role}='([^']*)'", rf"{option}\1", message)
    for option in options:
        name, flag = ARGUMENTS.get(option, option), "--" + option.replace("_", "-")
        message = re.sub(rf"\b{name}=True\b", flag, message)
        message = re.sub(rf"\b{name}=(?:'([^']*)'|(\d+))", rf"{flag} \1\2", message)
        message = re.sub(rf"(?<!-)\b{name}(?= is )", flag, message)
        message = re.sub(rf"(\bleave (?:\S+ and )?){name}\b", rf"\1{flag}", message)
    return message
