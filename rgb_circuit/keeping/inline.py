"""A run's page inside a notebook's cell."""

from html import escape
from pathlib import Path

# The page's own: what it links to is itself, not the notebook around it.
BASE = '<base href="about:srcdoc">'
HEIGHT = "44rem"


def inline(page: Path, title: str) -> str:
    """HTML that shows a run's page in a frame of its own, which runs its scripts and reaches
    nothing of the notebook around it; below it a link to the file.

    Args:
        page: report.html of a run.
        title: for readers who cannot see it.
    """
    text = page.read_text(encoding="utf-8").replace("<head>", f"<head>{BASE}", 1)
    return (
        f'<iframe title="{escape(title)}" sandbox="allow-scripts allow-popups allow-downloads" '
        f'style="width: 100%; height: {HEIGHT}; border: 1px solid #8886;" '
        f'srcdoc="{escape(text)}"></iframe>'
        f'<p><a href="{escape(page.resolve().as_uri())}">{escape(str(page))}</a></p>'
    )
