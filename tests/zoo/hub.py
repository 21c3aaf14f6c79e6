"""Language, vision and audio models of transformers, tiny, from a configuration alone."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor, nn

from tests.zoo.case import Family
from tests.zoo.shim import torchvision_without_operators

CASES = Family("transformers", requires="transformers", quick=False)

_VOCABULARY = 20
_SMALL: dict[str, Any] = {
    "vocab_size": _VOCABULARY, "hidden_size": 16, "intermediate_size": 24,
    "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 32,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_GROUPED = {**_SMALL, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4}
_MIXTURE = {**_GROUPED, "num_experts_per_tok": 2, "moe_intermediate_size": 12}
_IMAGE = {k: v for k, v in _SMALL.items() if "token" not in k and "vocab" not in k} | {
    "image_size": 8, "patch_size": 4, "num_channels": 1,
}  # fmt: skip


def _ids() -> dict[str, Tensor]:
    return {"input_ids": torch.randint(3, _VOCABULARY, (1, 5))}


def _pixels(size: int = 8, channels: int = 1):
    return lambda: {"pixel_values": torch.randn(1, channels, size, size)}


def _model(name: str, config: str, **options: Any) -> nn.Module:
    torchvision_without_operators()
    library = importlib.import_module("transformers")
    # The usual 0.02 leaves a tiny network all but linear.
    settings = getattr(library, config)(**{"initializer_range": 0.2, **options})
    model = getattr(library, name)(settings)
    return model.to(torch.get_default_dtype())


def _add(title: str, name: str, config: str, options: dict, inputs: Any = _ids, **rest: Any):
    CASES.add(title, lambda: _model(name, config, **options), inputs, **rest)


_FLOAT32 = {
    "tolerance": 1e-4,
    "why": "computes in float32 inside, also when the network is in float64",
}

_GPT2 = {
    "vocab_size": _VOCABULARY, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 16,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_add("transformers GPT-2", "GPT2LMHeadModel", "GPT2Config", _GPT2, quick=True)
_add("transformers GPT-2, hidden states", "GPT2Model", "GPT2Config",
     {**_GPT2, "output_hidden_states": True}, output="hidden_states.1")  # fmt: skip
for _title, _name, _options in (
    ("Llama, grouped queries", "Llama", _GROUPED),
    ("Qwen3", "Qwen3", _GROUPED),
    ("Gemma 2", "Gemma2", _GROUPED),
    ("Mistral, sliding window", "Mistral", {**_GROUPED, "sliding_window": 3}),
    ("Phi-3", "Phi3", _SMALL),
    ("OLMo 2", "Olmo2", _GROUPED),
    ("Mixtral", "Mixtral", {**_MIXTURE, "num_local_experts": 4}),
    ("Qwen2-MoE", "Qwen2Moe", {
        **_MIXTURE, "num_experts": 4, "shared_expert_intermediate_size": 12,
    }),
    ("DeepSeek-V3", "DeepseekV3", {
        **{k: v for k, v in _MIXTURE.items() if k != "head_dim"}, "num_key_value_heads": 4,
        "n_routed_experts": 4, "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1,
        "kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4,
        "v_head_dim": 4,
    }),
    ("GPT-OSS", "GptOss", {**_MIXTURE, "num_local_experts": 4, "sliding_window": 3}),
):  # fmt: skip
    _add(f"transformers {_title}", f"{_name}ForCausalLM", f"{_name}Config", _options, **_FLOAT32)
for _title, _name, _options in (
    ("GPT-NeoX", "GPTNeoX", _SMALL),
    ("OPT", "OPT", {
        **_SMALL, "ffn_dim": 24, "word_embed_proj_dim": 16, "do_layer_norm_before": True,
    }),
    ("Bloom", "Bloom", {"vocab_size": _VOCABULARY, "hidden_size": 16, "n_layer": 2, "n_head": 2}),
    ("Falcon", "Falcon", _SMALL),
    ("RWKV", "Rwkv", {
        "vocab_size": _VOCABULARY, "hidden_size": 16, "num_hidden_layers": 2,
        "attention_hidden_size": 16, "intermediate_size": 24, "context_length": 8,
        "use_cache": False,  # the cache is written to in place, which no reverse mode survives
    }),
    ("Mamba", "Mamba", {
        "vocab_size": _VOCABULARY, "hidden_size": 8, "num_hidden_layers": 2, "state_size": 4,
    }),
    ("Mamba-2", "Mamba2", {
        "vocab_size": _VOCABULARY, "hidden_size": 8, "num_hidden_layers": 2, "state_size": 4,
        "num_heads": 4, "head_dim": 4, "n_groups": 1, "chunk_size": 4,
    }),
):  # fmt: skip
    _add(f"transformers {_title}", f"{_name}ForCausalLM", f"{_name}Config", _options, **_FLOAT32)

_add("transformers BERT", "BertModel", "BertConfig", _SMALL)
_add("transformers BERT, inputs_embeds", "BertModel", "BertConfig", _SMALL,
     lambda: {"inputs_embeds": torch.randn(1, 5, 16)})  # fmt: skip
_add("transformers BERT, attention mask", "BertForSequenceClassification", "BertConfig", _SMALL,
     lambda: {**_ids(), "attention_mask": torch.tensor([[1, 1, 1, 1, 0]])})  # fmt: skip
_add("transformers RoBERTa", "RobertaModel", "RobertaConfig", {**_SMALL, "pad_token_id": 1})
_add("transformers DistilBERT", "DistilBertModel", "DistilBertConfig", {
    "vocab_size": _VOCABULARY, "dim": 16, "hidden_dim": 24, "n_layers": 2, "n_heads": 2,
})  # fmt: skip
_add("transformers ELECTRA", "ElectraModel", "ElectraConfig", {**_SMALL, "embedding_size": 8})
_add("transformers ALBERT", "AlbertModel", "AlbertConfig", {**_SMALL, "embedding_size": 8})
_add("transformers DeBERTa-v2", "DebertaV2Model", "DebertaV2Config", {
    **_SMALL, "relative_attention": True, "pos_att_type": ["p2c", "c2p"],
})  # fmt: skip
_T5 = {
    "vocab_size": _VOCABULARY, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2,
    "num_heads": 2, "decoder_start_token_id": 0,
}  # fmt: skip
_add("transformers T5 encoder", "T5EncoderModel", "T5Config", _T5, **_FLOAT32)
_add("transformers T5", "T5ForConditionalGeneration", "T5Config", _T5,
     lambda: {**_ids(), "decoder_input_ids": torch.tensor([[0, 5, 7]])},
     wrt="input_ids", **_FLOAT32)  # fmt: skip
_add("transformers BART", "BartModel", "BartConfig", {
    "vocab_size": _VOCABULARY, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24, "max_position_embeddings": 16,
}, wrt="input_ids")  # fmt: skip

_add("transformers ViT", "ViTModel", "ViTConfig", _IMAGE, _pixels())
_add("transformers DINOv2", "Dinov2Model", "Dinov2Config", _IMAGE, _pixels())
_add("transformers CLIP vision", "CLIPVisionModel", "CLIPVisionConfig", _IMAGE, _pixels())
_add("transformers SigLIP vision", "SiglipVisionModel", "SiglipVisionConfig", _IMAGE, _pixels())
_add("transformers Swin", "SwinModel", "SwinConfig", {
    "image_size": 8, "patch_size": 2, "num_channels": 1, "embed_dim": 8, "depths": [2, 1],
    "num_heads": [2, 2], "window_size": 2,
}, _pixels())  # fmt: skip
_add("transformers ConvNeXt", "ConvNextModel", "ConvNextConfig", {
    "num_channels": 1, "patch_size": 2, "hidden_sizes": [4, 8, 8, 8], "depths": [1, 1, 1, 1],
}, _pixels(16), output="pooler_output")  # fmt: skip
_add("transformers ResNet", "ResNetModel", "ResNetConfig", {
    "num_channels": 1, "embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1],
}, _pixels(), output="pooler_output")  # fmt: skip
_add("transformers SegFormer", "SegformerForSemanticSegmentation", "SegformerConfig", {
    "num_channels": 1, "num_encoder_blocks": 2, "depths": [1, 1], "sr_ratios": [2, 1],
    "hidden_sizes": [8, 8], "patch_sizes": [3, 3], "strides": [2, 2],
    "num_attention_heads": [1, 2], "mlp_ratios": [2, 2], "decoder_hidden_size": 8,
    "num_labels": 2,
}, _pixels())  # fmt: skip
_add("transformers Whisper encoder-decoder", "WhisperModel", "WhisperConfig", {
    "vocab_size": _VOCABULARY, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24, "num_mel_bins": 4, "max_source_positions": 6,
    "max_target_positions": 8, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "decoder_start_token_id": 1,
}, lambda: {
    "input_features": torch.randn(1, 4, 12), "decoder_input_ids": torch.tensor([[1, 5, 7]]),
})  # fmt: skip
_add("transformers Wav2Vec2", "Wav2Vec2Model", "Wav2Vec2Config", {
    **_SMALL, "conv_dim": [8, 8], "conv_stride": [4, 2], "conv_kernel": [8, 3],
    "num_feat_extract_layers": 2, "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}, lambda: {"input_values": torch.randn(1, 80)})  # fmt: skip
