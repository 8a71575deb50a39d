"""Whisper's own generate(): it cuts, copies and stacks attentions, and computes times of words from them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import transformers as hf
from compare import assert_same, matrices
from tiny_models import pair

SIZES = {"vocab_size": 80, "num_mel_bins": 8, "max_source_positions": 16, "max_target_positions": 40,
         "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
         "decoder_attention_heads": 4, "encoder_ffn_dim": 40, "decoder_ffn_dim": 40, "pad_token_id": 0,
         "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 3, "suppress_tokens": None,
         "begin_suppress_tokens": None}  # fmt: skip
SAID = {"no_timestamps_token_id": 49, "alignment_heads": [[0, 1], [1, 2], [1, 0]], "is_multilingual": False,
        "max_initial_timestamp_index": 5, "prev_sot_token_id": 4, "begin_suppress_tokens": [2]}  # fmt: skip
FRAMES = 32  # of one window
LONG = {"return_timestamps": True, "return_segments": True}
WORDS = {"return_token_timestamps": True}
TRIES = {"temperature": (0.0, 0.4), "logprob_threshold": -0.1, "compression_ratio_threshold": 1.3}


def whispers() -> list[Any]:
    """The same random model under sightline and under eager, with what a trained one says about itself."""
    models = pair(lambda: (hf.WhisperForConditionalGeneration, hf.WhisperConfig(**SIZES)))
    for model in models:
        vars(model.generation_config).update(SAID)
    return list(models)


def spoken(model: Any, frames: int = FRAMES, speakers: int = 2, **options: Any) -> Any:
    torch.manual_seed(0)
    sound = torch.randn(speakers, 8, frames)
    if frames > FRAMES:
        options["attention_mask"] = torch.ones(speakers, frames, dtype=torch.long)
    if options.pop("assisted", False):
        options["assistant_model"] = copy.deepcopy(model)
    fixed = {"return_dict_in_generate": True, "max_new_tokens": 9}
    return model.generate(sound, **fixed | {"do_sample": False, "output_attentions": True} | options)


KINDS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "scores and states": {"output_scores": True, "output_hidden_states": True},
    "beams": {"num_beams": 3},
    "sampling": {"do_sample": True, "num_return_sequences": 2},
    "static cache": {"cache_implementation": "static"},
    "no cache": {"use_cache": False},
    "prompt lookup": {"prompt_lookup_num_tokens": 2, "speakers": 1},
    "assisted": {"assisted": True, "speakers": 1},
    "tries": {"return_timestamps": True} | TRIES,
    "timestamps": {"return_timestamps": True},
    "words": WORDS,
    "words of beams": WORDS | {"num_beams": 2},
    "words of lengths": WORDS | {"num_frames": torch.tensor([20, 30])},
    "words without attentions": WORDS | {"output_attentions": False},
    "long": LONG | {"frames": 80},
    "long words": LONG | WORDS | {"frames": 80},
    "long words with context": LONG | WORDS | {"frames": 80, "condition_on_prev_tokens": True},
}


@pytest.mark.filterwarnings("ignore:__array_wrap__")  # Transformers gives tensors to NumPy
@pytest.mark.parametrize("kind", KINDS)
def test_generate_equals_eager(kind: str) -> None:
    ours, eager = (spoken(model, **KINDS[kind]) for model in whispers())
    assert_same(ours, eager, 1e-4)


def test_word_times_switch_the_model_to_eager() -> None:
    """Transformers does so, whatever implementation was chosen, and does not switch back."""
    model, _ = whispers()
    spoken(model, **WORDS)
    assert model.config._attn_implementation == "eager"
    model.set_attn_implementation("sightline")
    with torch.no_grad():
        again = model(
            torch.randn(1, 8, FRAMES), decoder_input_ids=torch.tensor([[3, 5]]), output_attentions=True
        )
    assert len(matrices(again)) == 6
