#!/usr/bin/env python3
"""Score the golden sentences with pycocoevalcap, the reference of crates/metrics.

    pip install pycocoevalcap==1.2      (and a Java runtime: its tokenizer is a jar)
    scripts/golden_metrics.py

Reads crates/metrics/tests/golden/sentences.json and writes figures.json beside it: the tokenized text of every
sentence, the corpus scores, and CIDEr-D image by image. All scores are raw (1.0 is what papers print as 100).

Three things about the reference are worth knowing when a golden sentence is added:
  * the tokenizer reads all sentences as one text, so a caption that ends in a single letter and a full stop ("the
    letter P.") depends on how the next caption begins: leave such captions out;
  * mixed fractions and telephone numbers are one token with U+00A0 inside, which BLEU and CIDEr-D split and ROUGE-L
    does not;
  * emoji are dropped by the tokenizer, with a warning on stderr for the first one.
"""
import argparse
import importlib.metadata
import json
import os
import pathlib
import subprocess

# The jar reads its input in the platform's encoding otherwise.
os.environ["JAVA_TOOL_OPTIONS"] = "-Dfile.encoding=UTF-8"

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "crates/metrics/tests/golden"


def tokenized(sentences):
    """{image: [sentence, ...]} through the jar, the way COCOEvalCap calls it."""
    return PTBTokenizer().tokenize({k: [{"caption": s} for s in v] for k, v in sentences.items()})


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=pathlib.Path, default=GOLDEN, help="holds sentences.json (default: %(default)s)")
    folder = parser.parse_args().folder

    examples = json.loads((folder / "sentences.json").read_text(encoding="utf-8"))
    images = [e["image"] for e in examples]
    candidates = tokenized({e["image"]: [e["candidate"]] for e in examples})
    references = tokenized({e["image"]: e["references"] for e in examples})
    for e in examples:
        if len(references[e["image"]]) != len(e["references"]):
            raise SystemExit(f"{e['image']}: the tokenizer lost a line")

    bleu, _ = Bleu(4).compute_score(references, candidates, verbose=0)
    rouge_l, _ = Rouge().compute_score(references, candidates)
    cider_d, cider_d_images = Cider().compute_score(references, candidates)
    java = subprocess.run(["java", "-version"], capture_output=True, text=True, check=True).stderr
    figures = {
        "tool": f"pycocoevalcap {importlib.metadata.version('pycocoevalcap')}",
        "java": next(line for line in java.splitlines() if "version" in line),
        "scores": {
            "n": len(images),
            **{f"bleu{n + 1}": float(score) for n, score in enumerate(bleu)},
            "rouge_l": float(rouge_l),
            "cider_d": float(cider_d),
        },
        "images": [
            {"image": i, "candidate": candidates[i][0], "references": references[i], "cider_d": float(score)}
            for i, score in zip(images, cider_d_images)
        ],
    }
    out = folder / "figures.json"
    out.write_text(json.dumps(figures, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"{out}: {figures['scores']}")


if __name__ == "__main__":
    main()
