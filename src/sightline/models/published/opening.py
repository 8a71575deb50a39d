"""Finding the published model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sightline.common.check import path
from sightline.common.pretrained import load_pretrained, quiet


def opened(source: Any) -> Any:
    """A model of Transformers as it is; from a folder or a name, one of the architecture written there."""
    if not isinstance(source, (str, Path)):
        return source
    import transformers

    folder = path("source", source).expanduser()
    local = folder.is_dir()
    if local and not (folder / "config.json").is_file():
        raise ValueError(f"source: {folder} holds no config.json. Give the folder that a model was saved in.")
    if not local and (folder.exists() or isinstance(source, Path) or folder.is_absolute()):
        raise ValueError(f"source: there is no folder {folder}.")
    where = str(folder) if local else str(source)
    with quiet():
        config = load_pretrained(transformers.AutoConfig, where, local)
        names = getattr(config, "architectures", None) or ["AutoModel"]
        kind = getattr(transformers, names[0], transformers.AutoModel)
        return load_pretrained(kind, where, local, use_safetensors=True).eval()
