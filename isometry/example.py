"""Inputs that a Hugging Face model can be called with, made up from its config."""

from __future__ import annotations

from typing import Any

import torch

_TOKENS = 16
_SAMPLES = 8000  # half a second of sound


def example_inputs(model: object, *, seed: int = 0) -> dict[str, torch.Tensor] | None:
    """Return keyword arguments for one call of a Hugging Face model, or None for another.

    Parameters
    ----------
    model : object
        Any module; what it takes is read from its ``config`` and ``main_input_name``.
    seed : int
        For the numbers drawn.

    Returns
    -------
    dict or None
        The main input first: ids of shape (1, 16) below the size of the vocabulary, pixels of
        (1, channels, height, width), sound of (1, samples) or (1, bands, frames); then
        ``decoder_input_ids`` and the second modality where the model needs them.
    """
    config, name = getattr(model, "config", None), getattr(model, "main_input_name", None)
    if config is None or not isinstance(name, str) or not hasattr(config, "to_dict"):
        return None
    generator = torch.Generator(device="cpu").manual_seed(seed)
    main = _one(name, config, generator)
    if main is None:
        return None
    inputs = {name: main}
    if getattr(config, "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = _ids(config, generator)
    # A model of text and images that has no place for images among its ids takes both.
    parts = (getattr(config, "text_config", None), getattr(config, "vision_config", None))
    if None not in parts and not hasattr(config, "image_token_id") and name == "input_ids":
        inputs["pixel_values"] = _pixels(config, generator)
    return inputs


def _one(name: str, config: Any, generator: torch.Generator) -> torch.Tensor | None:
    if name == "input_ids":
        return _ids(config, generator)
    if name == "pixel_values":
        return _pixels(config, generator)
    if name in ("input_values", "input_features"):
        return _gaussian(generator, *_sound(name, config))
    return None


def _gaussian(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(1, *shape, generator=generator, device="cpu")


def _ids(config: Any, generator: torch.Generator) -> torch.Tensor:
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    size = int(text.vocab_size)
    most = getattr(text, "max_position_embeddings", None) or _TOKENS
    ids = torch.randint(size, (1, min(_TOKENS, int(most))), generator=generator, device="cpu")
    # Padding is masked or gets no position: another token in its place.
    pad = getattr(text, "pad_token_id", None)
    return torch.where(ids == pad, (ids + 1) % size, ids) if isinstance(pad, int) else ids


def _pixels(config: Any, generator: torch.Generator) -> torch.Tensor:
    vision = getattr(config, "vision_config", None) or config
    size = getattr(vision, "image_size", None) or 224
    if isinstance(size, dict):
        size = (size.get("height", 224), size.get("width", 224))
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    channels = getattr(vision, "num_channels", None) or getattr(vision, "in_channels", None) or 3
    return _gaussian(generator, channels, height, width)


def _sound(name: str, config: Any) -> tuple[int, ...]:
    bands = getattr(config, "num_mel_bins", None)
    if name == "input_values":
        length = getattr(config, "max_length", None)
        return (length, bands) if bands and length else (_SAMPLES,)
    if hasattr(config, "max_source_positions") and bands:  # Whisper: two frames a position
        return bands, 2 * config.max_source_positions
    width = getattr(config, "feature_projection_input_dim", None)
    return 100, width or getattr(config, "input_feat_per_channel", None) or bands or 80
