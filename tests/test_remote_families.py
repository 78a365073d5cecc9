"""Other families on a real NDIF server: windows, image tokens that see each other and two views go
on from the captured run there too."""

import numpy as np
import pytest
import remote_server
from test_remote import every_kind

import rgb_circuit as rgb


@pytest.mark.parametrize("name", remote_server.FAMILIES)
def test_a_server_patches_another_family_as_this_process_does(ndif_server, monkeypatch, name):
    ndif_server.connect(monkeypatch)
    here, there = (rgb.load(ndif_server.names[name], remote=remote) for remote in (False, True))
    assert there.ahead == here.ahead and there.layout == here.layout
    trials = rgb.rgb_trials(here, 3)
    for component in ("z", "pattern"):
        for positions in ("end", "tile"):
            frames = [
                rgb.patch_heads(
                    one, trials, component=component, positions=positions, progress=False
                )
                for one in (here, there)
            ]
            np.testing.assert_allclose(
                frames[0]["effect"], frames[1]["effect"], rtol=1e-4, atol=1e-4
            )
            assert frames[0]["effect"].abs().max() > 1e-3
    for words in ("end", "tile"):
        frames = [
            rgb.patch_edits(
                one, trials[:1], every_kind(one, words), target="erased", progress=False
            )
            for one in (here, there)
        ]
        np.testing.assert_allclose(frames[0]["effect"], frames[1]["effect"], rtol=1e-4, atol=1e-4)
        assert frames[0]["effect"].abs().max() > 1e-3
    paths = [
        rgb.patch_paths(
            one,
            trials[:1],
            [(0, 1), ("mlp", 1), "embedding"],
            [(2, 0), (3, 2)],
            into=("query", "key", "value"),
            progress=False,
        )["effect"]
        for one in (here, there)
    ]
    np.testing.assert_allclose(*paths, rtol=1e-4, atol=1e-4)
    assert paths[0].abs().max() > 1e-3
    for edits in every_kind(here, "all").values():
        if edits[0].source == "mean":
            continue
        local, remote = (
            rgb.generate(one, trials[0], "erased", edits, 3).tokens for one in (here, there)
        )
        assert remote["id"].tolist() == local["id"].tolist()
        np.testing.assert_allclose(remote["logit"], local["logit"], atol=1e-4)
