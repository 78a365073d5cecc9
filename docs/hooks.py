"""What the site has beside the pages of this folder; MkDocs runs it.

1. The notebooks of ``examples/``, with their outputs, as pages ``notebooks/NAME.md``.
2. Live reports that ``gallery.py`` made, as ``gallery/NAME.html``, each with its figure as preview
   picture, and links to them: every `` `NAME` `` at the start of a table's row is one in a page
   that has ``<!-- gallery -->``, in whose place it is said where there are none.
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
GALLERY = "<!-- gallery -->"
UNMADE = """!!! note
    This site was built without them: `python docs/gallery.py`, then `mkdocs build`."""
# Letters of a description that are shown where a page is shared.
LONGEST = 200


def on_files(files, config):
    """Add the notebooks and the live reports."""
    for path in sorted((ROOT / "examples").glob("*.ipynb")):
        text, pictures = page_of(json.loads(path.read_text()), path.stem)
        for name, content in {f"{path.stem}.md": text, **pictures}.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    for page in made():
        name, figure = f"gallery/{page.parent.name}", page.parent / "panels.png"
        text = page.read_text()
        if figure.is_file():
            files.append(File.generated(config, f"{name}.png", content=figure.read_bytes()))
            text = text.replace("<head>", f"<head>\n{preview(config, page.parent.name)}", 1)
        files.append(File.generated(config, f"{name}.html", content=text))
    return files


def preview(config, name):
    """What names the picture that is shown of a live report that is shared: of a file by itself
    there is none, since it has no address."""
    home = f"{config.site_url.rstrip('/')}/gallery/" if config.site_url else ""
    return f'<meta property="og:image" content="{escape(f"{home}{name}.png")}">'


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
    """Lead to the live reports, or say how to make them, in a page that asks for them."""
    if GALLERY not in markdown:
        return markdown
    for name in (one.parent.name for one in made()):
        markdown = markdown.replace(f"| `{name}` |", f"| **[{name}](gallery/{name}.html)** |")
    return markdown.replace(GALLERY, "" if made() else UNMADE)


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
