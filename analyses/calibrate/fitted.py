"""A copy of a model whose language model has random weights, and a readout that answers all the
same.

A picture leaves some trace in the last state of any network, so a linear map from there to the
answers' words, fitted by least squares on other trials, makes a gap. The heads are as random as
their weights, so every hypothesis about them is false.
"""

import copy
from collections.abc import Sequence
from itertools import chain

import numpy as np
import torch

import rgb_circuit as rgb
from rgb_circuit.errors import NotApplicable
from rgb_circuit.measuring.batches import batches
from rgb_circuit.programs.capture import language_model
from rgb_circuit.prompts import answer_tokens, encode

# The fitted logit of the right word; the other words are fitted to 0.
RIGHT = 10.0


def fitted_readout(model: rgb.Vlm, trials: Sequence[rgb.Trial], seed: int) -> rgb.Vlm:
    """Make the copy.

    Args:
        trials: the trials to fit the readout on; judge others.
        seed: of the weights.

    Raises:
        NotApplicable: a model on a server, whose weights are not here; or trials without a right
            answer.
    """
    if model.server is not None:
        raise NotApplicable("the weights are on a server, so no copy with random ones can be made")
    module = copy.deepcopy(model.nnsight._module)
    generator = torch.Generator().manual_seed(seed)
    head = module.get_output_embeddings()
    with torch.no_grad():
        for parameter in language_model(module).layers.parameters():
            if parameter.ndim >= 2:
                drawn = (
                    torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.5
                )
                parameter.copy_(drawn)
        states, right = _states(model, module, head, trials)
        words = sorted(set(right))
        wanted = RIGHT * torch.nn.functional.one_hot(
            torch.tensor([words.index(word) for word in right]), len(words)
        )
        wanted = wanted.double() - wanted.double().mean(0)
        readout = torch.zeros_like(head.weight)
        readout[words] = torch.linalg.lstsq(states, wanted).solution.T.to(readout)
        # Embeddings that share the readout's weights stay as they are.
        head.weight = torch.nn.Parameter(readout)
    return rgb.wrap(module, model.processor, name=f"random weights {seed}")


def _states(model, module, head, trials):
    """The readout's input at [end] of every picture with a right answer, double, (pictures, width),
    and that answer's token."""
    states: list[torch.Tensor] = []
    right: list[int] = []
    hook = head.register_forward_pre_hook(
        lambda _, given: states.append(given[0][:, -1].double().cpu())
    )
    conditions = [
        name for name in trials[0].images if all(name in trial.expected for trial in trials)
    ]
    if not conditions:
        hook.remove()
        raise NotApplicable("no picture of these trials has a right answer to fit a readout to")
    for shown, _ in chain.from_iterable(batches(model, trials, conditions)):
        inputs = {name: value.to(module.device) for name, value in encode(model, shown).items()}
        module(**inputs, logits_to_keep=1)
        right += [answer_tokens(model, trial, name)[trial.expected[name]] for trial, name in shown]
    hook.remove()
    return torch.from_numpy(np.concatenate([state.numpy() for state in states])), right
