"""What one checkpoint file holds, told from its header alone: names, shapes, metadata. No torch here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sdkit._errors import ModelError
from sdkit._single_header import Header, read_header

LAYOUTS = Path(__file__).parent / "layouts"
UNET = "model.diffusion_model."
_PIPELINES = {"text": "Pipeline", "inpaint": "InpaintPipeline", "pix2pix": "InstructPix2PixPipeline"}

# Width of the cross attention -> layout, and width of what `label_emb` takes: its kin have another one.
_UNETS = {768: ("sd1", None), 1024: ("sd2", None), 2048: ("sdxl", 2816), 1280: ("sdxl_refiner", 2560)}
# Side that the model was made for, and the smallest one: one cell at the bottom of the denoiser.
_SIZES_PX: Mapping[str, tuple[int, int]] = {
    "sd1": (512, 64), "sd2": (768, 64), "sdxl": (1024, 32), "sdxl_refiner": (1024, 64),
    "sd3": (1024, 16), "flux": (1024, 16),
}  # fmt: skip
_SD2_EPSILON_PX = 512
# FLUX.2, Chroma and FLUX.3 share the name of the blocks with FLUX.1, and little else.
_NOT_FLUX1 = {
    "single_stream_modulation.lin.weight",
    "distilled_guidance_layer.in_proj.bias",
    "early_stream_modulations.image.lin.weight",
}
_PREDICTIONS = {
    "v": "v_prediction", "v_prediction": "v_prediction", "true": "v_prediction",
    "epsilon": "epsilon", "eps": "epsilon", "false": "epsilon",
}  # fmt: skip
# Source: Stability-AI/ModelSpec for prediction_type, ComfyUI for predict_key, kohya-ss/sd-scripts for ss_.
_PREDICTION_NOTES = ("modelspec.prediction_type", "modelspec.predict_key", "ss_v_parameterization")
_ARCHITECTURES = {"stable-diffusion-v2-768-v": "v_prediction", "stable-diffusion-v2-512": "epsilon"}
_EPSILON_UNLESS_SAID = ("sd1", "sdxl", "sdxl_refiner")

# Kind -> tensors' names that tell it, and what is said of it. The first one that fits decides.
_KINDS: tuple[tuple[str, str, str], ...] = (
    ("controlnet", r"^control_model\.|^controlnet_|^input_hint_block\.|^zero_convs\.|^lllite_",
     "a ControlNet; give it as controlnet="),
    ("lora", r"^lora_|^lycoris_|[._]lora[._]?(up|down|A|B|a|b|mid)\b|\.(hada|lokr|oft|boft|glora|dora)_",
     "a LoRA; give it as loras="),
    ("ip_adapter", r"^(image_proj|ip_adapter)\.", "an IP-Adapter, which draws nothing by itself"),
    ("checkpoint", rf"^{re.escape(UNET)}|^(joint_blocks|double_blocks)\.\d", ""),
    ("vae", r"^((first_stage_model|vae)\.)?(decoder|encoder)\.(conv_in|mid\.|up\.|up_blocks\.|mid_block\.)",
     "a VAE; give it as vae="),
    ("embedding", r"^(emb_params|clip_l|clip_g|string_to_param\b.*|<[^>]*>)$",
     "a textual inversion; give it as embeddings="),
    ("denoiser", r"^(down_blocks|up_blocks|transformer_blocks)\.\d",
     "one part of a diffusers folder, its denoiser; give the whole folder as model="),
    ("text_encoder", r"^(text_model\.)?(encoder\.layers|embeddings)\.|^transformer\.resblocks\.",
     "a text encoder alone; give a whole model as model="),
)  # fmt: skip


@dataclass(frozen=True)
class Detected:
    """What a checkpoint file was taken for, and why."""

    layout: str
    """"sd1", "sd2", "sdxl", "sdxl_refiner", "sd3", "flux" or "unknown"."""
    task: str
    """"text", "inpaint" or "pix2pix": what the UNet takes beside the noisy latents."""
    prediction_type: str | None
    """"epsilon" or "v_prediction"; None where nothing tells."""
    evidence: str
    """One sentence that says what decided."""
    default_px: int | None
    """Side of the square that the model was made for; None where nothing tells."""
    min_px: int | None
    """Smallest side."""
    zero_snr: bool = False
    """The last timestep is pure noise (`ztsnr`), for which the betas must be rescaled."""

    @property
    def summary(self) -> str:
        """One line for people."""
        size = "size unknown" if self.default_px is None else f"{self.default_px} px"
        prediction = self.prediction_type or "prediction type unknown"
        return f"{self.layout}, {self.task}, {prediction}, {size}: {self.evidence}"

    def overruled(self, prediction_type: str | None) -> Detected:
        """The same file under another prediction type; None leaves it as it is."""
        if prediction_type in (None, self.prediction_type):
            return self
        evidence = f"{self.evidence}; prediction_type={prediction_type!r} overrules that"
        size = _default_px(self.layout, prediction_type)
        return replace(self, prediction_type=prediction_type, evidence=evidence, default_px=size)


def detect(file: Path, *, allow_pickle: bool = False) -> Detected:
    """What the checkpoint file holds; no weight is read.

    Raises:
        ModelNotFound: no such file.
        ModelCorrupt: cut short, or something else altogether.
        UnsafeModel: a pickle, without `allow_pickle`; or one that would run code.
        ModelError: a LoRA, a VAE, a textual inversion, a ControlNet; the message says where it belongs.
    """
    header = read_header(file, allow_pickle=allow_pickle)
    kind = kind_of(header.shapes)
    said = {name: text for name, _, text in _KINDS}.get(kind)
    if said:
        raise ModelError(f"model file {file} is {said}")
    return _classify(header, file)


def kind_of(names: Iterable[str]) -> str:
    """ "checkpoint", "lora", "controlnet", "vae", "embedding" ..., or "unknown", by the tensors' names."""
    listed = list(names)
    for kind, pattern, _ in _KINDS:
        if any(map(re.compile(pattern).search, listed)):
            return kind
    # Trainers call the one tensor of a textual inversion by its token.
    return "embedding" if len(listed) == 1 and "." not in listed[0] else "unknown"


def layout_folder(detected: Detected) -> Path:
    """The shipped folder of configs for the layout.

    Raises:
        ModelError: there is none.
    """
    folder = LAYOUTS / detected.layout
    if not (folder / "model_index.json").is_file():
        raise ModelError(
            f"a model file of layout {detected.layout} needs config=, a diffusers folder of the same kind of"
            f" model ({detected.evidence})"
        )
    return folder


def pipeline_of(detected: Detected, config_class: str | None = None) -> str:
    """Name of the diffusers class that runs the file.

    Args:
        config_class: what `config=` names in its model_index.json; None is the shipped config's own.
    """
    if config_class is None:
        refiner = "Img2Img" if detected.layout == "sdxl_refiner" else ""
        config_class = f"StableDiffusion{'XL' if detected.layout.startswith('sdxl') else ''}{refiner}Pipeline"
    stem = re.match(r"StableDiffusion(XL)?(?=(Img2Img|Inpaint|InstructPix2Pix)?Pipeline$)", config_class)
    if stem is None or (detected.task == "text" and "Img2Img" in config_class):
        return config_class
    return stem[0] + _PIPELINES[detected.task]


def _classify(header: Header, file: Path) -> Detected:
    shapes = header.shapes
    layout, why = _dit_layout(shapes) or _unet_layout(shapes)
    task = _task(shapes, file)
    if task != "text":
        why = f"{why}, and the UNet's first layer takes more than latents"
    prediction_type, said = _prediction(header, layout, task)
    min_px = _SIZES_PX[layout][1] if layout in _SIZES_PX else None
    return Detected(
        layout=layout,
        task=task,
        prediction_type=prediction_type,
        evidence=f"{why}; {said}" if said else why,
        default_px=_default_px(layout, prediction_type),
        min_px=min_px,
        zero_snr="v_pred" in shapes and "ztsnr" in shapes,
    )


def _dit_layout(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, str] | None:
    """Layout of a transformer that denoises, and what told it; None for a UNet."""
    bare = {name.removeprefix(UNET) for name in shapes}
    if any(name.startswith("joint_blocks.0.") for name in bare):
        return "sd3", "its blocks are named joint_blocks"
    if not any(name.startswith("double_blocks.0.") for name in bare):
        return None
    if kin := _NOT_FLUX1 & bare:
        return "unknown", f"its blocks are named double_blocks, but {min(kin)} is not FLUX.1's"
    return "flux", "its blocks are named double_blocks"


def _unet_layout(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, str]:
    """Layout of a UNet, and what told it."""
    continuous = {"edm_mean", "edm_vpred.sigma_max"} & set(shapes)
    if continuous:
        return "unknown", f"the key {min(continuous)} asks for a continuous noise scale"
    keys = [n for n in shapes if n.startswith(UNET) and n.endswith(".attn2.to_k.weight")]
    if not keys:
        first = min(shapes, default="absent")
        return "unknown", f"no tensor is named as in a known layout; the first is {first}"
    width = _last(shapes, keys[0])
    layout, label = _UNETS.get(width or 0, ("unknown", None))
    why = f"cross attention is {width} wide"
    if layout == "unknown":
        return layout, f"{why}, which no known layout has"
    found = _last(shapes, f"{UNET}label_emb.0.0.weight")
    if found != label:
        return "unknown", f"{why} as in {layout}, but label_emb takes {found} values and not {label}"
    return layout, why


def _task(shapes: Mapping[str, tuple[int, ...]], file: Path) -> str:
    """What the UNet's first layer takes: latents, or also a mask and an image's latents, or only those."""
    first, last = shapes.get(f"{UNET}input_blocks.0.0.weight", ()), shapes.get(f"{UNET}out.2.weight", ())
    if len(first) != 4 or len(last) != 4:
        return "text"
    takes, latent = first[1], last[0]
    tasks = {latent: "text", 2 * latent + 1: "inpaint", 2 * latent: "pix2pix"}
    if takes not in tasks:
        raise ModelError(
            f"model file {file} must have a UNet of {latent} input channels (text), {2 * latent + 1}"
            f" (inpainting) or {2 * latent} (InstructPix2Pix), got {takes}"
        )
    return tasks[takes]


def _prediction(header: Header, layout: str, task: str) -> tuple[str | None, str]:
    """What the UNet predicts, and what told it."""
    if "v_pred" in header.shapes:
        zero = " and ztsnr say" if "ztsnr" in header.shapes else " says"
        return "v_prediction", f"the key v_pred{zero} v_prediction"
    for note in _PREDICTION_NOTES:
        if told := _PREDICTIONS.get(str(header.metadata.get(note, "")).lower()):
            return told, f"the metadata {note} says {told}"
    architecture = header.metadata.get("modelspec.architecture", "")
    if told := _ARCHITECTURES.get(architecture):
        return told, f"the metadata modelspec.architecture says {architecture}"
    if layout == "sd2" and task == "inpaint":
        return "epsilon", "Stable Diffusion 2's inpainting model predicts epsilon"
    if layout == "sd2":
        return None, "nothing in the file tells SD 2 at 768 px (v_prediction) from 512 px (epsilon)"
    return (
        ("epsilon", "nothing in the file says v_prediction") if layout in _EPSILON_UNLESS_SAID else (None, "")
    )


def _last(shapes: Mapping[str, tuple[int, ...]], name: str) -> int | None:
    """The last dimension of a tensor; None where it is absent or a scalar."""
    return next(iter(reversed(shapes.get(name, ()))), None)


def _default_px(layout: str, prediction_type: str | None) -> int | None:
    if layout == "sd2" and prediction_type == "epsilon":
        return _SD2_EPSILON_PX
    return _SIZES_PX[layout][0] if layout in _SIZES_PX else None
