import pytest
import torch

import rgb_circuit as rgb
from rgb_circuit.models.random import random_llava
from rgb_circuit.models.small import save

# On models this small, threads cost more than they save.
torch.set_num_threads(1)

# Multi-head, grouped-query, one KV head with heads wider than width / heads.
GEOMETRIES = {
    "multi-head": dict(layers=3, heads=4, kv_heads=4),
    "grouped": dict(layers=3, heads=4, kv_heads=2),
    "one-kv": dict(layers=2, heads=4, kv_heads=1, d_head=12),
}


@pytest.fixture(scope="session")
def random_folder(tmp_path_factory):
    """Name of a geometry → folder of a random LLaVA with it."""
    folders = {}
    for seed, (name, geometry) in enumerate(GEOMETRIES.items()):
        model, processor = random_llava(seed, **geometry)
        folders[name] = save(model, processor, tmp_path_factory.mktemp(name))
    return folders


@pytest.fixture(scope="session", params=GEOMETRIES)
def model(request, random_folder):
    """A random LLaVA of each geometry."""
    return rgb.load(str(random_folder[request.param]))


@pytest.fixture(scope="session")
def grouped(random_folder):
    """A random LLaVA with grouped-query attention."""
    return rgb.load(str(random_folder["grouped"]))
