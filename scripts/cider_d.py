"""CIDEr-D (Vedantam et al. 2015), fast enough to judge while training. What is reported is `captiond-train eval`'s."""

import collections
import math
import re


def words(text):
    """Lower case and without punctuation, nearly as the metric's tokenizer."""
    text = re.sub(r"(\w)'s\b", r"\1 's", text.lower())
    split = (re.sub(r"^[^\w']+|[^\w']+$", "", word) for word in re.split(r"[\s,;:.!?\"()]+", text))
    return [word for word in split if word and word != "'"]


def grams(words, n):
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


class Frequencies:
    """What n-grams of one to four words weigh; `scale_to` says for how many photos, since a corpus has more than a test."""

    def __init__(self, photos, scale_to=1000):
        seen = collections.Counter()
        for references in photos:
            seen.update({gram for sentence in references for n in (1, 2, 3, 4) for gram in grams(sentence, n)})
        self.most, scale = math.log(scale_to), scale_to / len(photos)
        self.weights = {gram: self.most - math.log(max(1.0, n * scale)) for gram, n in seen.items()}

    def vectors(self, sentence):
        """Of the words of a sentence: the weights of its n-grams, for each n, their lengths, and how many pairs of words it has."""
        vectors = [{gram: n_times * self.weights.get(gram, self.most) for gram, n_times in collections.Counter(grams(sentence, n)).items()}
                   for n in (1, 2, 3, 4)]
        return vectors, [math.sqrt(sum(x * x for x in vector.values())) for vector in vectors], max(0, len(sentence) - 1)


def likeness(a, b):
    """CIDEr-D of one sentence beside another, of their vectors."""
    total = 0.0
    for x, y, length in zip(a[0], b[0], (m * n for m, n in zip(a[1], b[1]))):
        if length:
            total += sum(min(value, y[gram]) * y[gram] for gram, value in x.items() if gram in y) / length
    return 10 * total / 4 * math.exp(-((a[2] - b[2]) ** 2) / 72)
