"""A sweep in this process with a clock in it: `python -m eval.benchmarks.clocked_sweep CLOCK.json [overrides]`.

Models are clocked where their class is called, so whoever calls them, and whatever is compiled below, is seen; the
replay of a graph is not. Written is a JSON: seconds by label, those of the GPU's events where there is one, those in
which no model ran, and places that were not found.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from eval.benchmarks.clock import REST, WAITING, Clock

MODELS = (
    ("denoiser", "diffusers.models.unets.unet_2d_condition:UNet2DConditionModel.__call__"),
    ("decoder", "diffusers.models.autoencoders.vae:Decoder.__call__"),
    ("text encoder", "transformers.models.clip.modeling_clip:CLIPTextModel.__call__"),
    ("text encoder", "transformers.models.clip.modeling_clip:CLIPTextModelWithProjection.__call__"),
    ("scorer", "open_clip.model:CLIP.encode_image"),
    ("scorer", "open_clip.model:CLIP.encode_text"),
)
"""Third parties' classes alone, so that no engine of ours can pass them by. Other models need their class here."""
WORK = (
    (WAITING, "eval.running.lanes:LanePool.wait"),
    (REST, "eval.running.work:Worker.run"),
    ("loading", "eval.running.bench:open_session"),
    ("loading", "eval.scoring.scorer:load_clip"),
    ("reference pictures", "eval.running.bench:open_reference"),
    ("reference pictures", "eval.scoring.scorer:reference_features"),
    ("scheduler and engine", "sdkit._session:Session.encode"),
    ("scheduler and engine", "sdkit._session:Session.sample"),
    ("scheduler and engine", "sdkit._session:Session.decode"),
    ("scheduler and engine", "eval.running.engine:Engine.make"),
    ("scheduler and engine", "eval.running.engine:Engine.plan"),
    ("PNG and disk", "eval.running.store:RunFolder.prepare"),
    ("PNG and disk", "eval.running.store:RunFolder.write_head"),
    ("PNG and disk", "eval.running.store:RunFolder.open_cell"),
    ("PNG and disk", "eval.running.store:RunFolder.read_cell"),
    ("PNG and disk", "eval.running.store:RunFolder.read_batches"),
    ("PNG and disk", "eval.running.store:RunFolder.read_images"),
    ("PNG and disk", "eval.running.store:RunFolder.write_batch"),
    ("PNG and disk", "eval.running.store:RunFolder.write_record"),
    ("PNG and disk", "eval.running.store:RunFolder.write_cell"),
    ("making ready", "eval.running.bench:prepare"),
    ("scoring's arithmetic", "eval.scoring.scorer:Scorer.look"),
    ("scoring's arithmetic", "eval.running.work:cell_scores"),
    ("scoring's arithmetic", "eval.running.converged:ConvergedRuns.measure"),
    ("report", "eval.report:rebuild"),
)
"""Label -> what is clocked, under the name by which its callers look it up."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sweep and write where its seconds went; the sweep's exit code."""
    clock = Clock({label for label, _ in MODELS})
    clock.watch_imports()
    path, *overrides = sys.argv[1:] if arguments is None else arguments
    for label, place in MODELS:
        clock.await_import(label, place, on_device=True)
    for label, place in WORK:
        clock.await_import(label, place)
    from eval.sweep import main as sweep

    code = sweep(overrides)
    gpu_s, seconds = clock.gpu_seconds(), clock.stop()
    found = {"gpu_s": gpu_s, "seconds": seconds, "quiet_s": clock.quiet_s, "missing": clock.missing}
    Path(path).write_text(json.dumps(found), encoding="utf-8")
    return code


if __name__ == "__main__":
    from eval.command import QuickEnd

    end = QuickEnd()  # as the sweep's own
    end.code = main()
    sys.exit(end.code)
