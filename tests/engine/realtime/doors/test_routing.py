import pytest

from engine.errors import NotFound, WrongMethod
from engine.realtime.doors.routing import Route, match


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("GET", "/v2", Route("server")),
        ("GET", "/v2/health/live", Route("live")),
        ("HEAD", "/v2/health/ready", Route("ready")),
        ("GET", "/v2/models/late", Route("model", "late")),
        ("GET", "/v2/models/late/versions/v10/ready", Route("model_ready", "late", "v10")),
        ("POST", "/v2/models/a b@c/infer", Route("infer", "a b@c")),
        ("POST", "/v2/models/late/versions/0a1b2c3d4e5f/infer", Route("infer", "late", "0a1b2c3d4e5f")),
        ("POST", "/v1/models/late/score", Route("score", "late")),
        ("GET", "/v2/models/versions", Route("model", "versions")),
        ("GET", "/v2/models/stats", Route("stats")),
        ("GET", "/v2/models/late/stats", Route("stats", "late")),
        ("GET", "/v2/models/late/versions/1/config", Route("model_config", "late", "1")),
        ("POST", "/v2/repository/models/late/load", Route("load", "late")),
        ("POST", "/v2/repository/models/models/unload", Route("unload", "models")),
    ],
)
def test_a_path_is_a_verb_a_model_and_a_version(method: str, path: str, route: Route) -> None:
    assert match(method, path) == route


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/v3",
        "/v2/models",
        "/v2/models/",
        "/v2/models//infer",
        "/v2/models/late/infer/x",
        "/v1/models/late/infer",
        "/v2/models/late/score",
        "/v2/models/late/versions//infer",
        "/V2",
        "v2/models/late",
        "/v2/repository/models/late",
        "/v2/repository/models/late/infer",
        "/v2/models/late/load",
    ],
)
def test_any_other_path_is_not_found(path: str) -> None:
    with pytest.raises(NotFound):
        match("GET", path)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/models/late/infer"),
        ("POST", "/v2"),
        ("DELETE", "/v2/models/late"),
        ("HEAD", "/v1/models/late/score"),
    ],
)
def test_a_known_path_with_another_method_says_which_one_it_wants(method: str, path: str) -> None:
    with pytest.raises(WrongMethod, match=r"expected (GET|POST) /"):
        match(method, path)
