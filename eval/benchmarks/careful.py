"""The sweep as a careful expert writes it by hand today: diffusers, open_clip, torchmetrics, nothing of this project.

    python eval/benchmarks/careful.py INPUTS.json OUT

Everything is loaded once. Prompts are encoded once for the whole grid, the reference once, captions once. A cell is one
pass in large batches with a generator a picture; each picture is encoded once for both scores, since one encoder gives
both, and PNGs are written by a thread while the next batch runs. The denoiser lies in channels-last order, which is
faster on CPUs and GPUs. It is not compiled: on a CPU that takes longer than it saves in a sweep of this size.

INPUTS.json: folders `pipeline`, `scorer` and `reference` (PNGs), `prompts` (one a picture), the grid, `seed` (picture i
has seed + i), `batch`, `device`, `dtype`. Written: OUT/<cell>/<picture>.png and OUT/scores.csv. A script: imported
by nothing, so its libraries stand at the top, as they would.
"""

import csv
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    LMSDiscreteScheduler,
    StableDiffusionPipeline,
)
from PIL import Image
from torch.nn.functional import cosine_similarity
from torchmetrics.image.fid import FrechetInceptionDistance

SCHEDULERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ddim": (DDIMScheduler, {"timestep_spacing": "trailing", "clip_sample": False}),
    "euler_a": (EulerAncestralDiscreteScheduler, {"timestep_spacing": "linspace"}),
    "dpmpp_2m": (DPMSolverMultistepScheduler, {"timestep_spacing": "linspace"}),
    "lms": (LMSDiscreteScheduler, {"timestep_spacing": "linspace"}),
}


class Scorer:
    """A CLIP whose pictures need no resizing: only scaling and normalising are left of its preprocessing."""

    def __init__(self, folder: str, device: str) -> None:
        self.model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}", device=device)
        self.tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
        self.model.eval()
        self.normalise = preprocess.transforms[-1]
        self.device = device

    def images(self, pixels: np.ndarray[Any, Any]) -> torch.Tensor:
        """Features (N, D) of pictures (N, H, W, 3) uint8."""
        inputs = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2).float().div(255)
        features: torch.Tensor = self.model.encode_image(self.normalise(inputs))
        return features

    def texts(self, prompts: list[str]) -> torch.Tensor:
        """Features (N, D) of captions."""
        features: torch.Tensor = self.model.encode_text(self.tokenizer(prompts).to(self.device))
        return features


def load_pipeline(inputs: dict[str, Any]) -> Any:
    pipe = StableDiffusionPipeline.from_pretrained(
        inputs["pipeline"], dtype=getattr(torch, inputs["dtype"]), safety_checker=None
    ).to(inputs["device"])
    pipe.unet.to(memory_format=torch.channels_last)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def fid_of_features(width: int, device: str) -> FrechetInceptionDistance:
    """An FID that is given features, not pictures, and keeps the reference's over all cells."""
    given = torch.nn.Identity()
    given.num_features = width  # type: ignore[assignment]
    return FrechetInceptionDistance(feature=given, reset_real_features=False).to(device)


def reference_pictures(folder: str) -> np.ndarray[Any, Any]:
    """(N, H, W, 3) uint8."""
    return np.stack([np.asarray(Image.open(path).convert("RGB")) for path in sorted(Path(folder).iterdir())])


def run(inputs: dict[str, Any], out: Path) -> list[dict[str, Any]]:
    prompts, size, device = inputs["prompts"], inputs["batch"], inputs["device"]
    pipe, scorer = load_pipeline(inputs), Scorer(inputs["scorer"], device)
    config = pipe.scheduler.config
    embeds, empty = pipe.encode_prompt(prompts, device, 1, True, negative_prompt=[""] * len(prompts))
    captions = scorer.texts(prompts)
    fid = fid_of_features(captions.shape[1], device)
    reference = reference_pictures(inputs["reference"])
    for start in range(0, len(reference), 256):
        fid.update(scorer.images(reference[start : start + 256]), real=True)
    rows, saves = [], []
    with ThreadPoolExecutor(1) as saver:
        for sampler, steps, guidance in product(inputs["samplers"], inputs["steps"], inputs["guidances"]):
            kind, options = SCHEDULERS[sampler]
            pipe.scheduler = kind.from_config(config, **options)
            folder = out / f"{sampler}-{steps}-{guidance:g}"
            folder.mkdir(parents=True)
            fid.reset()
            scores = []
            for start in range(0, len(prompts), size):
                stop = min(start + size, len(prompts))
                pictures = pipe(
                    prompt_embeds=embeds[start:stop],
                    negative_prompt_embeds=empty[start:stop] if guidance > 1 else None,
                    num_inference_steps=steps,
                    guidance_scale=guidance,
                    generator=[torch.Generator().manual_seed(inputs["seed"] + i) for i in range(start, stop)],
                    output_type="np",
                ).images
                pixels = (pictures * 255).round().astype(np.uint8)
                for index, picture in enumerate(pixels, start):
                    saves.append(saver.submit(Image.fromarray(picture).save, folder / f"{index:05d}.png"))
                features = scorer.images(pixels)
                fid.update(features, real=False)
                scores.append(100 * cosine_similarity(features, captions[start:stop]))
            clip_score = float(torch.cat(scores).mean())
            row = {"sampler": sampler, "steps": steps, "guidance": guidance, "clip_score": clip_score}
            rows.append({**row, "fid": float(fid.compute())})
            print(rows[-1], flush=True)  # noqa: T201
    for each in saves:
        each.result()  # raises what the thread could not write
    return rows


def main() -> None:
    inputs, out = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    with torch.inference_mode():
        rows = run(inputs, out)
    with (out / "scores.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
