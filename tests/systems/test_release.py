"""The release workflow and what it builds: every action by its version, no rights that a step does not need."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from platforms.__main__ import main
from platforms.target import TARGETS, Run, find_targets
from platforms.wheel import _serves, check_wheel

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def workflow():
    yaml = pytest.importorskip("yaml", reason="the workflow is YAML")
    return yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8"))


def test_actions_are_pinned(workflow):
    used = [step["uses"] for job in workflow["jobs"].values() for step in job["steps"] if "uses" in step]
    assert used and all(re.fullmatch(r"[\w-]+/[\w-]+@v\d+\.\d+\.\d+", each) for each in used), used
    runs = " ".join(step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"])
    for tool in ("build", "twine", "cibuildwheel"):
        assert re.search(rf"{tool}==\d", runs), tool


def test_only_the_upload_may_upload(workflow):
    assert workflow["permissions"] == {"contents": "read"}
    jobs = workflow["jobs"]
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert set(jobs["publish"]["needs"]) == set(jobs) - {"publish"}
    assert jobs["publish"]["environment"]["name"] == "pypi"
    assert "tag" in jobs["publish"]["if"]
    for name in ("sdist", "wheels"):
        assert any("attest" in step.get("uses", "") for step in jobs[name]["steps"]), name


def test_every_system_is_built_once(workflow):
    built = [each["build"] for each in workflow["jobs"]["wheels"]["strategy"]["matrix"]["include"]]
    assert len(built) == len(set(built)) == len(TARGETS)
    for target in TARGETS:
        system = re.sub(r"_\d+_\d+", "", target.tag)
        assert f"cp311-{system}" in built


def test_one_wheel_for_every_python():
    assert PROJECT["tool"]["scikit-build"]["wheel"]["py-api"] == "py3"
    assert PROJECT["tool"]["cibuildwheel"]["build"] == "cp311-*"
    assert PROJECT["project"]["requires-python"] == ">=3.11"


def test_targets_by_name():
    assert find_targets([]) == TARGETS
    assert find_targets(["win_amd64", "aarch64-macos"]) == (TARGETS[4], TARGETS[5])
    with pytest.raises(
        ValueError, match="there is no system 'vax'; there are x86_64-linux-gnu.2.28, aarch64"
    ):
        find_targets(["vax"])


def test_systems_come_after_options_too(capsys):
    """As `make wheel TARGETS=...` gives them."""
    with pytest.raises(SystemExit):
        main(["wheel", "--out", "dist", "vax"])
    assert "there is no system 'vax'" in capsys.readouterr().err


def test_what_a_run_lacks():
    assert Run("x", ("python-of-1802",), packages="p").lacking() == (
        "python-of-1802 is not there (Debian: apt install p)"
    )
    assert Run("x", needs="/no/loader", packages="musl").lacking() == (
        "/no/loader is not there (Debian: apt install musl)"
    )


@pytest.mark.parametrize(
    "name, files, message",
    [
        ("a-1-cp311-cp311-win_amd64.whl", [], "its name ends otherwise than py3-none-win_amd64.whl"),
        ("a-1-py3-none-win_amd64.whl", ["sightline/_native.dll"], "it holds 0 models"),
        (
            "a-1-py3-none-win_amd64.whl",
            ["models", "sightline/_native.so"],
            r"libraries \['sightline/_native.so",
        ),
    ],
)
def test_wheels_that_are_not_what_they_should_be(name, files, message, tmp_path):
    import zipfile

    models = [path.parent.name for path in (ROOT / "src" / "sightline" / "box").glob("*/model.safetensors")]
    with zipfile.ZipFile(tmp_path / name, "w") as wheel:
        for file in files:
            if file == "models":
                for model in models:
                    wheel.writestr(f"sightline/box/{model}/model.safetensors", b"")
            else:
                wheel.writestr(file, b"")
    with pytest.raises(ValueError, match=message):
        check_wheel(tmp_path / name, find_targets(["win_amd64"])[0])


def test_models_are_in_wheels_and_not_in_the_source_distribution():
    """What `sdist.exclude` names is left out of wheels, too."""
    settings = PROJECT["tool"]["scikit-build"]
    assert not [each for each in settings["sdist"]["exclude"] if "box" in each]
    (of_sdist,) = [each for each in settings["overrides"] if each["if"].get("state") == "sdist"]
    assert set(of_sdist["sdist"]["exclude"]) == {*settings["sdist"]["exclude"], "src/sightline/box"}


def test_what_auditwheel_may_say():
    tag = "manylinux_2_28_x86_64"
    assert _serves("manylinux_2_27_x86_64", tag) and _serves(tag, tag)
    for other in ("manylinux_2_34_x86_64", "manylinux_2_17_aarch64", "musllinux_1_2_x86_64", "linux_x86_64"):
        assert not _serves(other, tag)
