import inspect

import pytest

from engine.cli.batch_options import OPTIONS, settings_of
from engine.cli.jobs import submit
from engine.cli.score import score
from engine.config import Batch
from engine.errors import InvalidConfig


def test_every_key_of_the_config_is_an_option_of_both_verbs() -> None:
    assert set(OPTIONS) == set(Batch.__struct_fields__)
    for verb in (score, submit):
        assert set(OPTIONS) <= set(inspect.signature(verb).parameters)


def test_options_that_were_given_take_the_place_of_the_configs() -> None:
    found = settings_of({"keep": "id, day", "limit": 5}, Batch(limit=3, where="id > 1"))
    assert found == Batch(keep=("id", "day"), limit=5, where="id > 1")


@pytest.mark.parametrize("options", [{"runner": "spark"}, {"limit": -1}])
def test_a_value_that_no_job_has_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(InvalidConfig, match=next(iter(options))):
        settings_of(options, Batch())
