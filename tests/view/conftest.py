"""Tiny random models with tokenizers of their own, and a runner for the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from .browser import Tabs, launch

transformers = pytest.importorskip("transformers", reason="the command line needs the [app] extra")
tokenizers = pytest.importorskip("tokenizers", reason="the command line needs the [app] extra")
pytest.importorskip("typer", reason="the command line needs the [app] extra")

# Saving a model must not write into the output that a test looks at.
transformers.utils.logging.disable_progress_bar()

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "mat",
    "dog",
    "saw",
    "a",
    "##s",
    "##ting",
    "un",
    "##believ",
    "##able",
    ",",
    ".",
    "!",
    "<",
    ">",
    "/",
    "&",
    "script",
    "'",
    '"',
    "{",
    "}",
]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
VOCABULARY = {word: index for index, word in enumerate([*SPECIAL, *WORDS])}
LIMIT = 48


def make_tokenizer(kind: str) -> Any:
    """A WordPiece tokenizer; "bert" adds [CLS] and [SEP], "t5" ends with [SEP], "plain" adds nothing."""
    core = tokenizers.Tokenizer(tokenizers.models.WordPiece(VOCABULARY, unk_token="[UNK]"))
    core.normalizer = tokenizers.normalizers.Lowercase()
    core.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    template = {
        "bert": ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1"),
        "t5": ("$A [SEP]", "$A $B:1 [SEP]:1"),
    }
    if kind in template:
        single, pair = template[kind]
        ends = [(name, VOCABULARY[name]) for name in ("[CLS]", "[SEP]")]
        core.post_processor = tokenizers.processors.TemplateProcessing(
            single=single, pair=pair, special_tokens=ends
        )
    core.decoder = tokenizers.decoders.WordPiece()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        eos_token="[SEP]",
    )


def make_model(kind: str) -> Any:
    """A random model; weights are large enough for its attention to be far from uniform."""
    torch.manual_seed(7)
    size = len(VOCABULARY)
    if kind == "bert":
        config = transformers.BertConfig(
            vocab_size=size,
            hidden_size=24,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=32,
            max_position_embeddings=LIMIT,
            initializer_range=0.7,
        )
        return transformers.BertModel(config)
    if kind == "gpt2":
        config = transformers.GPT2Config(
            vocab_size=size, n_embd=24, n_layer=2, n_head=4, n_positions=LIMIT, initializer_range=0.7
        )
        return transformers.GPT2LMHeadModel(config)
    if kind == "llama":
        config = transformers.LlamaConfig(
            vocab_size=size,
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=LIMIT,
            initializer_range=0.7,
        )
        return transformers.LlamaForCausalLM(config)
    config = transformers.T5Config(
        vocab_size=size,
        d_model=24,
        d_kv=6,
        d_ff=32,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=3,
    )
    model = transformers.T5ForConditionalGeneration(config)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Embedding) and module.weight.shape[1] == 4:  # relative bias
                module.weight.normal_()
    return model


@pytest.fixture(scope="package")
def browser():
    """One Chromium for all tests of pages."""
    playwright, opened = launch()
    yield opened
    opened.close()
    playwright.stop()


@pytest.fixture
def tabs(browser):
    """Opens pages; at the end there must have been no error and no request."""
    made = Tabs(browser)
    yield made
    made.close()
    assert made.problems == []


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a saved tiny model: bert, gpt2, llama or t5."""
    made: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind) / kind
            make_model(kind).save_pretrained(made[kind])
            make_tokenizer(kind if kind in ("bert", "t5") else "plain").save_pretrained(made[kind])
        return made[kind]

    return folder


@dataclass(frozen=True)
class Ran:
    """What a command gave."""

    code: int
    out: str
    err: str


@pytest.fixture
def sightline_command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs ``sightline ARGUMENTS`` in this process."""
    from sightline.cli import main

    def run(*arguments: object) -> Ran:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


@pytest.fixture
def look(sightline_command: Callable[..., Ran], model_folder: Callable[[str], Path]) -> Callable[..., Ran]:
    """Runs ``sightline look ARGUMENTS`` with a tiny model."""

    def run(*arguments: object, model: str = "bert") -> Ran:
        return sightline_command("look", "--model", model_folder(model), *arguments)

    return run


@pytest.fixture
def look_json(look: Callable[..., Ran], tmp_path: Path) -> Callable[..., Any]:
    """Runs ``sightline look ARGUMENTS --json FILE`` and returns what the file holds."""

    def run(*arguments: object, model: str = "bert") -> Any:
        path = tmp_path / "look.json"
        ran = look(*arguments, "--json", path, model=model)
        assert ran.code == 0, ran.err
        return json.loads(path.read_text(encoding="utf-8"))

    return run


@pytest.fixture
def eager(model_folder: Callable[[str], Path]) -> Callable[..., Any]:
    """Outputs of the same model with transformers' own eager attention."""

    def run(kind: str, **inputs: Any) -> Any:
        auto = transformers.AutoModelForSeq2SeqLM if kind == "t5" else transformers.AutoModel
        model = auto.from_pretrained(model_folder(kind), attn_implementation="eager").eval()
        tensors = {name: torch.tensor([value]) for name, value in inputs.items()}
        with torch.no_grad():
            return model(**tensors, output_attentions=True)

    return run
