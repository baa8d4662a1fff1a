import re
from pathlib import Path

import msgspec
import pytest
import yaml

from engine.config import Config, Model
from engine.config_file import read_config, read_yaml
from engine.errors import InvalidConfig

EXAMPLE = Path(__file__).parents[2] / "configs" / "example.yaml"


def paths(value: object, prefix: str = "") -> dict[str, object]:
    """Every leaf of a nested mapping by its dotted path."""
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    return {
        path: leaf for key, part in value.items() for path, leaf in paths(part, f"{prefix}.{key}").items()
    }


def test_the_example_lists_every_key_at_its_default() -> None:
    example = yaml.safe_load(EXAMPLE.read_text())
    example.pop("models")
    defaults = msgspec.json.decode(msgspec.json.encode(Config()))
    defaults.pop("models")
    assert paths(example) == paths(defaults)


def test_the_example_shows_every_key_of_a_model() -> None:
    models = yaml.safe_load(EXAMPLE.read_text())["models"]
    shown = {key for model in models.values() for key in model}
    assert shown == {field.name for field in msgspec.structs.fields(Model)}


def test_the_example_is_a_config() -> None:
    assert isinstance(read_config(EXAMPLE), Config)


@pytest.mark.parametrize("path", sorted(EXAMPLE.parent.glob("*.yaml")), ids=lambda path: path.name)
def test_every_key_of_a_config_file_is_explained(path: Path) -> None:
    assert re.match(r"# \S", path.read_text())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("serve: {prot: 1}", r"unknown field `prot` - at `\$.serve`; expected one of host, port, grpc_port,"),
        ("model: {}", r"unknown field `model`; expected one of models, serve, batch, jobs, load$"),
        (
            "models: {a: {bundle: b, slo: {p99: 1}}}",
            r"`p99` - at `\$.models\[...\].slo`; expected one of p99_ms$",
        ),
        ("models: {stats: {bundle: b}}", "no model can be served as 'stats'"),
        ("serve: {port: http}", r"Expected `int`, got `str` - at `\$.serve.port`"),
        ("serve: {port: 70000}", r"Expected `int` <= 65535 - at `\$.serve.port`"),
        ("batch: {runner: spark}", r"'spark' - at `\$.batch.runner`; expected one of auto, local, ray"),
        ("batch: {device: gpu}", r"'gpu' - at `\$.batch.device`; expected one of bundle, cpu, auto, cuda"),
        ("serve: {device: gpu}", r"Invalid enum value 'gpu' - at `\$.serve.device`"),
        ("models: {'../up': {bundle: x}}", r"Expected `str` matching regex"),
        ("serve: [", r"config.yaml: while parsing a flow node, .* - at line 2, column 1$"),
        (
            "serve:\n  port: 1\n  host: h\n  port: 2",
            r"key 'port' of line 2, comes once more - at line 4, column 3$",
        ),
        ("models: {a: {bundle: b}, a: {bundle: c}}", r"key 'a' of line 1, comes once more"),
        ("\x00", r"config.yaml: unacceptable character"),
    ],
)
def test_a_wrong_config_is_refused_with_the_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(InvalidConfig, match=message):
        read_config(path)


@pytest.mark.parametrize("path", sorted(EXAMPLE.parent.glob("*.yaml")), ids=lambda path: path.name)
def test_no_key_of_an_example_comes_twice(path: Path) -> None:
    assert read_yaml(path, dict, "a config file")


def test_a_config_of_comments_alone_has_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("# serve:\n#   port: 9000\n")
    assert read_config(path) == Config()


def test_a_config_that_is_not_there_is_said_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"nowhere\.yaml: No such file"):
        read_config(tmp_path / "nowhere.yaml")
