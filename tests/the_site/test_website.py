"""The site: every page has its place, every link leads somewhere, every public name is in the reference."""

from __future__ import annotations

import importlib
import inspect
import zlib

import pytest

from website import gallery, links, llms, reference, source
from website.contents import DOCS, every_page, sections

PUBLIC = [
    "attribution",
    "distributed",
    "huggingface",
    "losses",
    "measure",
    "models",
    "monitoring",
    "nn",
    "tasks",
]


def test_every_page_of_docs_is_in_the_contents_once():
    listed = [page.path for page in every_page(sections()) if not page.path.startswith("..")]
    assert sorted(listed) == sorted(page.name for page in DOCS.glob("*.md") if page.name != "README.md")
    assert not {f"{section.name}.md" for section in sections()} & set(listed)


def test_contents():
    first, second = sections(
        "# D\n\n## Look\nInto it.\n\n- [A](a.md): `x`; by\n  kind: [B](b.md), [C](c.md)\n\n## Two words\nT.\n"
    )
    assert (first.name, first.text, second.name, second.pages) == ("look", "Into it.", "two-words", ())
    assert first.pages[0].description == "`x`; by kind: [B](b.md), [C](c.md)"
    assert [page.path for page in every_page([first])] == ["a.md", "b.md", "c.md"]
    with pytest.raises(
        ValueError, match=r"docs/README.md, Look: an entry begins with a link to its page, got 'A \[B\]"
    ):
        sections("## Look\nInto it.\n\n- A [B](b.md)\n")


@pytest.mark.parametrize("page", links.markdown(), ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    assert links.broken(page) == []


def test_links_that_lead_nowhere_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(links, "ROOT", tmp_path)
    (tmp_path / "other.md").write_text("# One, two: `three`\n\n## Again\n\n## Again\n", encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text(
        "# Page\n[a](other.md#one-two-three) [b](other.md#again-1) [c](#page) [d](https://x.y/z) `[e](gone.md)`\n"
        "```\n[f](gone.md)\n```\n[g](other.md#gone) ![h](gone.png) [i](../page.md) [j](#gone) [k](other.md#again-2)\n",
        encoding="utf-8",
    )
    assert links.broken(page) == ["other.md#gone", "gone.png", "../page.md", "#gone", "other.md#again-2"]


def test_links_of_the_site_that_lead_nowhere_are_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<p id="x"></p><a href="b/c.html#y"></a><a href="b/c.html#z"></a>', encoding="utf-8"
    )
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c.html").write_text(
        '<a id="y" href="../a.html?v=1#x"></a><img src="gone.png"><a href="https://x.y"></a><a href="#gone"></a>',
        encoding="utf-8",
    )
    assert sorted(links.broken_in_site(tmp_path)) == [
        "a.html: b/c.html#z",
        "b/c.html: #gone",
        "b/c.html: gone.png",
    ]


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """The folder that Sphinx reads."""
    pytest.importorskip("typer", reason="the page of the commands is made of them")
    folder = tmp_path_factory.mktemp("site") / "source"
    source.write(folder)
    return folder


def _public_names():
    rooms = {"sightline": importlib.import_module("sightline")}
    rooms |= {f"sightline.{room}": importlib.import_module(f"sightline.{room}") for room in PUBLIC}
    return [(room, name) for room, module in rooms.items() for name in module.__all__]


def test_every_public_name_is_in_the_reference(read):
    """It has a page that describes it, and the page of its room leads there."""
    described = {named.full: named.file for named in reference.every_name()}
    for room, name in _public_names():
        file = described[f"{room}.{name}"]
        page = (read / "reference" / f"{file}.rst").read_text(encoding="utf-8")
        thing = getattr(importlib.import_module(room), name)
        kind = "autoclass" if inspect.isclass(thing) else "autofunction" if callable(thing) else "py:data"
        assert f".. currentmodule:: {file.rpartition('.')[0]}\n" in page, name
        assert f".. {kind}:: {name}\n" in page, name
        table = (read / "reference" / f"{room.removeprefix('sightline.')}.rst").read_text(encoding="utf-8")
        assert f":doc:`{name} <{file}>`" in table, name
        assert (f"   {name} <{file}>" in table) == (file == f"{room}.{name}"), name


def test_pages_differ_by_more_than_capitals(read):
    """Some file systems do not tell Pipeline from pipeline."""
    names = [path.name.lower() for path in (read / "reference").iterdir()]
    assert len(set(names)) == len(names)


def test_every_command_is_in_the_reference(read):
    from sightline.cli import COMMANDS

    page = (read / "command-line.rst").read_text(encoding="utf-8")
    for name in COMMANDS:
        assert f"Usage: sightline {name} [OPTIONS]" in page


def test_links_between_pages_hold_on_the_site(read):
    """The pages of docs/ lie beside each other there; those from the root have come to them."""
    assert "](trace.md)" in (read / "matrix.md").read_text(encoding="utf-8") + (read / "look.md").read_text(
        encoding="utf-8"
    )
    for page in read.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        assert "](docs/" not in text, page.name
        for link in links._LINK.findall(links._CODE.sub("", links._FENCE.sub("", text))):
            target = link.partition("#")[0]
            assert ":" in link or not target or (page.parent / target).exists(), (page.name, link)


def test_a_python_session_ends_without_an_empty_line(read):
    assert "\n\n```\n" not in (read / "trace.md").read_text(encoding="utf-8")
    assert "\n\n```\n" in (DOCS / "trace.md").read_text(encoding="utf-8")


def test_llms_txt_lists_every_page_and_every_name(read, tmp_path):
    from sightline.cli import COMMANDS

    llms.write(tmp_path, read, sections())
    listed = (tmp_path / "llms.txt").read_text(encoding="utf-8")
    assert listed.startswith("# Sightline\n\n> Exact self-attention")
    for page in every_page(sections()):
        name = source.page_name(page)
        assert f"]({name})" in listed
        assert "{toctree}" not in (tmp_path / name).read_text(encoding="utf-8")
    assert "- [For researchers](for-researchers.md)\n" in listed  # by its title, which the contents shorten
    assert "- `sightline look`: Show what a model attends to in TEXT.\n" in listed
    assert all(f"- `sightline {name}`: " in listed for name in COMMANDS)
    assert "- `sightline.attention`: Exact self-attention with memory linear in the sequence.\n" in listed
    assert all(f"- `{room}.{name}`: " in listed for room, name in _public_names())


def test_contents_are_pages_of_the_site(read):
    """What leads to docs/README.md leads to the page of a section there."""
    assert "](start.md)" in (read / "index.md").read_text(encoding="utf-8")
    assert "](reference.md)" in (read / "deprecation.md").read_text(encoding="utf-8")


def test_gallery_says_what_makes_its_pages(tmp_path):
    made = gallery.commands()
    assert len({page for _, page in made}) == len(made) >= 6
    for _, page in made:
        (tmp_path / page).write_text("x" * 150_000, encoding="utf-8")
    gallery.write(tmp_path, keep=True)  # everything is there
    text = gallery.with_links((DOCS / "gallery.md").read_text(encoding="utf-8"), tmp_path)
    for line, page in made:
        assert (
            f'{line}\n```\n\n<p><a class="open" href="gallery/{page}">Open the page</a> (0.1 MB)</p>\n'
            in text
        )
    with pytest.raises(ValueError, match="one command that makes one page, got 'rm -r page.html'"):
        gallery.commands("```sh\nrm -r page.html\n```\n")
    with pytest.raises(ValueError, match="makes one page"):
        gallery.commands("```sh\nsightline look x\n```\n")


def test_the_version_to_cite():
    import sightline

    assert f"\nversion: {sightline.__version__}\n" in (DOCS.parent / "CITATION.cff").read_text(
        encoding="utf-8"
    )


@pytest.mark.slow
# Sphinx 9.0 against itself: its napoleon asks whether there are options in a way that its autodoc deprecates.
@pytest.mark.filterwarnings(
    "ignore:The mapping interface for autodoc options:PendingDeprecationWarning:sphinx.ext.napoleon"
)
# And MyST asks by a name that Sphinx 9 means to drop.
@pytest.mark.filterwarnings("ignore:'myst_parser.*is deprecated:PendingDeprecationWarning")
def test_the_site(tmp_path):
    """Made as a whole: Sphinx warns of nothing, and every name can be found."""
    pytest.importorskip("sphinx", reason="make site installs it")
    from website.__main__ import main

    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path / "other")])
    assert (tmp_path / "other" / "mine.txt").exists()
    assert main(["--out", str(tmp_path / "site")]) == 0
    inventory = (tmp_path / "site" / "objects.inv").read_bytes().split(b"\n", 4)[4]
    described = {line.split(" ")[0] for line in zlib.decompress(inventory).decode().splitlines()}
    assert {named.file for named in reference.every_name()} <= described
    assert "sightline.AttentionMatrix.topk" in described
    assert all((tmp_path / "site" / "gallery" / page).exists() for _, page in gallery.commands())
    assert "sightline.AttentionMatrix.scatter_add_" not in described
