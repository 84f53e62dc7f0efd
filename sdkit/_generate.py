"""`generate`: one call over a session that is kept for the next one."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdkit._errors import ModelError
from sdkit._record import read
from sdkit._request import DEFAULT_REFINER_START, Request, make_request
from sdkit._result import Generation
from sdkit._run import run
from sdkit._samplers import Sampler
from sdkit._session import Session
from sdkit._spec import Lora, ModelSpec, make_spec

if TYPE_CHECKING:
    from sdkit._backend.stages import Step

_MAX_SESSIONS = 2
_NOTICE = (
    "model=None is `shapes`, a 64-pixel demonstration model of coloured shapes; for real pictures name a"
    ' diffusers folder or a hub id: generate(..., model="stabilityai/stable-diffusion-xl-base-1.0")'
)
_logger = logging.getLogger("sdkit")
_lock = threading.Lock()
# Reading a model takes far longer than a picture. The one that was used longest ago goes first.
_sessions: OrderedDict[tuple[ModelSpec, str | None, str | None, str, str | None], Session] = OrderedDict()
_noticed = False


def generate(
    prompt: str | Iterable[str],
    *,
    model: str | Path | None = None,
    negative_prompt: str | None = None,
    sampler: str | Sampler | None = None,
    schedule: str | None = None,
    steps: int | None = None,
    guidance_scale: float | None = None,
    guidance_interval: tuple[float, float] | None = None,
    seed: int | None = None,
    num_images: int = 1,
    width: int | None = None,
    height: int | None = None,
    image: Any = None,
    strength: float | None = None,
    mask: Any = None,
    image_guidance_scale: float | None = None,
    control_image: Any = None,
    control_scale: float | Sequence[float] = 1.0,
    refiner_start: float = DEFAULT_REFINER_START,
    options: Mapping[str, object] | None = None,
    trajectory: int | None = None,
    batch_size: int = 8,
    revision: str | None = None,
    config: str | Path | None = None,
    prediction_type: str | None = None,
    vae: str | Path | None = None,
    loras: Iterable[str | Path | Lora | tuple[str | Path, float]] = (),
    embeddings: Mapping[str, str | Path] | Iterable[str | Path] = (),
    controlnet: str | Path | Iterable[str | Path] | None = None,
    refiner: str | Path | None = None,
    quantise: str | None = None,
    allow_pickle: bool = False,
    local_files_only: bool = False,
    device: str | None = None,
    dtype: str | None = None,
    memory: str = "auto",
    compile: str | None = None,
    progress: bool | None = None,
    on_step: Callable[[Step], bool | None] | None = None,
) -> Generation:
    """Pictures of one or several prompts, with the seeds and settings that made them.

    Args:
        prompt: one, or a list; the same seed and prompt give the same picture whatever stands beside it.
        model: None or "shapes" for the bundled one, a diffusers folder, a `.safetensors` file, a hub id
            "owner/name", or a file of a hub's repository "owner/name/file.safetensors".
        negative_prompt: what to steer away from; None and "" are none.
        sampler: a name from `sdkit.samplers()`, or what the WebUI, ComfyUI or diffusers call it; None is the
            model's own: dpmpp_2m_karras, or flow_euler for flow models.
        schedule: how the sampler spreads its noise levels: "karras", "exponential", "beta", "sgm_uniform",
            "simple", "align_your_steps"; None is what the sampler's name says, or its default.
        steps: 1..1000; some samplers need 2 or 3. None is the model's default, mostly 20.
        guidance_scale: 1..50, prediction = uncond + g (cond - uncond); 1.0 is off. None is the model's own.
        guidance_interval: noise levels at which guidance is applied, as sigmas, low < high: (0.3, 5). Elsewhere
            the conditional prediction alone is used. None is everywhere; for Stable Diffusion 1, 2 and XL.
        seed: of the first image, 0..2**63-1; image i has `seed + i`. None draws one from the system.
        num_images: for each prompt.
        width: pixels, a multiple of 8 up to 4096; None is the model's own, or `image`'s. `height` likewise.
        image: a picture to start from, or one for each prompt: Pillow image, file, or (H, W, 3) uint8.
        strength: how much of `image` is drawn anew, 0..1; None is 0.8, and 1 with a mask.
        mask: white where `image` is drawn anew, black where it stays.
        image_guidance_scale: InstructPix2Pix: how closely `image` is kept, 1..50; None is 1.5.
        control_image: what the ControlNet reads; one for each ControlNet.
        control_scale: how strongly it is followed, 0..10; one for all, or one for each ControlNet.
        refiner_start: where the refiner takes over, as a share of the noise schedule, 0..1.
        options: further arguments of the pipeline's call, by diffusers' names, such as {"clip_skip": 2}.
        trajectory: keep this many stages of each picture, from pure noise on, at least 2.
        batch_size: images in one denoiser call; changes speed and memory, not the pictures. It is halved when
            memory runs out.
        revision: branch, tag or commit of a hub's repository.
        config: for a single file: the diffusers folder that tells what it is made of; None finds out.
        prediction_type: "epsilon", "v_prediction", "sample": overrules the model's own.
        vae: another VAE: folder, file or hub id.
        loras: files, folders or hub ids, each alone or as (source, weight).
        embeddings: textual inversions: files by token, or a list of files that name their tokens.
        controlnet: one or several folders or hub ids.
        refiner: an SDXL refiner, to draw the last part of the way.
        quantise: "fp8" computes the denoiser's large linear layers in float8, on a GPU that can, with torchao:
            faster, and other pictures, so it changes the fingerprint. None is as the model was trained.
        allow_pickle: read .ckpt, .bin and .pt files too, by torch's weights-only load, which runs no code.
        local_files_only: never ask the hub, only its local cache.
        device: "cpu", "cuda", "cuda:1", "mps"; None is a GPU where there is one.
        dtype: "float32", "float16", "bfloat16"; None is bfloat16 on a GPU that computes in it, float16 on an
            older one, float32 elsewhere.
        memory: "high" keeps all weights on the device; "low" moves them there in turn; "auto" chooses.
        compile: "off"; "fused" (CPU: fewer operations, nothing to wait for); "default" (the denoiser's repeated
            blocks), "freeze" (CPU: all of it, the weights folded in), "max" (GPU: all of it, autotuned), "graphs"
            (GPU: small batches), whose first call takes a minute or more. None and "auto" are what was measured
            to be best for the device. Pictures stay the same to rounding.
        progress: show a bar on standard error; None shows one in a terminal or notebook.
        on_step: called after every step with a `Step`; returning False stops the run with `Cancelled`.
    Returns:
        The pictures as Pillow images, and how they came about.
    Raises:
        InvalidRequest: something is outside its range, or the model cannot do it; before a weight is read.
        ModelError: the model is missing, corrupt, unsafe, unreachable or of another kind.
        GenerationError: NaN, a wholly black picture, too little memory, or stopped.
    Example:
        >>> from sdkit import generate
        >>> made = generate("a small red star", seed=7, device="cpu")
        >>> made.images[0].size, made.steps, made.guidance_scale
        ((64, 64), 20, 2.0)
    """
    spec = make_spec(
        model,
        revision=revision,
        config=config,
        prediction_type=prediction_type,
        vae=vae,
        loras=loras,
        embeddings=embeddings,
        controlnet=controlnet,
        refiner=refiner,
        quantise=quantise,
        allow_pickle=allow_pickle,
        local_files_only=local_files_only,
    )
    request = make_request(
        prompt,
        negative_prompt=negative_prompt,
        sampler=sampler,
        schedule=schedule,
        steps=steps,
        guidance_scale=guidance_scale,
        guidance_interval=guidance_interval,
        seed=seed,
        num_images=num_images,
        width=width,
        height=height,
        image=image,
        strength=strength,
        mask=mask,
        image_guidance_scale=image_guidance_scale,
        control_image=control_image,
        control_scale=control_scale,
        refiner_start=refiner_start,
        options=options,
        trajectory=trajectory,
        batch_size=batch_size,
        spec=spec,
    )
    session = _kept_session(spec, device, dtype, memory, compile)
    if model is None:
        _notice_once()
    return run(session, request, progress=progress, on_step=on_step)


def replay(
    request: Request | str | Path,
    *,
    device: str | None = None,
    memory: str = "auto",
    compile: str | None = None,
    progress: bool | None = None,
    on_step: Callable[[Step], bool | None] | None = None,
) -> Generation:
    """The pictures of a request that `read` gave, made again: the same bytes on the same device and libraries.

    Args:
        request: from `sdkit.read` or `Generation.request`; or the path of a PNG, which is read first.
        device: as in `generate`, and so are `memory`, `compile`, `progress` and `on_step`.
    Raises:
        ModelError: the model's contents are not those that made the picture.
        InvalidRequest: as `read` and `generate`.
    Example:
        >>> import sdkit
        >>> made = sdkit.generate("a red star", steps=4, device="cpu")
        >>> sdkit.replay(made.request, device="cpu").to_tensor().equal(made.to_tensor())
        True
    """
    asked = request if isinstance(request, Request) else read(request)
    session = _kept_session(asked.spec, device, asked.dtype, memory, compile)
    if asked.fingerprint not in (None, session.fingerprint):
        raise ModelError(
            f"model {session.name} must be the one that made the picture, fingerprint {asked.fingerprint}, got"
            f" {session.fingerprint}; name it by read(..., model=)"
        )
    return run(session, asked, progress=progress, on_step=on_step)


def unload() -> int:
    """How many sessions were let go that `generate` had kept for its next call; their memory is free again.

    Example:
        >>> import sdkit
        >>> sdkit.unload() >= 0, sdkit.unload()
        (True, 0)
    """
    import gc
    import sys

    with _lock:
        count = len(_sessions)
        _sessions.clear()
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    return count


def _kept_session(
    spec: ModelSpec, device: str | None, dtype: str | None, memory: str, compile: str | None
) -> Session:
    key = (spec, device, dtype, memory, compile)
    with _lock:
        session = _sessions.pop(key, None) or Session(
            spec, device=device, dtype=dtype, memory=memory, compile=compile
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
