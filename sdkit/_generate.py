"""`generate`: one call over a session that is kept for the next one."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

from sdkit._models import BUNDLED
from sdkit._request import DEFAULT_SAMPLER, make_request
from sdkit._result import Generation
from sdkit._run import run
from sdkit._samplers import Sampler
from sdkit._session import Session

_MAX_SESSIONS = 2
_NOTICE = (
    "model=None is `shapes`, a 64-pixel demonstration model of coloured shapes; for real pictures name a"
    ' diffusers folder or a hub id: generate(..., model="stabilityai/stable-diffusion-xl-base-1.0")'
)
_logger = logging.getLogger("sdkit")
_lock = threading.Lock()
# Reading a model takes far longer than a picture. The one that was used longest ago goes first.
_sessions: OrderedDict[tuple[str, str | None, str | None], Session] = OrderedDict()
_noticed = False


def generate(
    prompt: str | Iterable[str],
    *,
    model: str | Path | None = None,
    negative_prompt: str | None = None,
    sampler: str | Sampler = DEFAULT_SAMPLER,
    steps: int | None = None,
    guidance_scale: float | None = None,
    seed: int | None = None,
    num_images: int = 1,
    width: int | None = None,
    height: int | None = None,
    batch_size: int = 8,
    device: str | None = None,
    dtype: str | None = None,
    local_files_only: bool = False,
    progress: bool = False,
) -> Generation:
    """Pictures of one or several prompts, with the seeds and settings that made them.

    Args:
        prompt: one, or a list; the same seed and prompt give the same picture whatever stands beside it.
        model: None or "shapes" for the bundled one, a diffusers folder, or a hub id "owner/name".
        negative_prompt: what to steer away from; None and "" are none.
        sampler: a name from `sdkit.samplers()`.
        steps: 1..1000; Heun needs 3, PLMS 2. None is the model's default, 20.
        guidance_scale: 1..50, prediction = uncond + g (cond - uncond); 1.0 is off. None is the model's own.
        seed: of the first image, 0..2**63-1; image i has `seed + i`. None draws one from the system.
        num_images: for each prompt.
        width: pixels, a multiple of 8 up to 4096; None is the model's own. `height` likewise.
        batch_size: images in one denoiser call; changes speed and memory, not the pictures.
        device: "cpu", "cuda", "cuda:1", "mps"; None is a GPU where there is one.
        dtype: "float32", "float16", "bfloat16"; None is float16 on a GPU, float32 elsewhere.
        local_files_only: never ask the hub, only its local cache.
        progress: show a bar on standard error.
    Raises:
        InvalidRequest: something is outside its range; raised before a weight is read.
        ModelError: the model is missing, corrupt, unreachable or of another kind.
        GenerationError: NaN, a wholly black picture, or too little memory.
    """
    request = make_request(
        prompt,
        negative_prompt=negative_prompt,
        sampler=sampler,
        steps=steps,
        guidance_scale=guidance_scale,
        seed=seed,
        num_images=num_images,
        width=width,
        height=height,
        batch_size=batch_size,
    )
    session = _kept_session(model, device, dtype, local_files_only=local_files_only)
    if model is None:
        _notice_once()
    return run(session, request, progress=progress)


def _kept_session(
    model: str | Path | None, device: str | None, dtype: str | None, *, local_files_only: bool
) -> Session:
    key = (BUNDLED if model is None else str(model), device, dtype)
    with _lock:
        session = _sessions.pop(key, None) or Session(
            model, device=device, dtype=dtype, local_files_only=local_files_only
        )
        _sessions[key] = session
        while len(_sessions) > _MAX_SESSIONS:
            _sessions.popitem(last=False)
    return session


def _notice_once() -> None:
    global _noticed
    with _lock:
        first, _noticed = not _noticed, True
    if first:
        _logger.warning(_NOTICE)
