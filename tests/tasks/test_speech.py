"""Speech recognition: frames against their formulas, the search against all alignments, data to answers."""

from __future__ import annotations

import itertools
import json
import math
import random
import struct

import numpy
import pytest
import torch

for package in ("tokenizers", "rich", "soundfile", "soxr", "jiwer"):
    pytest.importorskip(package, reason="speech needs the [tasks] extra")

import soundfile

from sightline.tasks.rows import DataError
from sightline.tasks.speech.audio import as_recording, read_audio, resampled
from sightline.tasks.speech.augment import Utterance, Variation
from sightline.tasks.speech.cepstra import cepstra, read_cepstra, to_cepstra, to_energies
from sightline.tasks.speech.decoding import WordSearch, greedy
from sightline.tasks.speech.features import Features, normalised
from sightline.tasks.speech.logmel import log_mel
from sightline.tasks.speech.mel import warping
from sightline.tasks.speech.reading import read_said
from sightline.tasks.speech.words import END, START, Bigrams
from sightline.tasks.task import Source


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def noise(count, seed=0):
    return torch.from_numpy(numpy.random.default_rng(seed).uniform(-0.3, 0.3, count)).float()


# --- frames ---------------------------------------------------------------------------------------------


def mel(f):
    return 2595 * math.log10(1 + f / 700)


def hertz(m):
    return 700 * (10 ** (m / 2595) - 1)


def powers(x, window, size):
    """|FFT|² of one windowed frame, term by term."""
    return [
        abs(sum(x[t] * window[t] * complex(math.cos(a * t), -math.sin(a * t)) for t in range(len(x)))) ** 2
        for a in (2 * math.pi * k / size for k in range(size // 2 + 1))
    ]


def triangle(f, left, centre, right):
    return max(0.0, min((f - left) / (centre - left), (right - f) / (right - centre)))


def corners(low, high, bins):
    step = (mel(high) - mel(low)) / (bins + 1)
    return [hertz(mel(low) + i * step) for i in range(bins + 2)]


def test_log_mel_is_its_formula():
    rate, bins = 1000, 7
    x = noise(61)
    found = log_mel(x, rate, bins)
    assert found.shape == (1 + (61 - 25) // 10, bins)
    hann = [0.5 - 0.5 * math.cos(2 * math.pi * t / 25) for t in range(25)]
    at = corners(20, 500, bins)
    for row in (0, len(found) - 1):
        power = powers(x[row * 10 : row * 10 + 25].tolist(), hann, 32)
        for b in range(bins):
            energy = sum(p * triangle(k * rate / 32, *at[b : b + 3]) for k, p in enumerate(power))
            assert found[row, b].item() == pytest.approx(math.log(max(1e-6, energy)), abs=1e-4)


def test_cepstra_are_the_formula_of_sphinx():
    x = noise(410 + 160 + 3, seed=1)
    found = cepstra(x)
    assert found.shape == (2, 13)
    hamming = [0.54 - 0.46 * math.cos(2 * math.pi * t / 409) for t in range(410)]
    step = 16000 / 512
    at = [math.floor(f / step + 0.5) * step for f in corners(133.33334, 6855.4976, 40)]
    y = [32768 * (x[t].item() - (0.97 * x[t - 1].item() if t else 0.0)) for t in range(len(x))]
    power = powers(y[160 : 160 + 410], hamming, 512)
    logs = [
        math.log(1e-4 + sum(p * triangle(k * step, *at[j : j + 3]) for k, p in enumerate(power)) * 2 / (at[j + 2] - at[j]))
        for j in range(40)
    ]  # fmt: skip
    for k in range(13):
        wanted = sum(
            (0.5 if j == 0 else 1) * logs[j] * math.cos(math.pi * k * (j + 0.5) / 40) for j in range(40)
        )
        assert found[1, k].item() == pytest.approx(wanted / 40, abs=1e-4)


def test_warping_moves_what_a_voice_says():
    assert torch.allclose(warping(1.0, 20, 4000, 30), torch.eye(30, dtype=torch.float64), atol=1e-9)
    # A peak at bin 15 of a voice that is read at 1.1 times the frequency lies lower.
    peak = torch.zeros(30, dtype=torch.float64)
    peak[15] = 1
    moved = warping(1.1, 20, 4000, 30) @ peak
    centre = float((moved * torch.arange(30)).sum() / moved.sum())
    at = corners(20, 4000, 30)[1:-1]
    assert at[15] / 1.1 == pytest.approx(at[13] + (centre - 13) * (at[14] - at[13]), rel=0.02)
    assert torch.allclose(to_cepstra() @ to_energies(), torch.eye(13, dtype=torch.float64), atol=1e-9)


def test_loudness_does_not_count():
    features = Features("log-mel", 8000, 20)
    x = noise(4000)
    soft, loud = (normalised(features.hear(as_recording(x * f, 8000, "x"), "x")) for f in (0.1, 1.0))
    assert torch.allclose(soft, loud, atol=1e-3)
    assert normalised(torch.ones(5, 3)).abs().max() == 0  # silence


# --- files ----------------------------------------------------------------------------------------------


def write_cepstra(path, frames):
    numbers = [number for frame in frames for number in frame]
    path.write_bytes(struct.pack(f">i{len(numbers)}f", len(numbers), *numbers))


def test_cepstra_of_a_file(tmp_path):
    path = tmp_path / "a.mfc"
    frames = [[float(i + 100 * j) for i in range(13)] for j in range(3)]
    write_cepstra(path, frames)
    assert read_cepstra(path).tolist() == frames
    content = path.read_bytes()
    bad = {
        content[:-4]: "says that it holds 39 numbers, and has room for 38",
        b"": "no .mfc file",
        struct.pack(">i5f", 5, *range(5)): "5 numbers are no frames of 13",
        struct.pack(">i13f", 13, *[math.nan] * 13): "not finite",
    }
    for bytes_, message in bad.items():
        path.write_bytes(bytes_)
        with pytest.raises(DataError, match=message):
            read_cepstra(path)


def tone(frequency, seconds, rate):
    return 0.5 * numpy.sin(2 * numpy.pi * frequency * numpy.arange(int(seconds * rate)) / rate)


def test_another_rate_and_two_channels_are_heard_alike(tmp_path):
    features = Features("log-mel", 16000, 20)
    one, two = tmp_path / "one.wav", tmp_path / "two.flac"
    soundfile.write(one, tone(440, 0.5, 16000), 16000)
    soundfile.write(two, numpy.stack([tone(440, 0.5, 44100) * 2, 0 * tone(440, 0.5, 44100)], 1), 44100)
    here, there = features.read(one), features.read(two)
    assert abs(len(here) - len(there)) <= 1
    # Where the tone is; elsewhere both are next to nothing.
    loudest = here[10].argmax()
    assert there[10].argmax() == loudest and abs(here[10, loudest] - there[10, loudest]) < 0.02
    samples = resampled(read_audio(two), 16000)
    assert abs(len(samples) - 8000) <= 1


def test_what_cannot_be_heard_is_told(tmp_path):
    features = Features("log-mel", 16000, 20)
    (tmp_path / "damaged.wav").write_bytes(b"RIFF and no more")
    soundfile.write(tmp_path / "empty.wav", numpy.zeros(0), 16000)
    soundfile.write(tmp_path / "short.wav", numpy.zeros(399), 16000)
    soundfile.write(tmp_path / "nan.wav", numpy.array([0.0, math.nan] * 500), 16000, subtype="FLOAT")
    write_cepstra(tmp_path / "cepstra.mfc", [[0.0] * 13])
    reasons = {
        "damaged.wav": "cannot be read", "empty.wav": "holds no samples", "nan.wav": "not finite",
        "short.wav": "too short: samples: 399 don't fill a window of 400", "none.wav": "no such file",
        "cepstra.mfc": "holds cepstra",
    }  # fmt: skip
    for name, reason in reasons.items():
        with pytest.raises(DataError, match=f"{name}: .*{reason}"):
            features.read(tmp_path / name)
    soundfile.write(tmp_path / "just.wav", numpy.zeros(400), 16000)
    assert features.read(tmp_path / "just.wav").shape == (1, 20)


def test_transcripts_of_every_kind(tmp_path):
    def sound(*parts):
        path = tmp_path.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, numpy.zeros(400), 16000)
        return path

    table, beside = sound("table", "a.wav"), sound("beside", "deep", "b.flac")
    (tmp_path / "table" / "said.tsv").write_text("text\tpath\nhello   you\ta.wav\n")
    beside.with_suffix(".txt").write_text("good\nday\n")
    spoken = sound("libri", "19", "198", "19-198-0000.flac")
    (spoken.parent / "19-198.trans.txt").write_text("19-198-0000 NORTHANGER ABBEY\n")
    etc, feat = tmp_path / "an" / "etc", tmp_path / "an" / "feat" / "clstk" / "fash"
    etc.mkdir(parents=True)
    feat.mkdir(parents=True)
    write_cepstra(feat / "an251-fash-b.mfc", [[0.0] * 13])
    (etc / "train.fileids").write_text("clstk/fash/an251-fash-b\n")
    (etc / "train.transcription").write_text("<s> YES </s> (an251-fash-b)\n")
    for given, wanted in {
        tmp_path / "table" / "said.tsv": (table, "hello you", ""),
        tmp_path / "beside": (beside, "good day", ""),
        tmp_path / "libri": (spoken, "NORTHANGER ABBEY", "19"),
        etc / "train.fileids": (feat / "an251-fash-b.mfc", "YES", "fash"),
    }.items():
        assert read_said(given, Source(given)) == ([wanted], [])
    (etc / "train.transcription").write_text("")
    with pytest.raises(DataError, match=r"names 1 recordings, and train\.transcription has 0 lines"):
        read_said(etc / "train.fileids", Source(etc))
    with pytest.raises(DataError, match="holds no recording"):
        read_said(etc, Source(etc))


# --- words ----------------------------------------------------------------------------------------------

LABELS = ["", " ", "a", "b"]


def alignments(scores):
    """log P(labels | scores) of every sequence of labels, summed over all paths."""
    found = {}
    for path in itertools.product(range(scores.shape[1]), repeat=len(scores)):
        letters = "".join(LABELS[label] for label, _ in itertools.groupby(path))
        score = sum(float(scores[t, label]) for t, label in enumerate(path))
        found[letters] = numpy.logaddexp(found.get(letters, -math.inf), score)
    return found


@pytest.mark.parametrize(("weight", "bonus"), [(0.0, 0.0), (0.7, 0.0), (1.5, 2.0)])
def test_the_search_finds_the_best_of_all_alignments(weight, bonus):
    """With room for all hypotheses it is exact: words that begin like others, doubled letters, none at all."""
    bigrams = Bigrams.of(["a aa", "ab a", "b", "aa b", "b b"], 10)
    chosen = set()
    for seed in range(12):
        scores = torch.from_numpy(numpy.random.default_rng(seed).normal(0, 2, (5, 4))).log_softmax(-1)
        best = (-math.inf, "")
        for letters, score in alignments(scores).items():
            words = letters.removesuffix(" ").split(" ") if letters else []
            if all(word in bigrams.words for word in words):
                row = [START, *words, END]
                prior = sum(weight * bigrams.log(v, w) for v, w in itertools.pairwise(row))
                best = max(best, (score + prior + bonus * len(words), " ".join(words)))
        written = WordSearch(bigrams, LABELS, weight, bonus, beams=10_000)(scores)
        assert written == best[1]
        chosen.add(written)
    assert len(chosen) > 2


def test_letters_by_themselves():
    best = [2, 2, 0, 2, 1, 1, 3, 0, 3, 3, 1]
    scores = torch.nn.functional.one_hot(torch.tensor(best), 4).float()
    assert greedy(scores, LABELS) == "aa bb"


def test_word_pairs_add_up_to_one():
    bigrams = Bigrams.of(["one two", "one two three", "two one rare"], 3)
    assert len(bigrams.words) == 3 and {"one", "two"} < set(bigrams.words)
    for before in [START, *bigrams.words]:
        assert sum(math.exp(bigrams.log(before, word)) for word in [*bigrams.words, END]) == pytest.approx(1)
    assert bigrams.log("one", "two") > bigrams.log("two", "two")
    assert bigrams.log("one", "never") == -math.inf
