"""Draw docs/report.png, the README's picture: train a recipe, open its report in Chromium, lay parts of it side by side: `just picture`.

usage: just picture [--data FOLDER] [--recipe NAME] [-s KEY=VALUE]… | --page FILE
FOLDER holds the original files of the recipe's dataset; without it they are fetched. FILE is a report that is there already, of a run of
pictures. The picture in the repository is of cnn-cifar10 with `-s epochs=5 -s workers=2`.
"""

import argparse
import io
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from support import chromium

from service import recipes

ROOT = Path(__file__).parents[2]
TARGET = ROOT / "docs" / "report.png"
MOST_BYTES = 150_000
WIDTH = 1100
"""Of the page: GitHub shows the picture at about 880 pixels, where its text of 16 has 13."""
SHARPNESS = 1.5
"""Pixels of the picture for one of the page."""
COLOURS = 255
"""Of the palette."""
MISTAKES = 8
# The page's own parts, moved: what stands above the sections, the curves, and beside the confusion matrix mistakes and first layer.
ARRANGE = """
(() => {
  const main = document.querySelector('main'), find = selector => document.querySelector(selector);
  const titled = (text, ...parts) => {
    const box = document.createElement('div'), title = document.createElement('h3');
    title.textContent = text;
    title.style.marginTop = 0;
    box.append(title, ...parts);
    return box;
  };
  const curves = find('#learning ~ .figures');
  const [matrix, mistakes] = [find('#test ~ .figures figure'), find('ul.mistakes')];
  const [filters, activations] = document.querySelectorAll('.filters');
  const beside = document.createElement('div'), below = document.createElement('div'), layer = document.createElement('div');
  matrix.querySelector('figcaption').remove();
  below.className = layer.className = 'figures';
  layer.style.gridTemplateColumns = '1fr 1fr';
  layer.style.gap = '24px';
  [...mistakes.children].slice(MISTAKES).forEach(item => item.remove());
  layer.append(titled('First-layer filters', filters), titled('What they see', activations));
  beside.append(titled('Most confident mistakes', mistakes), layer);
  beside.style.display = 'grid';
  beside.style.gap = '28px';
  below.append(titled('Confusion matrix', matrix), beside);
  main.replaceChildren(curves, below);
  find('nav').remove();
  find('footer')?.remove();
  // A scroll bar would take its width from the page; a frame sets it off from a white one.
  document.documentElement.style.overflow = 'hidden';
  document.documentElement.style.boxShadow = 'inset 0 0 0 1px var(--line)';
  curves.style.margin = '22px 0 18px';
  document.body.style.paddingBottom = '28px';
  return Math.ceil(document.body.getBoundingClientRect().height);
})()
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="just picture")
    parser.add_argument("--data", type=Path, help="the folder with the dataset's original files")
    parser.add_argument("--recipe", default="cnn-cifar10")
    parser.add_argument("-s", "--set", action="append", default=[], metavar="KEY=VALUE", help="a key of the recipe to change")
    parser.add_argument("--page", type=Path, help="a report that is there already, instead of a training")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="delayline-picture-") as scratch:
        page = options.page or trained(options.recipe, options.data, options.set, Path(scratch))
        picture = drawn(page.resolve(), Path(scratch))
    small = io.BytesIO()
    picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    if small.tell() > MOST_BYTES:
        raise SystemExit(f"the picture has {small.tell():,} bytes, more than {MOST_BYTES:,}: use fewer COLOURS or MISTAKES")
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_bytes(small.getvalue())
    print(f"{TARGET.relative_to(ROOT)}: {picture.width}x{picture.height}, {small.tell():,} bytes")


def trained(recipe: str, data: Path | None, changes: list[str], scratch: Path) -> Path:
    """The report of a run of that recipe, trained in a store of its own."""

    def delayline(*arguments: str) -> None:
        command = [sys.executable, "-m", "service.cli.main", *arguments, "--store", str(scratch / "store")]
        subprocess.run(command, cwd=ROOT, check=True)

    dataset = recipes.resolve(recipe, changes, None, ROOT)[0].dataset
    if dataset not in ("digits", "bits"):
        delayline("data", "import", dataset, *(["--from", str(data)] if data else []))
    delayline("train", recipe, *(part for change in changes for part in ("-s", change)), "--name", recipe)
    page = scratch / "report.html"
    delayline("runs", "report", recipe, "--to", str(page))
    return page


def drawn(page: Path, scratch: Path) -> Image.Image:
    """The parts of a report that show the most, as Chromium draws them."""
    binary = chromium.find()
    if binary is None:
        raise SystemExit("Chromium is not there (Debian: apt-get install chromium)")
    with chromium.browser(binary, scratch / "profile") as tab:
        tab.look(page.as_uri(), WIDTH, "light")
        height = tab.evaluate(ARRANGE.replace("MISTAKES", str(MISTAKES)))
        tab.resize(WIDTH, height, SHARPNESS)
        tab.screenshot(scratch / "picture.png")
    return Image.open(io.BytesIO((scratch / "picture.png").read_bytes()))


if __name__ == "__main__":
    main()
