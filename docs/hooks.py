"""What the site has beside the pages of this folder; MkDocs runs it.

1. The notebooks of ``examples/``, with their outputs, as pages ``notebooks/NAME.md``.
2. Live reports that ``gallery.py`` made, as ``gallery/NAME.html``, and cards that lead to them in
   place of ``<!-- gallery -->``.
3. For whoever shares a page: its first sentence as description, and a preview picture.
"""

import base64
import json
import re
from html import escape, unescape
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
MADE = ROOT / "build" / "gallery"
PREVIEW = "pictures/report.png"
# Letters of a description that are shown where a page is shared.
LONGEST = 200


def on_files(files, config):
    """Add the notebooks and the live reports."""
    for path in sorted((ROOT / "examples").glob("*.ipynb")):
        text, pictures = page_of(json.loads(path.read_text()), path.stem)
        for name, content in {f"{path.stem}.md": text, **pictures}.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    for page in made():
        name = f"gallery/{page.parent.name}.html"
        files.append(File.generated(config, name, content=page.read_bytes()))
    return files


def made():
    """The reports that ``gallery.py`` made."""
    return sorted(MADE.glob("*/report.html"))


def page_of(notebook, name):
    """A notebook as Markdown, and its pictures: name of a file → PNG."""
    parts, pictures = [], {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                picture = f"{name}_{len(pictures)}.png"
                pictures[picture] = base64.b64decode("".join(data["image/png"]))
                width = output.get("metadata", {}).get("image/png", {}).get("width")
                size = f"{{ width={width} }}" if width else ""
                parts.append(f"![What the cell above draws]({picture}){size}")
            elif "text/html" in data:
                # Blank lines would end the HTML.
                shown = re.sub(r"\n\s*\n", "\n", "".join(data["text/html"]))
                parts.append(f'<div style="overflow-x: auto">\n{shown}\n</div>')
            elif text := data.get("text/plain") or output.get("text"):
                parts.append(f"```text\n{''.join(text).rstrip()}\n```")
    return "\n\n".join(parts), pictures


def on_page_markdown(markdown, page, config, files):
    """Put the live reports, or how to make them, where a page asks for them."""
    return markdown.replace("<!-- gallery -->", gallery())


def gallery():
    """The live reports as a list of links, or how they are made."""
    if not made():
        return (
            "!!! note\n    This site was built without them: `python docs/gallery.py`, then "
            "`mkdocs build`."
        )
    rows = []
    for page in made():
        found = re.search(r"<title>(.*?)</title>", page.read_text(), re.DOTALL).group(1)
        rows.append(f"- **[{found}](gallery/{page.parent.name}.html)**")
    return "\n".join(rows)


def on_page_content(html, page, config, files):
    """Describe a page by its first paragraph, unless it describes itself."""
    paragraphs = re.findall(r"<p>(.*?)</p>", html, re.DOTALL)
    texts = [unescape(re.sub(r"<[^>]+>", "", one)) for one in paragraphs]
    if said := next((" ".join(text.split()) for text in texts if text.strip()), ""):
        page.meta.setdefault("description", shortened(said))
    return html


def shortened(text):
    """The beginning of a text, to whole words."""
    return text if len(text) <= LONGEST else text[: LONGEST - 1].rsplit(" ", 1)[0] + "…"


def on_post_page(output, page, config):
    """Say what a page that is shared looks like. Where the site has no address of its own, the
    picture's is relative, which not everybody follows."""
    depth = page.url.count("/")
    home = config.site_url or "../" * depth
    said = page.meta.get("description") or config.site_description
    named = {
        "og:type": "article",
        "og:site_name": config.site_name,
        "og:title": page.title,
        "og:description": said,
        "og:image": f"{home.rstrip('/')}/{PREVIEW}" if config.site_url else home + PREVIEW,
    }
    tags = "".join(
        f'<meta property="{name}" content="{escape(str(value))}">' for name, value in named.items()
    )
    tags += '<meta name="twitter:card" content="summary_large_image">'
    return output.replace("</head>", f"{tags}</head>", 1)
