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

pytest.importorskip("soundfile", reason="speech needs the [tasks] extra")
pytest.importorskip("soxr", reason="speech needs the [tasks] extra")
pytest.importorskip("jiwer", reason="speech needs the [tasks] extra")
pytest.importorskip("rich", reason="tasks need the [app] extra")

import soundfile

from sightline.bench.beside.side import SIDES, SideJob, run_side
from sightline.cli import main
from sightline.tasks import pipeline
from sightline.tasks.registry import find_task
from sightline.tasks.rows import DataError
from sightline.tasks.speech import SpeechRecognition
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
from sightline.tasks.training import Silent, TrainingRun


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


# --- training -------------------------------------------------------------------------------------------

PITCH = {"a": 400, "b": 900, "c": 1700}
RATE = 8000


def spoken(text):
    """Each letter a tone of its own, words apart."""
    gap = numpy.zeros(RATE // 20)
    parts = [gap if letter == " " else tone(PITCH[letter], 0.1, RATE) for letter in text]
    return numpy.concatenate([gap, *parts, gap]) + numpy.random.default_rng(0).normal(0, 1e-3, 1)


@pytest.fixture
def table(tmp_path):
    draw = random.Random(0)
    words = ["ab", "bca", "c", "acb"]
    rows = []
    for at in range(120):
        text = " ".join(draw.choice(words) for _ in range(draw.randint(1, 3)))
        soundfile.write(tmp_path / f"{at}.wav", spoken(text), RATE)
        rows.append(f"{at}.wav\t{text.upper()}\n")
    path = tmp_path / "said.tsv"
    path.write_text("".join(rows))
    return path


SMALL = [f"--set={each}" for each in (
    "width=32", "heads=2", "layers=1", "hidden=64", "convolution=7", "bins=16", f"sampling_rate={RATE}",
    "batch=8", "rate=5e-3", "warmup=20", "dropout=0", "masks=1", "subsampling=4",
)]  # fmt: skip


def command(*arguments):
    return main([str(argument) for argument in arguments])


@pytest.mark.parametrize("side", SIDES)
def test_a_side_of_a_comparison_is_measured_as_training_is(table, tmp_path, side):
    recipe = find_task("speech-recognition").recipe.changed([each[6:] for each in SMALL] + ["epochs=1"])
    found = run_side(SideJob("speech-recognition", Source(table), recipe, 1, side, tmp_path), Silent())
    assert {"wer", "greedy_wer", "loss"} <= found["figures"]["validation"].keys()


def test_speech_from_data_to_answers(table, tmp_path, capsys):
    out = tmp_path / "model"
    given = ("train", "speech-recognition", "--data", table, "--test", table, "--out", out, *SMALL)
    assert command(*given, "--set", "epochs=8") == 0
    told = capsys.readouterr().out
    assert "validation: wer 0.0000" in told and "test: wer 0.0" in told and "greedy_wer" in told
    recogniser = pipeline("speech-recognition", out)
    samples = spoken("bca c ab").astype("float32")
    wanted = {"text": "bca c ab"}
    assert recogniser((samples, RATE)) == wanted
    twice = numpy.repeat(samples, 2)  # at twice the rate it is the same sound
    assert recogniser({"raw": twice, "sampling_rate": 2 * RATE}) == wanted
    stereo = {"array": numpy.stack([samples, samples]), "sampling_rate": RATE}
    soundfile.write(tmp_path / "one.flac", samples, RATE)
    assert recogniser([stereo, tmp_path / "one.flac"], greedy=True) == [wanted] * 2
    page = tmp_path / "page.html"
    assert command("run", out, tmp_path / "one.flac", "--json", "--look", page) == 0
    assert json.loads(capsys.readouterr().out) == {"input": str(tmp_path / "one.flac"), **wanted}
    about = json.loads(page.read_text().split('id="sightline-data">')[1].split("</script>")[0])["about"]
    frames = len(samples) // 80 - 1
    assert about["medium"]["kind"] == "sound" and about["medium"]["count"] == math.ceil(frames / 4)
    (tmp_path / "folder").mkdir()
    for at, text in enumerate(["ab", "c c"]):
        soundfile.write(tmp_path / "folder" / f"{at}.wav", spoken(text), RATE)
    assert command("run", out, tmp_path / "folder") == 0
    assert capsys.readouterr().out == "ab\nc c\n"
    with pytest.raises(DataError, match=r"lasts 40\.0 s, and the model hears 30 s at once"):
        recogniser((noise(40 * RATE + 200), RATE))
    with pytest.raises(DataError, match="needs 'raw' or 'array', and 'sampling_rate'; it has raw"):
        recogniser({"raw": samples})


def test_bad_recordings_end_a_run_or_are_passed_over(table, tmp_path, capsys):
    with table.open("a") as rows:
        rows.write("none.wav\tA\n0.wav\t" + "AB" * 99 + "\n")
    given = ("train", "speech-recognition", "--data", table, "--out", tmp_path / "model", *SMALL)
    assert command(*given, "--set", "epochs=1") == 1
    assert "none.wav: there is no such file (--skip-bad" in capsys.readouterr().err
    assert command(*given, "--set", "epochs=1", "--skip-bad") == 0
    told = capsys.readouterr().err
    assert "none.wav: there is no such file" in told and "its letters need 198 positions" in told


def test_an_interrupted_run_goes_on_exactly(table, tmp_path):
    """What is varied in training, and what is joined, follows from the seed alone."""
    recipe = SpeechRecognition.recipe.changed([each.removeprefix("--set=") for each in SMALL] + ["epochs=2"])

    def run(folder):
        task = SpeechRecognition()
        folder.mkdir(exist_ok=True)
        return TrainingRun(task, task.read(Source(table), recipe), recipe, folder, {"data": "the same"})

    whole = run(tmp_path / "whole")
    history = whole.fit()
    part = run(tmp_path / "parts")
    with pytest.raises(KeyboardInterrupt):
        part.fit(StopAfter(5))
    torch.manual_seed(99)
    part = run(tmp_path / "parts")
    assert part.progress.at == 5 and part.fit() == history
    for one, other in zip(whole.model.parameters(), part.model.parameters(), strict=True):
        assert torch.equal(one, other)


class StopAfter(Silent):
    """Ctrl-C after so many steps."""

    def __init__(self, steps):
        self.left = steps

    def step(self, epoch, done, of, loss):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def test_what_training_hears():
    """Every utterance once, joined within the longest; as long as was said; each time the same from its seed."""
    features = Features("log-mel", RATE, 16)
    examples = [Utterance(noise(20 * (at + 9), at).view(-1, 1).expand(-1, 16), "a", [2]) for at in range(30)]
    variation = Variation(tempo=0.2, voice=0.1, masks=2, join=0.6, longest=1500)
    drawn = variation.draw(examples, torch.Generator().manual_seed(1))
    heard = [id(part.frames) for each in drawn for part in each.parts]
    assert sorted(heard) == sorted(id(each.frames) for each in examples) and len(drawn) < 25
    assert drawn == variation.draw(examples, torch.Generator().manual_seed(1))
    for each in drawn:
        assert len(each.parts) == 1 or each.length <= 1500
        frames = variation.frames(each, features)
        assert len(frames) == each.length and torch.equal(frames, variation.frames(each, features))
    plain = Variation(0.0, 0.0, 0, 0.0, 1500)
    alone = plain.draw(examples[:1], torch.Generator())[0]
    assert torch.equal(plain.frames(alone, features), normalised(examples[0].frames))
