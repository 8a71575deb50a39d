"""From data to answers: training learns, goes on where it stopped, and its models answer."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import re
import signal
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("tokenizers", reason="tasks need the [app] extra")
pytest.importorskip("rich", reason="tasks need the [app] extra")

from safetensors.torch import load_file

from sightline.cli import main
from sightline.common.errors import CommandError
from sightline.tasks import pipeline
from sightline.tasks import precision as precisions
from sightline.tasks.pairs import Translation
from sightline.tasks.recipe import Recipe
from sightline.tasks.sentiment import Sentiment, SentimentRecipe
from sightline.tasks.task import Source, padded
from sightline.tasks.training import TrainingRun

GOOD, BAD = ["warm", "funny", "fine"], ["dull", "grim", "long"]
SMALL = ["--set", "width=32", "--set", "heads=2", "--set", "layers=1", "--set", "vocabulary=200"]


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def reviews(count=200):
    draw = random.Random(0)
    for at in range(count):
        label = ("pos", "neg")[at % 2]
        word = draw.choice(GOOD if label == "pos" else BAD)
        yield f"a {draw.choice(['very', 'rather', 'most'])} {word} film", label


@pytest.fixture
def sentiment_data(tmp_path):
    path = tmp_path / "reviews.tsv"
    path.write_text("".join(f"{text}\t{label}\n" for text, label in reviews()))
    return path


@pytest.fixture
def pair_data(tmp_path):
    """Every letter's name in reverse order: a translation that a tiny model learns."""
    names = {"a": "eins", "b": "zwei", "c": "drei", "d": "vier"}
    draw = random.Random(0)
    path = tmp_path / "pairs.tsv"
    rows = [[draw.choice("abcd") for _ in range(draw.randint(1, 4))] for _ in range(600)]
    path.write_text("".join(f"{' '.join(row)}\t{' '.join(names[c] for c in row)}\n" for row in rows))
    return path


def command(*arguments):
    return main([str(argument) for argument in arguments])


def test_sentiment_from_data_to_answers(sentiment_data, tmp_path, capsys):
    out = tmp_path / "model"
    options = ["--set", "epochs=6", "--set", "dropout=0.1", "--set", "rate=5e-3", "--set", "batch=16"]
    options += ["--set", "storage=bfloat16"]
    given = ("train", "sentiment", "--data", sentiment_data, "--out", out, "--fold", "0/5", *SMALL, *options)
    assert command(*given) == 0
    told = capsys.readouterr()
    assert "test: accuracy 1.0000" in told.out
    assert re.search("(?m)^measuring the test part: [0-9]+ examples$", told.err)
    card = (out / "README.md").read_text()
    assert "labels: neg, pos" in card and "test, accuracy: 1.0000" in card and "width: 32" in card
    assert {tensor.dtype for tensor in load_file(out / "model.safetensors").values()} == {torch.bfloat16}
    assert not (out / "checkpoint.safetensors").exists()
    assert command(*given) == 1 and "finished model" in capsys.readouterr().err
    assert command("run", out, "a very warm film", "a most grim film", "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["label"] for line in lines] == ["pos", "neg"]
    answer = pipeline("sentiment", out)
    assert answer("a rather dull film")[0]["label"] == "neg"
    assert [set(each) for each in answer(["a warm film", "a grim film"])] == [{"label", "score"}] * 2
    # A text past the context of 64 is read in windows: here 3 of good news and half of one of bad.
    warm, grim, long = answer([f"a very {words} " * n for words, n in (("warm film", 16), ("grim film", 8))]
                              + ["a very warm film " * 48 + "a very grim film " * 8])  # fmt: skip
    assert long["label"] == "pos"
    assert long["score"] == pytest.approx((6 * warm["score"] + 1 - grim["score"]) / 7, abs=1e-5)
    page = tmp_path / "page.html"
    assert command("run", out, "a very warm film", "--look", page) == 0
    assert "a very warm film" in page.read_text()


def test_translation_from_data_to_answers(pair_data, tmp_path, capsys):
    out = tmp_path / "model"
    options = ["--set", "epochs=10", "--set", "rate=3e-3", "--set", "dropout=0.0", "--set", "batch=16", "--set", "smoothing=0.0", "--set", "average=0.97",
               "--set", "warmup=50", "--set", "context=16", "--set", "patience=30", "--set", "width=64"]  # fmt: skip
    assert command("train", "translation", "--data", pair_data, "--out", out, *SMALL, *options) == 0
    answer = pipeline("translation", out)
    assert answer(["b a d", "c"]) == [{"translation_text": "zwei eins vier"}, {"translation_text": "drei"}]
    assert "bleu 100" in capsys.readouterr().out and "validation, bleu" in (out / "README.md").read_text()
    assert command("run", out, "b a " * 10) == 1
    assert " tokens, and the model reads 16; split it" in capsys.readouterr().err
    assert command("run", out, "b a " * 10, "--truncate") == 0
    page = tmp_path / "page.html"
    assert command("run", out, "b a d", "--look", page) == 0
    about = json.loads(page.read_text().split('id="sightline-data">')[1].split("</script>")[0])["about"]
    assert [section["name"] for section in about["sections"]] == ["encoder", "decoder", "cross"]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("copying", [False, True])
def test_the_loss_of_pairs_is_that_of_their_real_tokens(pair_data, copying, smoothing):
    """Against PyTorch's cross-entropy over all places, of which padding is ignored."""
    task = Translation()
    recipe = dataclasses.replace(Translation.recipe, width=32, heads=2, layers=1, vocabulary=200, dropout=0.0,
                                 smoothing=smoothing, copying=copying)  # fmt: skip
    examples = task.read(Source(pair_data), recipe).train[:9]
    model = task.build(recipe)
    source, lengths = padded([each.source for each in examples], model.config.pad)
    target, own = padded([each.target for each in examples], model.config.pad)
    assert own.min() < own.max()
    places = target.masked_fill(torch.arange(target.shape[1]) >= own[:, None], -100)
    logits = model(source, model.shifted(target), source_lengths=lengths)
    expected = F.cross_entropy(logits.flatten(0, 1), places.flatten(), label_smoothing=smoothing)
    torch.testing.assert_close(task.loss(model, examples, recipe), expected, rtol=1e-5, atol=1e-6)


def test_a_summary_from_data_to_answers(tmp_path, capsys):
    """The subject is the first and the last word; which epoch is kept is said by ROUGE-2."""
    draw = random.Random(0)
    words = ["lunch", "budget", "friday", "meeting", "contract", "trip"]
    texts = [[draw.choice(words) for _ in range(draw.randint(2, 5))] for _ in range(400)]
    rows = [{"text": " ".join(text), "summary": f"{text[0]} {text[-1]}"} for text in texts]
    (tmp_path / "mails.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "model"
    options = ["--set", "epochs=6", "--set", "rate=5e-3", "--set", "dropout=0", "--set", "batch=16",
               "--set", "warmup=50", "--set", "context=16", "--set", "average=0.9", "--set", "width=64"]  # fmt: skip
    assert (
        command("train", "summarization", "--data", tmp_path / "mails.jsonl", "--out", out, *SMALL, *options)
        == 0
    )
    assert "rouge2 100" in capsys.readouterr().out
    logged = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert all({"loss", "rouge1", "rouge2", "rougeL"} <= set(line) for line in logged)
    assert pipeline("summarization", out)(["trip budget lunch"]) == [{"summary_text": "trip lunch"}]


CATS = "the cat sat on the mat.\nthe dog sat on the log.\n\n" * 100


def language(tmp_path, text, *settings):
    """(the folder of a model that learnt the text, what it told)"""
    (tmp_path / "text.txt").write_text(text)
    out = tmp_path / "model"
    options = ["--set", "context=32", "--set", "rate=5e-3", "--set", "dropout=0.0", "--set", "warmup=10",
               "--set", "batch=8", *settings]  # fmt: skip
    assert (
        command("train", "generation", "--data", tmp_path / "text.txt", "--out", out, *SMALL, *options) == 0
    )
    return out


def test_language_goes_on(tmp_path):
    out = language(tmp_path, CATS, "--set", "epochs=8", "--set", "precision=bfloat16")
    answer = pipeline("generation", out)("the cat s", new_tokens=6)
    assert answer == [{"generated_text": "the cat sat on "}]
    assert len(pipeline("generation", out)("the" * 30, new_tokens=50)[0]["generated_text"]) > 130
    drawn = [
        pipeline("generation", out)("the", temperature=2.0, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_most_frequent_words_are_never_hidden(sentiment_data):
    """What training reads, word by word."""
    task, seen = Sentiment(), []
    recipe = SentimentRecipe(width=16, heads=2, layers=1, hide=0.5, hide_beyond=2)
    examples = task.read(Source(sentiment_data), recipe).train
    model = task.build(recipe)
    model.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    torch.manual_seed(0)
    task.loss(model, examples[:100], recipe)
    ids, _ = padded([example.ids for example in examples[:100]], 0)
    counts = torch.bincount(torch.cat([torch.tensor(example.ids) for example in examples]))
    unknown = task.tokenizer.token_to_id("<unk>")
    hidden = (seen[0] == unknown) & (ids != unknown)
    frequent = torch.isin(ids, counts.topk(2).indices)
    assert hidden[~frequent].float().mean() > 0.3 and not hidden[frequent].any()


def test_run_draws_by_the_seed(capsys):
    told = []
    for options in ([], ["--seed", "1"], ["--seed", "0"], ["--temperature", "0"]):
        assert command("run", "generation", "ROMEO:", "--new-tokens", "40", *options) == 0
        told.append(capsys.readouterr().out)
    assert told[0] == told[2] and len(set(told)) == 3
    assert told[3] == pipeline("generation")("ROMEO:", new_tokens=40)[0]["generated_text"] + "\n"


def test_run_keeps_what_was_answered(tmp_path, monkeypatch, capsys):
    """Ctrl-C after the first batch of a long file."""
    (tmp_path / "films.txt").write_text("A warm film.\n" * 80)
    whole, batches = Sentiment.answers, []

    def answers(self, *arguments):
        batches.append(whole(self, *arguments))
        if len(batches) == 2:
            raise KeyboardInterrupt
        return batches[-1]

    monkeypatch.setattr(Sentiment, "answers", answers)
    assert command("run", "sentiment", tmp_path / "films.txt") == 130
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(batches[0]) == 32 and set(lines) == {lines[0]}


def test_a_bar_leaves_the_answers_alone():
    """The person at the terminal sees a bar, the file gets every answer."""
    pty = pytest.importorskip("pty", reason="terminals of their own are POSIX")
    terminal, end = pty.openpty()
    given = [sys.executable, "-m", "sightline", "run", "sentiment", "A warm film.", "A dull film."]
    done = subprocess.run(
        given, stdout=subprocess.PIPE, stderr=end, text=True, env=os.environ | {"TERM": "xterm"}
    )
    os.close(end)
    seen = os.read(terminal, 10_000).decode()
    os.close(terminal)
    assert "answering" in seen
    assert done.returncode == 0 and [line.split("\t")[2] for line in done.stdout.splitlines()] == given[-2:]


def test_language_of_pieces(tmp_path, capsys):
    """Line ends and blanks are learnt like anything else, and the loss is told by the character too."""
    out = language(tmp_path, CATS, "--set", "epochs=12", "--set", "vocabulary=600", "--set", "context=16")
    told = dict(
        each.split() for each in capsys.readouterr().out.strip().removeprefix("validation: ").split(", ")
    )
    pipe = pipeline("generation", out)
    ids = pipe.task.tokenizer.encode(CATS).ids
    assert pipe.task.tokenizer.decode(ids) == CATS and len(ids) < len(CATS) / 2
    assert float(told["loss_per_character"]) < float(told["loss"]) / 2
    assert pipe("the cat sat", new_tokens=11)[0]["generated_text"].startswith(
        "the cat sat on the mat.\nthe dog"
    )
    assert pipe.task.tokenizer.decode(pipe.task.tokenizer.encode("naïve ½").ids) == "naïve ½"


RECIPE = SentimentRecipe(width=16, heads=2, layers=1, dropout=0.3, epochs=3, batch=16, average=0.9, hide=0.1)


def make_run(data, folder, task=None, recipe=RECIPE, identity="the same", processes=None):
    folder.mkdir(exist_ok=True)
    task = task or Sentiment()
    return TrainingRun(task, task.read(Source(data), recipe), recipe, folder, {"data": identity}, processes)


class Losses:
    """Keeps the losses; after so many steps something happens."""

    def __init__(self, after=-1, happens=None):
        self.left, self.losses, self.happens = after, [], happens

    def notice(self, text):
        pass

    def step(self, epoch, done, of, loss):
        self.losses.append(loss)
        self.left -= 1
        if self.left == 0:
            self.happens()

    def epoch(self, epoch, figures, better):
        pass


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


class InterruptedWhileValidating(Sentiment):
    """Ctrl-C comes while the averaged weights stand in for the model's own."""

    left = 2

    def evaluate(self, model, examples, recipe):
        self.left -= 1
        if self.left == 0:
            interrupt()
        return super().evaluate(model, examples, recipe)


class InterruptedWhileStepping(Sentiment):
    """Ctrl-C comes before the weights are stepped, after random numbers were drawn."""

    left = 5

    def loss(self, model, examples, recipe):
        found = super().loss(model, examples, recipe)
        self.left -= 1
        if self.left == 0:
            interrupt()
        return found


def fit_in_parts(make, stop=interrupt):
    """(the run, its losses, what it measured, how often it was stopped), stopped every seven steps."""
    losses, stops = [], 0
    while True:
        torch.manual_seed(99)  # whatever happened in between
        part, run = Losses(7, stop), make()
        try:
            found = run.fit(part)
        except KeyboardInterrupt:
            stops += 1
        else:
            return run, losses + part.losses, found, stops
        losses += part.losses


@pytest.mark.parametrize("task", [Sentiment, InterruptedWhileValidating, InterruptedWhileStepping])
def test_an_interrupted_run_goes_on_exactly(task, sentiment_data, tmp_path):
    """Losses, figures and weights are those of a run that was never stopped, to the last bit."""
    before = signal.getsignal(signal.SIGINT)
    whole = Losses()
    first = make_run(sentiment_data, tmp_path / "whole")
    history = first.fit(whole)
    run, losses, found, stops = fit_in_parts(lambda: make_run(sentiment_data, tmp_path / "parts", task()))
    assert stops > 2 and losses == whole.losses and found == history
    assert [list(each) for each in found] == [list(each) for each in history]  # the log's columns, in order
    for one, other in zip(first.model.parameters(), run.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_interruption_leaves_the_checkpoint(sentiment_data, tmp_path):
    run = make_run(sentiment_data, tmp_path / "run")
    run.save()
    before = (tmp_path / "run" / "checkpoint.safetensors").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        run.fit(Losses(3, lambda: (interrupt(), interrupt())))
    assert (tmp_path / "run" / "checkpoint.safetensors").read_bytes() == before


def test_the_command_goes_on(sentiment_data, tmp_path, capsys):
    """Ctrl-C at the terminal: exit code 130, what to do is told, and the same command comes to the end."""
    settings = ["--set", "epochs=20", "--set", "patience=20", "--threads", "1"]
    given = ["train", "sentiment", "--data", sentiment_data, "--out", tmp_path / "model", *SMALL, *settings]
    with subprocess.Popen(
        [sys.executable, "-m", "sightline", *given], stderr=subprocess.PIPE, text=True
    ) as process:
        first = process.stderr.readline()  # an epoch is over
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert first.startswith("epoch 1: ")
    assert process.returncode == 130 and "the same command goes on from" in rest, rest
    assert command(*given) == 0
    told = capsys.readouterr()
    assert "epoch 1:" not in told.err and "epoch 20:" in told.err
    assert told.out.startswith("validation: accuracy")


def test_a_stopped_run_is_finished_with_its_best_epoch(sentiment_data, tmp_path, capsys):
    out = tmp_path / "model"
    given = ["train", "sentiment", "--data", sentiment_data, "--out", out, *SMALL, "--threads", "1"]
    given += ["--set", "epochs=20", "--set", "patience=20"]
    assert command(*given, "--finish") != 0
    assert "holds no run with a whole epoch" in capsys.readouterr().err
    with subprocess.Popen(
        [sys.executable, "-m", "sightline", *given], stderr=subprocess.PIPE, text=True
    ) as process:
        process.stderr.readline()  # an epoch is over
        process.send_signal(signal.SIGINT)
        process.stderr.read()
    assert command(*given, "--finish") == 0
    assert capsys.readouterr().out.startswith("validation: accuracy")
    epochs = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert 1 <= len(epochs) < 20
    found = pipeline("sentiment", out)(["a warm film"])
    assert found[0]["label"] in ("good", "bad", "pos", "neg")


def test_other_data_and_damage_are_refused(sentiment_data, tmp_path):
    out = tmp_path / "run"
    make_run(sentiment_data, out).save()
    with pytest.raises(CommandError, match="still being trained"):
        pipeline("sentiment", out)
    with pytest.raises(CommandError, match="is of a run with another data"):
        make_run(sentiment_data, out, identity="others")
    path = out / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CommandError, match="is not a valid checkpoint"):
        make_run(sentiment_data, out)
    before = Source(sentiment_data).digest()
    with sentiment_data.open("a") as file:
        file.write("one more\tpos\n")
    assert Source(sentiment_data).digest() != before


def test_a_full_disk_loses_nothing(sentiment_data, tmp_path):
    resource = pytest.importorskip("resource", reason="limits of a process are POSIX")
    run = make_run(sentiment_data, tmp_path / "run")
    run.save()
    path = tmp_path / "run" / "checkpoint.safetensors"
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # no file may grow beyond that
    try:
        with pytest.raises(CommandError, match="cannot write .*what was saved before is as it was"):
            run.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]


def test_of_equal_figures_the_lower_loss_is_kept(sentiment_data, tmp_path):
    losses = iter([3.0, 2.0, 2.5, 9.0, 1.0])
    accuracies = iter([0.5, 0.5, 0.5, 0.6, 0.5])

    class Told(Sentiment):
        def evaluate(self, model, examples, recipe):
            return {"accuracy": next(accuracies), "loss": next(losses)}

    class Kept(Losses):
        def epoch(self, epoch, figures, better):
            self.losses.append(better)

    kept = Kept()
    kept.step = lambda *given: None
    make_run(sentiment_data, tmp_path / "run", Told(), dataclasses.replace(RECIPE, epochs=5)).fit(kept)
    assert kept.losses == [True, True, False, True, False]


@pytest.mark.parametrize(
    ("precision", "ratio", "told"), [("bfloat16", 9, 1), ("bfloat16", 0.5, 0), ("float32", 9, 0)]
)
def test_a_cpu_that_is_slow_in_bfloat16_is_told(precision, ratio, told, monkeypatch):
    monkeypatch.setattr(precisions, "_seconds", lambda dtype: ratio if dtype == torch.bfloat16 else 1)
    found = precisions.notices_of_precision(Recipe(precision=precision))
    assert len(found) == told and all("9.0 times as long" in each for each in found)


def test_products_take_time():
    assert 0 < precisions._seconds(torch.float32) < 60


def test_a_loss_that_is_no_number_ends_the_run(sentiment_data, tmp_path):
    class Broken(Sentiment):
        def loss(self, model, examples, recipe):
            return super().loss(model, examples, recipe) * float("nan")

    run = make_run(sentiment_data, tmp_path / "run", Broken())
    with pytest.raises(CommandError, match="the loss became nan in epoch 1, at step 1; a lower --set rate"):
        run.fit()
    assert all(parameter.isfinite().all() for parameter in run.model.parameters())


@pytest.mark.parametrize(
    "arguments, told",
    [
        (("train", "cooking", "--data", "x", "--out", "o"), "there is no task 'cooking'"),
        (("train", "sentiment", "--data", "x.tsv", "--out", "o"), "no such file"),
        (
            ("train", "sentiment", "--data", "x", "--out", "o", "--set", "size=3"),
            "--set size=3: expected NAME",
        ),
        (("train", "sentiment", "--data", "x", "--out", "o", "--set", "width=a"), "'a' is no int"),
        (("train", "sentiment", "--data", "x", "--out", "o", "--set", "width=0"), "width: at least 1"),
        (("train", "sentiment", "--data", "x", "--out", "o", "--fold", "3/3"), "--fold 3/3"),
        (("train", "sentiment", "--data", "x", "--out", "o", "--columns", "text"), "expected two names"),
        (
            ("train", "generation", "--data", "x", "--out", "o", "--fold", "0/2"),
            "--fold: generation has no",
        ),
        (
            ("train", "translation", "--data", "x", "--out", "o", "--set", "lowercase=perhaps"),
            "'perhaps' is no bool",
        ),
        (("train", "generation", "--data", "x", "--out", "o", "--skip-bad"), "--skip-bad: generation has no"),
        (("run", "nothing", "a text"), "there is no folder 'nothing', and no task of that name; models of"),
        (("run", ".", "a text"), ".: holds no model of a task"),
    ],
)
def test_mistakes_are_told(arguments, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command(*arguments) == 1
    err = capsys.readouterr().err
    assert told in err and err.startswith("sightline: ") and err.count("\n") == 1


def test_a_model_of_another_task_is_refused(sentiment_data, tmp_path, monkeypatch):
    out = tmp_path / "model"
    options = ["--set", "epochs=1"]
    assert command("train", "sentiment", "--data", sentiment_data, "--out", out, *SMALL, *options) == 0
    with pytest.raises(Exception, match="is a model of sentiment, not of translation"):
        pipeline("translation", out)
    with pytest.raises(Exception, match="input 1 is empty"):
        pipeline("sentiment", out)(["fine", " "])
    monkeypatch.setattr("sightline.tasks.box._BOX", tmp_path / "none")
    with pytest.raises(Exception, match="no models came with this Sightline: it was built from the source"):
        pipeline("sentiment")
    monkeypatch.setattr("sightline.tasks.box._BOX", tmp_path)
    (tmp_path / "sentiment").symlink_to(out)
    assert pipeline("sentiment")("fine")[0]["label"] in ("pos", "neg")
