"""Finding the published model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sightline.common.pretrained import load_pretrained, quiet


def opened(source: Any) -> Any:
    """A model of Transformers as it is; from a folder or a name, one of the architecture written there."""
    if not isinstance(source, (str, Path)):
        return source
    import transformers

    folder = Path(source).expanduser()
    local = folder.is_dir()
    where = str(folder) if local else str(source)
    with quiet():
        config = load_pretrained(transformers.AutoConfig, where, local)
        names = getattr(config, "architectures", None) or ["AutoModel"]
        kind = getattr(transformers, names[0], transformers.AutoModel)
        return load_pretrained(kind, where, local, use_safetensors=True).eval()
