"""Score pictures that anything made: `python eval/score.py images=DIR prompts=FILE reference=DIR [key=value]`.

The same metrics, identities and columns as a sweep's. `reference` is a folder, an .npz of moments, a .txt list,
COCO's .json, or an option of conf/reference; without it nothing is compared with a reference. `metrics=...` and
`prompts.column=...` as in a sweep. Writes scores.csv, images.csv and scores.json. Exit code: 0, or 2 when the
command cannot be met.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # not this script's folder, whose names would shadow others

from omegaconf import DictConfig  # noqa: E402

from eval.command import run_command  # noqa: E402
from eval.config import CONF, ScorePlan, to_score_plan  # noqa: E402
from eval.launches import claim  # noqa: E402

if TYPE_CHECKING:
    from torch import Tensor

    from eval.records import PromptSet
    from eval.scoring.cell_scores import Seen
    from eval.scoring.scorer import Scorer

_TOGETHER = 256
"""Pictures held in memory at once."""
_KINDS = {".npz": "moments", ".txt": "list", ".json": "coco"}


def score(composed: DictConfig) -> int:
    """Score the pictures and print the table; the exit code."""
    from eval.reporting.scored import scores_text, write_scored
    from eval.running.progress import counting
    from eval.scoring.cell_scores import cell_scores, gather
    from eval.scoring.pairing import pair

    plan = to_score_plan(composed)
    claim(Path(plan.folder))
    pairing = pair(Path(plan.images).expanduser(), plan.source)
    scorer = _scorer(plan, pairing.prompts, pairing.files)
    with counting("pictures", len(pairing.files)) as bar:
        seen = gather(list(_look(scorer, pairing.files, bar.update)))
    scored = cell_scores(seen, scorer.rules)
    folder = write_scored(plan, pairing, seen, scored)
    sys.stdout.write(f"{scores_text(scored.scores)}\n\n")
    for line in (*pairing.notes, *pairing.prompts.notes, *scorer.notes):
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(f"scores: {os.path.relpath(folder) if folder.is_relative_to(Path.cwd()) else folder}\n")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Compose the configuration from `arguments`, by default the command line's, and score; the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    return run_command(score, "score", spelled_out(given), CONF)


def spelled_out(arguments: Sequence[str]) -> list[str]:
    """`prompts=FILE` and `reference=PLACE` as the options and paths that Hydra reads."""
    found: list[str] = []
    for argument in arguments:
        group, _, place = argument.partition("=")
        if group not in ("prompts", "reference") or not place or (CONF / group / f"{place}.yaml").is_file():
            found.append(argument)
            continue
        kind = "file" if group == "prompts" else _KINDS.get(Path(place).suffix.lower(), "folder")
        found += [f"{group}={kind}", f"{group}.path='{_quoted(place)}'"]
    return found


def _quoted(text: str) -> str:
    """For between single quotes of Hydra's: a quote, and backslashes that stand before one, are escaped."""
    return re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), text)


def _scorer(plan: ScorePlan, prompts: PromptSet, files: Sequence[Path]) -> Scorer:
    from eval.scoring.pictures import read_picture
    from eval.scoring.reference_cache import ReferenceCache
    from eval.scoring.references import open_reference
    from eval.scoring.scorer import load_scorer

    first = read_picture(files[0])
    return load_scorer(
        plan.metrics,
        prompts,
        open_reference(plan.reference),
        device=plan.device,
        size_px=(int(first.shape[-1]), int(first.shape[-2])),
        cache=ReferenceCache.at(plan.reference.cache),
    )


def _look(scorer: Scorer, files: Sequence[Path], on_batch: Callable[[int], object]) -> Iterator[Seen]:
    """What is seen in the pictures, in order: neighbours of one size together."""
    import torch

    from eval.scoring.pictures import read_picture

    waiting: list[Tensor] = []
    for index, file in enumerate(files):
        picture = read_picture(file)
        if waiting and (picture.shape != waiting[0].shape or len(waiting) == _TOGETHER):
            yield scorer.look(torch.stack(waiting), index - len(waiting))
            on_batch(len(waiting))
            waiting = []
        waiting.append(picture)
    yield scorer.look(torch.stack(waiting), len(files) - len(waiting))
    on_batch(len(waiting))


if __name__ == "__main__":
    # By the name under which a launcher's other process finds it: "__main__" is another module there.
    from importlib import import_module

    sys.exit(import_module("eval.score").main())
