"""The sweep as the diffusers documentation shows it: prompt by prompt, nothing of this project.

    python eval/benchmarks/naive.py INPUTS.json OUT

The pipeline is loaded once. For each cell it gets a new scheduler, then each prompt goes through `pipe(prompt,
...).images[0]`, and each picture with its caption through CLIP at once, as torchmetrics' `CLIPScore.update` does it,
which itself fails with transformers 5. At the end of the cell torchmetrics computes FID from the cell's and the
reference's pictures, as in "Evaluating Diffusion Models". The reference's are read once, and encoded in batches; the
denoiser lies in channels-last order, as in the careful script. INPUTS.json and what is written: as in careful.py.
"""

import csv
import json
import sys
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


class Features(torch.nn.Module):
    """The scorer's image tower as the feature extractor of FID: (N, 3, H, W) uint8 to (N, D)."""

    def __init__(self, model: Any, normalise: Any) -> None:
        super().__init__()
        self.model, self.normalise = model, normalise
        self.num_features = int(model.text_projection.shape[-1])

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.model.encode_image(self.normalise(pictures.float().div(255)))
        return features


def to_tensor(pictures: list[Image.Image], device: str) -> torch.Tensor:
    """(N, 3, H, W) uint8."""
    return torch.from_numpy(np.stack([np.asarray(each) for each in pictures])).permute(0, 3, 1, 2).to(device)


def clip_score(
    model: Any, preprocess: Any, tokenizer: Any, picture: Image.Image, prompt: str, device: str
) -> float:
    image = model.encode_image(preprocess(picture).unsqueeze(0).to(device))
    text = model.encode_text(tokenizer([prompt]).to(device))
    return 100 * float(cosine_similarity(image, text))


def run(inputs: dict[str, Any], out: Path) -> list[dict[str, Any]]:
    device = inputs["device"]
    pipe = StableDiffusionPipeline.from_pretrained(
        inputs["pipeline"], dtype=getattr(torch, inputs["dtype"]), safety_checker=None
    ).to(device)
    pipe.unet.to(memory_format=torch.channels_last)
    pipe.set_progress_bar_config(disable=True)
    name = f"local-dir:{inputs['scorer']}"
    model, preprocess = open_clip.create_model_from_pretrained(name, device=device)
    model.eval()
    tokenizer = open_clip.get_tokenizer(name)
    paths = sorted(Path(inputs["reference"]).iterdir())
    real = to_tensor([Image.open(path).convert("RGB") for path in paths], device)
    rows = []
    for sampler, steps, guidance in product(inputs["samplers"], inputs["steps"], inputs["guidances"]):
        kind, options = SCHEDULERS[sampler]
        pipe.scheduler = kind.from_config(pipe.scheduler.config, **options)
        folder = out / f"{sampler}-{steps}-{guidance:g}"
        folder.mkdir(parents=True)
        pictures, scores = [], []
        for index, prompt in enumerate(inputs["prompts"]):
            generator = torch.Generator().manual_seed(inputs["seed"] + index)
            picture = pipe(
                prompt, num_inference_steps=steps, guidance_scale=guidance, generator=generator
            ).images[0]
            picture.save(folder / f"{index:05d}.png")
            scores.append(clip_score(model, preprocess, tokenizer, picture, prompt, device))
            pictures.append(picture)
        fid = FrechetInceptionDistance(feature=Features(model, preprocess.transforms[-1])).to(device)
        for batch in torch.split(real, 256):
            fid.update(batch, real=True)
        fid.update(to_tensor(pictures, device), real=False)
        row = {"sampler": sampler, "steps": steps, "guidance": guidance}
        rows.append({**row, "clip_score": float(np.mean(scores)), "fid": float(fid.compute())})
        print(rows[-1], flush=True)  # noqa: T201
    return rows


def main() -> None:
    inputs, out = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    with torch.no_grad():
        rows = run(inputs, out)
    with (out / "scores.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
