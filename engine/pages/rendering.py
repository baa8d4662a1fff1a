"""Fills a page's template; the page carries everything it needs and asks the network for nothing."""

import datetime
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, PackageLoader, PrefixLoader, StrictUndefined


def write_page(path: Path, package: str, template: str, values: Mapping[str, object]) -> Path:
    """Render a template and write the page; returns ``path``, whose folder is made if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(rendered(package, template, values), encoding="utf-8")
    return path


def rendered(package: str, template: str, values: Mapping[str, object]) -> str:
    """A page's HTML.

    Args:
        package: The package that holds the template.
        template: Its file name; it extends ``pages/page.html``.
        values: What the template names; a name it lacks raises.
    """
    loader = PrefixLoader({"pages": PackageLoader("engine.pages", ""), "own": PackageLoader(package, "")})
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(f"own/{template}").render(values)


def to_the_minute(at: datetime.datetime) -> str:
    """A moment as the heads of pages show it, in local time."""
    return f"{at.astimezone():%-d %B %Y, %H:%M}"
