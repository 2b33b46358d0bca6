import pytest
import torch
from conftest import small

from kgrec.data.synthetic.small import generate
from kgrec.errors import ConfigError


def test_sizes_and_repeatability():
    data = small()
    assert data.counts() == {
        "users": 60, "items": 40, "positives": len(data.positives), "entities": 52,
        "relations": 3, "triples": 40 * 3 * 2,
    }  # fmt: skip
    assert data.user_relation.shape == (60, 3)
    assert torch.equal(small().positives.keys, data.positives.keys)
    assert not torch.equal(small(1).positives.keys, data.positives.keys)


def test_every_user_has_positives_and_every_item_its_attributes():
    data = small()
    assert data.positives.user_degrees().min() >= 2
    around = data.graph.neighborhood()
    assert (around.degrees[:40] == 6).all()
    first = slice(0, 6)
    assert around.relations[first].bincount().tolist() == [2, 2, 2]


def test_the_popularity_knob():
    def spread(popularity: float) -> float:
        data = generate(num_users=200, popularity=popularity, noise=0.5)
        return float(data.positives.item_degrees().float().std())

    assert spread(2.0) > 2 * spread(0.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_users": 0}, "dataset.num_users: found 0, expected at least 1"),
        ({"edges_per_relation": 99}, "attributes_per_relation: found 15, expected at least 99"),
        ({"num_items": 20}, "positives_per_user: found 60, expected at most half"),
    ],
)
def test_sizes_that_cannot_work(settings, message):
    with pytest.raises(ConfigError, match=message):
        generate(**settings)
