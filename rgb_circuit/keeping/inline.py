"""A run's page inside a notebook's cell."""

from html import escape
from pathlib import Path

# Makes the page's links point into the page itself, not into the notebook around it.
BASE = '<base href="about:srcdoc">'
HEIGHT = "44rem"


def inline(page: Path, title: str) -> str:
    """HTML that shows a run's page in a frame, where its scripts run but cannot reach the notebook
    around it; below the frame, a link to the file.

    Args:
        page: report.html of a run.
        title: for readers who cannot see the page.
    """
    text = page.read_text(encoding="utf-8").replace("<head>", f"<head>{BASE}", 1)
    return (
        f'<iframe title="{escape(title)}" sandbox="allow-scripts allow-popups allow-downloads" '
        f'style="width: 100%; height: {HEIGHT}; border: 1px solid #8886;" '
        f'srcdoc="{escape(text)}"></iframe>'
        f'<p><a href="{escape(page.resolve().as_uri())}">{escape(str(page))}</a></p>'
    )
