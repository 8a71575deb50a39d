"""Published families: equal logits, with padding, and equal generated text."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sightline.models import Decoder, Encoder, EncoderDecoder, VisionEncoder, from_huggingface

hf = pytest.importorskip("transformers")

TEXT = {
    "vocab_size": 61,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "num_labels": 3,
}
GPT2 = {
    "vocab_size": 61,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
PAIR = {"vocab_size": 61, "d_model": 32, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
        "encoder_ffn_dim": 40, "decoder_ffn_dim": 40, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
        "decoder_start_token_id": 1, "forced_eos_token_id": None}  # fmt: skip
IMAGE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "image_size": 12,
    "patch_size": 4,
    "num_labels": 3,
}
FAMILIES = {
    "bert body": lambda: hf.BertModel(hf.BertConfig(**TEXT)),
    "bert tokens": lambda: hf.BertForMaskedLM(hf.BertConfig(**TEXT)),
    "bert classes": lambda: hf.BertForSequenceClassification(hf.BertConfig(**TEXT)),
    "bert labels": lambda: hf.BertForTokenClassification(hf.BertConfig(**TEXT)),
    "gpt2": lambda: hf.GPT2LMHeadModel(hf.GPT2Config(**GPT2)),
    "bart": lambda: hf.BartForConditionalGeneration(hf.BartConfig(**PAIR, scale_embedding=True)),
    "marian": lambda: hf.MarianMTModel(
        hf.MarianConfig(**PAIR, scale_embedding=True, activation_function="swish")
    ),
    "vit": lambda: hf.ViTForImageClassification(hf.ViTConfig(**IMAGE)),
    "vit body": lambda: hf.ViTModel(hf.ViTConfig(**IMAGE)),
}


def published(name):
    torch.manual_seed(0)
    model = FAMILIES[name]().eval()
    for key, parameter in model.named_parameters():
        if "embed_positions" not in key or name == "bart":  # Marian's are no weights
            nn.init.normal_(parameter, mean=float(key.lower().endswith("norm.weight")), std=0.2)
    if hasattr(model, "final_logits_bias"):
        model.final_logits_bias.normal_()
    return model


IDS = torch.randint(3, 61, (2, 9), generator=torch.Generator().manual_seed(1))
LENGTHS = torch.tensor([9, 5])
PADDING = (torch.arange(9) < LENGTHS[:, None]).long()


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_are_equal(name):
    theirs = published(name)
    ours = from_huggingface(theirs)
    with torch.no_grad():
        if name.startswith("vit"):
            images = torch.randn(2, 3, 12, 12)
            wanted, output = theirs(images), ours(images)
        elif isinstance(ours, EncoderDecoder):
            target = torch.randint(3, 61, (2, 7))
            wanted = theirs(input_ids=IDS, attention_mask=PADDING, decoder_input_ids=target)
            output = ours(IDS, target, source_lengths=LENGTHS)
        elif isinstance(ours, Decoder):
            wanted, output = theirs(IDS), ours(IDS)
        else:
            segments = torch.randint(0, 2, (2, 9))
            wanted = theirs(IDS, attention_mask=PADDING, token_type_ids=segments)
            output = ours(IDS, lengths=LENGTHS, segments=segments)
    wanted = wanted.logits if hasattr(wanted, "logits") else wanted.last_hidden_state
    if output.dim() == 3 and isinstance(ours, Encoder):
        wanted, output = wanted[PADDING.bool()], output[PADDING.bool()]
    assert wanted.std() > 0.1
    torch.testing.assert_close(output, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("no_repeat", [None, 1, 2])
@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("name", ["gpt2", "bart", "marian"])
def test_generated_text_is_equal(name, beams, no_repeat):
    theirs = published(name)
    ours = from_huggingface(theirs)
    options = {
        "max_new_tokens": 8,
        "num_beams": beams,
        "do_sample": False,
        "pad_token_id": 0,
        "length_penalty": 0.7,
        "no_repeat_ngram_size": no_repeat or 0,
    }
    options |= {"early_stopping": "never"} if beams > 1 else {}
    for row in range(2):
        ids = IDS[row : row + 1, : LENGTHS[row]]
        if name != "gpt2":
            options["bad_words_ids"] = [[0]]
        wanted = theirs.generate(ids, attention_mask=torch.ones_like(ids), **options)[0]
        wanted = wanted[ids.shape[1] :] if name == "gpt2" else wanted[1:]
        for given, lengths, at in ((ids, None, 0), (IDS, LENGTHS, row)):  # alone, and in a padded batch
            where = {"lengths" if name == "gpt2" else "source_lengths": lengths}
            written = ours.generate(
                given, new_tokens=8, beams=beams, length_penalty=0.7, no_repeat=no_repeat, **where
            )
            assert written.lists()[at] == wanted.tolist()


def test_the_real_minilm():
    from sightline.huggingface.load import ModelError, default_folder

    try:
        folder = default_folder()
    except ModelError as error:
        pytest.skip(str(error))
    theirs = hf.AutoModel.from_pretrained(folder, local_files_only=True).eval()
    ours = Encoder.from_huggingface(folder)
    ids = torch.randint(1000, 20_000, (2, 40))
    with torch.no_grad():
        wanted = theirs(ids, attention_mask=(torch.arange(40) < torch.tensor([40, 23])[:, None]).long())
        output = ours(ids, lengths=[40, 23])
    torch.testing.assert_close(output[0], wanted.last_hidden_state[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(output[1, :23], wanted.last_hidden_state[1, :23], atol=1e-4, rtol=1e-4)


def test_a_new_head_on_a_published_body():
    theirs = published("bert tokens")
    ours = Encoder.from_huggingface(theirs, head="classification", classes=5, dropout=0.3)
    assert ours(IDS).shape == (2, 5) and ours.config.dropout == 0.3
    assert torch.equal(ours.embedding.tokens.weight, theirs.bert.embeddings.word_embeddings.weight)


def test_what_is_refused():
    with pytest.raises(ValueError, match="source: is a Decoder, not a VisionEncoder"):
        VisionEncoder.from_huggingface(published("gpt2"))
    with pytest.raises(ValueError, match="source: 't5' is of no known family; known: bert, gpt2"):
        from_huggingface(
            hf.T5Model(hf.T5Config(d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, vocab_size=9))
        )
    theirs = published("gpt2")
    theirs.config.scale_attn_by_inverse_layer_idx = True
    with pytest.raises(ValueError, match="scale_attn_by_inverse_layer_idx=True is not supported, only False"):
        from_huggingface(theirs)
    theirs = published("gpt2")
    theirs.transformer.h[1].ln_1 = nn.Identity()
    with pytest.raises(ValueError, match=r"source: has no transformer.h.1.ln_1.weight"):
        from_huggingface(theirs)
