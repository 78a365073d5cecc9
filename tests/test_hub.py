"""Models from the hub: one commit for all files; each way of not getting them has its own
advice."""

import shutil
from types import SimpleNamespace

import pytest
from hub import COMMIT, loaded
from hub_folder import write_hub_folder
from huggingface_hub.errors import HfHubHTTPError

import rgb_circuit as rgb
from rgb_circuit.loading import checkpoints
from rgb_circuit.models.random import random_llava


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Name → what came of loading it; under (name, "away"): afterwards, where the hub cannot be
    reached."""
    home = tmp_path_factory.mktemp("hub")
    model = write_hub_folder(*random_llava(layers=2), home / "llava")
    adapter, empty, pickles = home / "adapter", home / "empty", home / "pickles"
    for folder in (adapter, empty):
        folder.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    (empty / "model.gguf").write_bytes(b"")
    shutil.copytree(model, pickles, ignore=shutil.ignore_patterns("*.safetensors*"))
    (pickles / "pytorch_model.bin").write_bytes(b"")
    repositories = {
        "some/llava": model,
        "some/adapter": adapter,
        "some/empty": empty,
        "some/pickles": pickles,
    }
    names = [
        *repositories,
        "some/llava@v9",
        "some/other",
        "gated/llava",
        "secret/llava",
        "unwell/llava",
    ]
    return loaded(repositories, home / "cache", names, away=["some/llava", "some/other"])


@pytest.mark.parametrize(
    "name",
    ["some/llava", ("some/llava", "away")],
    ids=["from the hub", "from the cache without network"],
)
def test_a_model_of_the_hub_is_known_by_its_commit(asked, name):
    model = asked[name]
    assert model.pop("seconds") < 20
    # The commit stands for the weights.
    assert model == {"commit": COMMIT, "revision": COMMIT, "weights": None, "layers": 2}


def test_what_was_downloaded_before_does_while_the_hub_is_unwell(tmp_path, monkeypatch):
    def refuse(url):
        raise HfHubHTTPError(
            "unwell", response=SimpleNamespace(status_code=503, headers={}, request=None)
        )

    (tmp_path / COMMIT).mkdir()
    config = tmp_path / COMMIT / "config.json"
    monkeypatch.setattr(checkpoints.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(checkpoints, "get_hf_file_metadata", refuse)
    with pytest.raises(
        rgb.InputError, match=r"does not answer about 'some/llava' as it should \(HTTP 503\)"
    ):
        checkpoints.find("some/llava", "some/llava", None)
    monkeypatch.setattr(checkpoints, "hf_hub_download", lambda *_, **options: config)
    found = checkpoints.find("some/llava", "some/llava", None)
    assert (found.config, found.commit, found.offline) == (config, COMMIT, True)


@pytest.mark.parametrize(
    "name, said",
    [
        ("some/llava@v9", "'some/llava' has no revision 'v9'; give a branch, tag or commit"),
        (
            "some/other",
            "no folder 'some/other' here, and the hub has no such repository or it is private; "
            "check the spelling, or log in",
        ),
        ("gated/llava", "'gated/llava' is gated: accept its conditions at http"),
        ("secret/llava", "does not let this user read 'secret/llava' (HTTP 403); log in"),
        ("unwell/llava", "(HTTP 500); try again later"),
        ("some/adapter", "holds adapters (adapter_config.json) instead of a model; merge"),
        ("some/empty", "'some/empty' has no config.json, so it is no model"),
        ("some/pickles", "the weights of 'some/pickles' are pickles (pytorch_model.bin)"),
        (
            ("some/other", "away"),
            "cannot be reached to look for 'some/other'; check the network, or fetch it where "
            "there is network",
        ),
    ],
)
def test_what_the_hub_does_not_give_is_refused_at_once_with_its_own_cause(asked, name, said):
    assert said in asked[name]["refused"]
    assert asked[name]["seconds"] < 5
