"""The page: its head, and every section that applies to the run."""

import pkgutil
from functools import cache
from importlib import import_module
from pathlib import Path

import jinja2
import matplotlib
from markupsafe import Markup

from rgb_circuit.arguments import as_path
from rgb_circuit.bars import tqdm
from rgb_circuit.errors import NotDrawn, attempt
from rgb_circuit.files.results import write_bytes

from . import head, sections
from .embedded import SETTINGS
from .run import Run, read
from .section import Section
from .writing import FILTERS


def write(folder: str | Path) -> Path:
    """Write report.html into a run's folder, from the files there.

    Returns:
        The path of the report.

    Raises:
        InputError: the folder lacks a run's manifest or frames, or cannot be read or written.
        NotDrawn: sections that could not be drawn; the report is written without them.
    """
    known = known_sections()
    folder = as_path(folder, "a run's folder")
    run = read(folder, [head.NEEDS, *(section.needs for section in known.values())])
    shown: list[dict[str, object]] = []
    # Sections that do not apply to the task.
    left_out: list[str] = []
    failed: dict[str, Exception] = {}
    # Set matplotlib's options only while figures are made.
    with matplotlib.rc_context(SETTINGS):
        for name, section in tqdm(known.items(), desc="writing the page", unit="section", delay=2):
            with attempt(f"the section “{section.link}” of the report", failed):
                if (made := filled(section, run)) is not None:
                    shown.append(dict(id=name) | made)
                elif section.needs.task and not section.needs.added:
                    left_out.append(section.link)
        page = environment_of("analyses.report").get_template("page.html.jinja")
        text = page.render(run=run, head=head.values(run), sections=shown, left_out=left_out)
    path = write_bytes(run.folder / "report.html", text.encode())
    if failed:
        raise NotDrawn(failed, run.folder)
    return path


def known_sections() -> dict[str, Section]:
    """Name → section, of every module in `sections`, in the order of the page."""
    names = [module.name for module in pkgutil.iter_modules(sections.__path__)]
    known = {name: import_module(f"{sections.__name__}.{name}").SECTION for name in names}
    return dict(sorted(known.items(), key=lambda pair: pair[1].order))


def filled(section: Section, run: Run) -> dict[str, object] | None:
    """A section filled from a run; call it under ``matplotlib.rc_context(SETTINGS)``.

    Returns:
        ``link, title, why_not`` (empty if it could be measured), ``gist`` (a summary, or empty),
        ``body`` (HTML), ``half, open`` (as in `Section`); None if it does not apply to the run.
    """
    own_values = section.values(run) if run.has(section.needs) else None
    if own_values is None:
        return None
    environment, values = (
        environment_of("analyses.report"),
        {"why_not": "", "gist": ""} | dict(own_values),
    )
    body = (
        ""
        if values["why_not"]
        else environment.from_string(section.fragment).render(run=run, **values)
    )
    title = environment.from_string(section.title).render(run=run)
    return dict(
        link=section.link,
        title=Markup(title),
        why_not=values["why_not"],
        gist="not measured" if values["why_not"] else values["gist"],
        body=Markup(body),
        half=section.half,
        open=values.get("open", section.open),
    )


@cache
def environment_of(package: str) -> jinja2.Environment:
    """The jinja environment for the templates in a package, with the filters of `.writing`."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(package, "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= FILTERS
    return environment
