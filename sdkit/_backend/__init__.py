"""The only room that knows diffusers: what is loaded, encoded, denoised and decoded, and what its errors become.

backend.py            a loaded model at work
tasks.py              which pipeline class does a task, and what its call takes
loading.py            files to pipelines on a device
single_loading.py     the same for a checkpoint in one file; single_parts.py its parts, clip_vocabulary.py its tokenizer
adapters.py           LoRAs; lora_fit.py whether one fits, lora_keys.py what trainers call a layer
embeddings.py         textual inversions; tensor_files.py reads the files of both
text.py               prompts to embeddings, and where a prompt was cut
latents.py            the first noise, and the way back to pixels
scheduling.py         a scheduler for one run; mends.py what single solvers get wrong
stages.py             a run as it goes: steps, previews, stops
"""
