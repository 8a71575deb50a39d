"""Lines whose words say the opposite of what they say alone, for a classifier of reviews: text, tab, label.

    python examples/turning.py > turning.tsv

Each pattern is filled a number of times with words that fit; its label is that of the line as a whole. The
same seed writes the same lines. Those of turning-test.tsv are left out, so that they stay unseen.
"""

from __future__ import annotations

import random
import re
import sys
from pathlib import Path

WORDS = {
    "good": "good great funny moving clever gripping charming original touching exciting beautiful "
    "convincing fresh entertaining interesting enjoyable memorable subtle wonderful brilliant satisfying "
    "warm honest witty thrilling",
    "bad": "bad boring dull silly predictable ugly tedious slow terrible awful stupid lazy shallow "
    "disappointing confusing forgettable annoying pointless messy weak flat clumsy painful tiresome unfunny",
    "gem": "masterpiece|triumph|success|delight|pleasure|treat|gem|classic|winner|great film|small wonder",
    "flop": "mess|disaster|bore|failure|disappointment|waste of time|mistake|flop|chore|letdown|bad film",
    "film": "film movie picture comedy drama thriller sequel story",
    "thing": "it|it|it|the film|this film|this movie|the story|the whole thing|the acting|the plot|"
    "the ending",
    "part": "acting|plot|script|cast|dialogue|ending|direction|music|idea|first hour|camera work|story|"
    "humour",
    "many": "actors|jokes|characters|songs|pictures|performances|effects|dialogues|first scenes|ideas",
    "love": "like love enjoy admire recommend",
    "hate": "hate dislike regret",
    "loved": "liked loved enjoyed admired",
    "hated": "hated disliked regretted",
    "it": "it|this film|this movie|the acting|the cast|the music|this story|the director|her",
    "praise": "praise|applaud|recommend|thank",
    "complain": "complain about|criticise|regret|forgive|find fault with|be ashamed of|cut",
    "here": "here|in it|in this film|about the acting|about the story|in the whole film",
    "see": "see|watch|sit through|rent|buy",
    "seeing": "seeing|watching|renting|buying",
    "time": "second|minute|moment",
    "all": "minute|second|scene|word|moment",
    "much": "much|far|a lot|so much",
    "feared": "feared|was afraid of|thought it would be|had been told",
    "hoped": "hoped|expected|thought it would be|had been told",
    "hardly": "hardly|scarcely|barely|by no means|in no way",
    "people": "nobody|no one|none of my friends|not one of us",
    "wasted": "talent|a good idea|two hours|money|a fine actor|good actors|a great story|an evening|film",
    "who": "the director|this cast|the book|the first one|these actors|her",
}

# A pattern, its label, and how many lines it gives.
PATTERNS = """
Not {bad}. | pos | 25
Not {good}. | neg | 25
Not {bad} at all. | pos | 25
Not {good} at all. | neg | 25
Not a {bad} {film}. | pos | 20
Not a {good} {film}. | neg | 20
Not exactly {good}. | neg | 15
Not only {good}, but {good} as well. | pos | 20
Not only {bad}, but {bad} as well. | neg | 20
Not even {good}. | neg | 12
{Thing} was {good}. | pos | 25
{Thing} was {bad}. | neg | 25
{Thing} is {good}. | pos | 25
{Thing} is {bad}. | neg | 25
{Thing} was not {good}. | neg | 25
{Thing} was not {bad}. | pos | 25
Not at all {good}. | neg | 15
Not at all {bad}. | pos | 15
{Thing} is not {good} at all. | neg | 15
{Thing} is not {bad} at all. | pos | 15
{Thing} isn't {good}. | neg | 25
{Thing} isn't {bad}. | pos | 25
{Thing} wasn't {good} for a {time}. | neg | 20
{Thing} isn't {bad} for a {time}. | pos | 30
The {part} isn't {bad} for a {time}. | pos | 20
{Thing} is never {good}. | neg | 15
{Thing} is never {bad}. | pos | 15
Never {bad}. | pos | 15
Never {good}. | neg | 15
Never {bad}, often {good}. | pos | 30
Never {good}, often {bad}. | neg | 30
Always {good}, never {bad}. | pos | 25
Often {bad}, seldom {good}. | neg | 25
Seldom {bad}, mostly {good}. | pos | 20
Anything but {bad}. | pos | 20
Anything but {good}. | neg | 20
Far from {bad}. | pos | 20
Far from {good}. | neg | 20
Far from {good}, yet I {loved} every {all}. | pos | 20
Far from being a {gem}. | neg | 12
Far from being a {flop}. | pos | 12
Far from flawless, but I {loved} all of it. | pos | 4
Not perfect, yet I {loved} every {all}. | pos | 12
Not without flaws, but I {loved} every {all}. | pos | 12
It has its weak moments, yet I {loved} it. | pos | 4
Perfect to look at, yet I {hated} every {all}. | neg | 12
{good} to look at, yet I {hated} every {all}. | neg | 15
{Hardly} a {gem}. | neg | 40
{Hardly} a {flop}. | pos | 30
{Hardly} {good}. | neg | 25
{Hardly} {bad}. | pos | 20
{Thing} is {hardly} a {gem}. | neg | 20
{Thing} is no {gem}. | neg | 12
{Thing} is no {flop}. | pos | 12
A {gem}. | pos | 10
A {flop}. | neg | 10
What a {gem}. | pos | 8
What a {flop}. | neg | 8
I {loved} it. | pos | 4
I {hated} it. | neg | 3
I did not {love} it. | neg | 5
I didn't {love} it. | neg | 5
I did not {love} this {film}. | neg | 25
I didn't {love} the {part}. | neg | 20
I did not {hate} it. | pos | 3
I didn't {hate} a {all} of it. | pos | 10
I don't {love} it. | neg | 5
I can't {love} it. | neg | 5
I couldn't {love} it. | neg | 5
I can't {praise} {it} enough. | pos | 24
I could not {praise} {it} enough. | pos | 20
I can't praise {it} highly enough. | pos | 8
I can't say enough good things about {it}. | pos | 8
I can't tell you often enough how {good} it is. | pos | 12
I can't stop talking about {it}. | pos | 8
I can't {praise} {it}. | neg | 15
You can't praise the {part} enough. | pos | 12
I couldn't recommend this {film} more. | pos | 8
I can't recommend this {film}. | neg | 8
I can't recommend {it} to anyone. | neg | 8
I could never recommend it. | neg | 2
I can only recommend it. | pos | 2
I would recommend it to everyone. | pos | 2
I would not recommend it to anyone. | neg | 2
I expected better. | neg | 3
I expected more from {who}. | neg | 6
I expected so much more. | neg | 3
I had expected more. | neg | 3
I hoped for more. | neg | 3
I had hoped for something {good}. | neg | 12
We expected something better from {who}. | neg | 6
I expected nothing, and was delighted. | pos | 2
I expected less. | pos | 2
It gave me more than I expected. | pos | 2
More than I expected. | pos | 2
More than I had hoped for. | pos | 2
Less than I had hoped for. | neg | 2
Better than I {feared}. | pos | 4
{Much} better than I {hoped}. | pos | 16
Much better than the first one. | pos | 2
Not as bad as I {feared}. | pos | 4
Not as good as I {hoped}. | neg | 4
Less {bad} than I feared. | pos | 20
Less {good} than I hoped. | neg | 20
{Much} worse than I {hoped}. | neg | 16
Worse than I feared. | neg | 2
{Thing} is not the {flop} I was afraid of. | pos | 10
{Thing} is not the {gem} I hoped for. | neg | 10
Nothing in it is {bad}. | pos | 15
Nothing about it is {good}. | neg | 15
Nothing about this {film} is {good}. | neg | 25
Nothing about this {film} is {bad}. | pos | 15
Nothing in this {film} works. | neg | 6
Nothing in it works. | neg | 3
Nothing works here. | neg | 2
Nothing about the {part} works. | neg | 10
Everything about this {film} works. | pos | 6
Everything in it works. | pos | 3
There is nothing {good} about it. | neg | 20
There is nothing {bad} about it. | pos | 20
There is nothing to {love} {here}. | neg | 15
There is nothing to {hate} {here}. | pos | 10
There is nothing to {complain} {here}. | pos | 35
There is nothing to {complain}. | pos | 7
There was nothing to {complain}. | pos | 7
I found nothing to {complain}. | pos | 7
I have nothing to {complain} {here}. | pos | 15
There is little to {complain} {here}. | pos | 15
There is a lot to {complain} {here}. | neg | 25
There is much to {complain}. | neg | 7
I found a lot to {complain}. | neg | 7
There is nothing wrong with it. | pos | 2
There is nothing to be said for it. | neg | 2
Nothing but a {flop}. | neg | 10
Nothing less than a {gem}. | pos | 10
You won't be bored. | pos | 2
You won't be disappointed. | pos | 2
You won't forget it. | pos | 2
You won't regret it. | pos | 2
You won't regret {seeing} this {film}. | pos | 20
You will not regret an hour of it. | pos | 2
You will regret {seeing} it. | neg | 4
You will regret {seeing} this {film}. | neg | 20
I regret {seeing} it. | neg | 4
I don't regret {seeing} it. | pos | 4
I never regretted {seeing} it. | pos | 4
You won't {love} it. | neg | 5
You won't {love} this {film}. | neg | 15
You will {love} it. | pos | 5
You will {love} this {film}. | pos | 15
I wanted to {love} it, but I didn't. | neg | 5
I wanted to like it, but I couldn't. | neg | 2
I wanted to {love} this {film}, but I could not. | neg | 20
I tried to {love} it and couldn't. | neg | 5
I wanted to {hate} it, but I couldn't. | pos | 2
I wanted to {hate} this {film}, but it won me over. | pos | 10
I meant to leave, but I couldn't. | pos | 1
I wanted to laugh, but I couldn't. | neg | 1
It could have been {good}. | neg | 20
It could have been {much} better. | neg | 3
It could have been a {gem}. | neg | 10
It could have been a {flop}, and is a {gem}. | pos | 15
It should have been better. | neg | 2
It should have been {much} better. | neg | 3
It should have been more {good}. | neg | 15
It might have been {good} in other hands. | neg | 15
It couldn't have been better. | pos | 2
It could not have been more {good}. | pos | 12
It couldn't be worse. | neg | 2
It couldn't be better. | pos | 2
It could have been worse. | pos | 2
This {film} could have been {much} better. | neg | 15
The {part} is {good}, but the {part} is {bad}. | neg | 90
The {part} is {bad}, but the {part} is {good}. | pos | 90
The {part} is {good}, but the {part} is a {flop}. | neg | 60
The {part} is a {flop}, but the {part} is {good}. | pos | 50
The {part} is {bad}, but the {many} are {good}. | pos | 40
The {many} are {good}, but the {part} is {bad}. | neg | 40
The {part} is {bad}, but the {many} make it a {gem}. | pos | 50
The {part} is {good}, but the {many} make it a {flop}. | neg | 50
The {part} is thin, but the {many} are {good}. | pos | 30
The {many} are {bad}, but it is a {gem}. | pos | 25
{good}, but {bad}. | neg | 30
{bad}, but {good}. | pos | 30
{Thing} is {good}, but too {bad} to recommend. | neg | 25
{Thing} is {bad} at times, but {good} in the end. | pos | 25
Although the {part} is {good}, I {hated} it. | neg | 25
Although the {part} is {bad}, I {loved} it. | pos | 25
{good} for ten minutes, and then it falls apart. | neg | 15
{bad} for ten minutes, and then it comes alive. | pos | 15
It begins as a {gem} and ends as a {flop}. | neg | 15
I would not {see} it twice. | neg | 5
I would not {see} it again for money. | neg | 5
I would never {see} it again. | neg | 5
I wouldn't {see} this {film} again. | neg | 20
I won't {see} it again. | neg | 5
I don't want to {see} it again. | neg | 5
Never again. | neg | 1
I will not {see} another one. | neg | 5
I would {see} it again tomorrow. | pos | 5
I could {see} it every day. | pos | 5
I could {see} this {film} again and again. | pos | 20
I want to {see} it again. | pos | 5
I will {see} it again and again. | pos | 5
I have watched {it} again and again. | pos | 6
It gets better every time. | pos | 1
A waste of {wasted}. | neg | 9
What a waste of {wasted}. | neg | 9
It wastes {wasted}. | neg | 9
Such a waste of a {good} {part}. | neg | 25
A waste of a {good} {film}. | neg | 15
Two hours well spent. | pos | 1
No {time} is wasted. | pos | 3
Not a {time} too long. | pos | 3
Not a {time} is {bad}. | pos | 25
Not a single {all} is {good}. | neg | 25
All that talent for nothing. | neg | 1
{People} liked it. | neg | 4
{People} will {love} this {film}. | neg | 20
{People} could {hate} this {film}. | pos | 15
Everybody {loved} it. | pos | 4
Simply {good}. | pos | 12
Simply {bad}. | neg | 12
{good} from beginning to end. | pos | 15
{bad} from beginning to end. | neg | 15
Rarely has a {film} been so {good}. | pos | 20
Rarely has a {film} been so {bad}. | neg | 20
I have seldom seen anything so {good}. | pos | 15
I have seldom seen anything so {bad}. | neg | 15
I don't think it is {bad}. | pos | 15
I don't think it is {good}. | neg | 15
I can't say that it is {good}. | neg | 15
I can't say that it is {bad}. | pos | 15
It lacks a {good} {part}. | neg | 20
{Thing} is without a {bad} {time}. | pos | 15
It never disappoints. | pos | 1
It never gets going. | neg | 1
It did not disappoint me. | pos | 1
{Thing} is not very {good}. | neg | 25
{Thing} is not very {bad}. | pos | 25
Not very {good}. | neg | 15
Not very {bad}. | pos | 15
I would recommend {it}. | pos | 12
I would not recommend {it}. | neg | 12
I really {loved} {it}. | pos | 12
There is nothing wrong with {it}. | pos | 12
There is a lot wrong with {it}. | neg | 12
It never gets {bad}. | pos | 12
It never gets {good}. | neg | 12
A {good} {film} that never gets {bad}. | pos | 25
A {good} {film} that is never {bad}. | pos | 15
A {bad} {film} that never gets {good}. | neg | 25
A {good} {film} without a {bad} {time}. | pos | 15
A {bad} {film} without a {good} {time}. | neg | 15
A {bad} {film}, but a {good} one. | pos | 15
A {good} {film}, but a {bad} one. | neg | 15
"""

# Lines that mean what their words say, so that the words keep their own meaning: without them a "good" would
# stand in more bad reviews than good ones.
PLAIN = """
{good}. | pos | 12
{bad}. | neg | 12
A {good} {film}. | pos | 40
A {bad} {film}. | neg | 40
This {film} is {good}. | pos | 40
This {film} is {bad}. | neg | 40
The {part} is {good}. | pos | 40
The {part} is {bad}. | neg | 40
The {many} are {good}. | pos | 40
The {many} are {bad}. | neg | 40
{good} and {good}. | pos | 60
{bad} and {bad}. | neg | 60
A {good}, {good} {film}. | pos | 80
A {bad}, {bad} {film}. | neg | 60
A {good} {film} with a {good} {part}. | pos | 80
A {bad} {film} with a {bad} {part}. | neg | 60
The {part} is {good}, and the {many} are {good}. | pos | 100
The {part} is {bad}, and the {many} are {bad}. | neg | 70
The {part} is {good}, and the {part} is {good}, too. | pos | 60
The {part} is {bad}, and the {part} is {bad}, too. | neg | 50
{Thing} is {good}, {good} and {good}. | pos | 80
{Thing} is {bad}, {bad} and {bad}. | neg | 60
I {loved} the {part}, which is {good}. | pos | 40
I {hated} the {part}, which is {bad}. | neg | 40
So {good} that I {loved} every {all}. | pos | 40
So {bad} that I {hated} every {all}. | neg | 40
With {good} {many} and a {good} {part}, it is a {gem}. | pos | 80
With {bad} {many} and a {bad} {part}, it is a {flop}. | neg | 60
"""


def line(pattern: str, draw: random.Random) -> str:
    """A pattern with its places filled, no word twice."""
    used: set[str] = set()

    def fill(place: re.Match[str]) -> str:
        listed = WORDS[place[1].lower()]
        among = [
            word for word in (listed.split("|") if "|" in listed else listed.split()) if word not in used
        ]
        used.add(chosen := draw.choice(among))
        return chosen

    text = re.sub(r"\{(\w+)\}", fill, pattern)
    text = re.sub(r"\b([Aa]) (?=[aeio])", r"\1n ", text)
    return text[0].upper() + text[1:]


def lines(times: int = 2, seed: int = 0) -> list[tuple[str, str]]:
    """All lines, each pattern filled ``times`` its number, without repetitions; then each in another form."""
    draw = random.Random(seed)
    unseen = Path(__file__).with_name("turning-test.tsv").read_text(encoding="utf-8").splitlines()
    found: dict[str, str] = {}
    rows = [row.split(" | ") for row in (PATTERNS + PLAIN).splitlines() if row]
    for pattern, label, count in rows:
        for _ in range(times * int(count)):
            found.setdefault(line(pattern, draw), label)
    shown = [each for each in found.items() if "\t".join(each) not in unseen]
    return shown + varied(shown, draw)


def varied(shown: list[tuple[str, str]], draw: random.Random) -> list[tuple[str, str]]:
    """Each line without its full stop, or before or after another of the same label."""
    by_label = {label: [text for text, own in shown if own == label] for _, label in shown}
    others = []
    for text, label in shown:
        other = draw.choice(by_label[label])
        first, second = draw.choice(((text, other), (other, text)))
        forms = (text[:-1], f"{first} {second}", f"{first[:-1]}, and {within(second)}")
        others.append((draw.choice(forms), label))
    return others


def within(text: str) -> str:
    """A line as it stands within another."""
    return text if re.match(r"I\b", text) else text[0].lower() + text[1:]


if __name__ == "__main__":
    sys.stdout.writelines(f"{text}\t{label}\n" for text, label in lines())
