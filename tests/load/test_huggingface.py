"""Hugging Face folders and configs: transformers' own classes, safetensors, nothing else."""

import importlib.metadata
import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from isometry.errors import LoadError, RefusedError
from isometry.example import example_inputs
from isometry.load import Format, huggingface, load_model, sniff
from tests.load.hostile import Calls

_SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "vocab_size": 50,
}
_IMAGE = {"image_size": 32, "patch_size": 8}
_SPECIAL = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
CONFIGS = {
    "GPT2LMHeadModel": {
        "model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 50,
        "n_positions": 16, **_SPECIAL,
    },
    "BertForMaskedLM": {"model_type": "bert", **_SMALL},
    "LlamaForCausalLM": {
        "model_type": "llama", **_SMALL, "num_key_value_heads": 1, "tie_word_embeddings": True,
    },
    "MixtralForCausalLM": {
        "model_type": "mixtral", **_SMALL, "num_key_value_heads": 1, "num_local_experts": 4,
    },
    "T5ForConditionalGeneration": {
        "model_type": "t5", "d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 2,
        "num_heads": 2, "vocab_size": 50,
    },
    "ViTForImageClassification": {"model_type": "vit", **_SMALL, **_IMAGE},
    "ResNetForImageClassification": {
        "model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1],
    },
    "Wav2Vec2Model": {
        "model_type": "wav2vec2", **_SMALL, "conv_dim": [8] * 7, "num_conv_pos_embeddings": 4,
        "num_conv_pos_embedding_groups": 2,
    },
    "WhisperModel": {
        "model_type": "whisper", "d_model": 32, "encoder_layers": 1, "decoder_layers": 1,
        "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48, "vocab_size": 50, "max_source_positions": 20, "num_mel_bins": 8,
        "max_target_positions": 20, "decoder_start_token_id": 1, **_SPECIAL,
    },
    "CLIPModel": {
        "model_type": "clip", "text_config": {**_SMALL, **_SPECIAL},
        "vision_config": {**_SMALL, **_IMAGE},
    },
}  # fmt: skip


def _config(name="GPT2LMHeadModel", **changes):
    return {**CONFIGS[name], "architectures": [name], **changes}


def _built(transformers, name="GPT2LMHeadModel"):
    cls = getattr(transformers, name)
    asked = json.loads(json.dumps(CONFIGS[name]))
    asked.pop("model_type")
    how = {"attn_implementation": "eager", "experts_implementation": "batched_mm"}
    return cls._from_config(cls.config_class(**asked), **how).eval()


@pytest.fixture
def folder(tmp_path):
    def make(config, tensors=None):
        here = tmp_path / "net"
        here.mkdir(exist_ok=True)
        text = config if isinstance(config, str) else json.dumps(config)
        (here / "config.json").write_text(text, encoding="utf-8")
        if tensors is not None:
            save_file(tensors, here / "model.safetensors", {"format": "pt"})
        return here

    return make


@pytest.fixture
def saved(libraries, tmp_path):
    """A model and the folder that its own save_pretrained wrote."""

    def make(name="GPT2LMHeadModel", **options):
        model = _built(libraries[0], name)
        model.save_pretrained(tmp_path / "net", **options)
        return model, tmp_path / "net"

    return make


def _output(model):
    with torch.no_grad():
        return model(**example_inputs(model))[0]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_folder_gives_the_outputs_of_the_model_that_was_saved(name, saved, watched):
    model, path = saved(name)
    before = torch.get_rng_state()
    with watched():
        loaded = load_model(path)
    assert loaded.kind == "Hugging Face model folder"
    assert loaded.notes == ()
    assert loaded.classes[0].endswith(f".{name}")
    assert not loaded.module.training
    assert torch.equal(torch.get_rng_state(), before)
    assert loaded.module.config._attn_implementation == "eager"
    assert torch.equal(_output(loaded.module), _output(model))
    assert loaded.size == sum(
        (path / f).stat().st_size for f in ("config.json", "model.safetensors")
    )


def test_shards_that_an_index_lists_are_read(saved):
    model, path = saved(max_shard_size="20KB")
    assert not (path / "model.safetensors").exists()
    loaded = load_model(path)
    assert torch.equal(_output(loaded.module), _output(model))


def test_weights_of_the_bare_model_fit_the_one_with_a_head(libraries, folder):
    model = _built(libraries[0])
    tensors = {key: value.clone() for key, value in model.transformer.state_dict().items()}
    loaded = load_model(folder(_config(), tensors)).module
    assert torch.equal(_output(loaded), _output(model))
    assert loaded.lm_head.weight is loaded.transformer.wte.weight


def test_weights_in_half_precision_are_converted_with_a_note(libraries, folder):
    model = _built(libraries[0]).bfloat16()
    tensors = {key: value.clone() for key, value in model.transformer.state_dict().items()}
    loaded = load_model(folder(_config(dtype="bfloat16"), tensors))
    assert loaded.notes == ("weights of torch.bfloat16 converted to torch.float32",)
    assert {p.dtype for p in loaded.module.parameters()} == {torch.float32}
    assert torch.equal(loaded.module.transformer.wte.weight, model.transformer.wte.weight.float())


def test_a_model_of_ones_own_takes_the_weights_of_the_folder(folder):
    source, own = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
    loaded = load_model(folder({"model_type": "own"}, source.state_dict()), model=own)
    assert loaded.module is own
    assert loaded.kind == "safetensors"
    assert torch.equal(own.weight, source.weight)


def test_without_weights_they_are_drawn_by_the_seed_and_the_report_says_so(folder, watched):
    path = folder(_config())
    before = torch.get_rng_state()
    with watched():
        one, same, other = (load_model(path, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(_output(one.module), _output(same.module))
    assert not torch.equal(_output(one.module), _output(other.module))
    assert other.notes == ("no weights in the folder: initialised at random (seed 1)",)


def test_a_config_alone_is_a_model_at_its_initialisation(folder, watched):
    path = folder(CONFIGS["GPT2LMHeadModel"]) / "config.json"
    assert sniff(path) is Format.HF_CONFIG
    with watched():
        loaded = load_model(path)
    assert loaded.kind == "Hugging Face config"
    assert loaded.notes == (
        "config.json names no architecture: GPT2Model was taken",
        "a config alone holds no weights: initialised at random (seed 0)",
    )
    with pytest.raises(LoadError, match="a config without weights; give the folder"):
        load_model(path, model=loaded.module)


def test_transformers_is_left_as_it_was(folder, libraries):
    from huggingface_hub import constants
    from transformers.utils import logging

    before = constants.HF_HUB_OFFLINE, logging.get_verbosity(), logging.is_progress_bar_enabled()
    load_model(folder(_config()))
    after = constants.HF_HUB_OFFLINE, logging.get_verbosity(), logging.is_progress_bar_enabled()
    assert after == before


def test_loading_is_silent(saved, capfd):
    _, path = saved()
    capfd.readouterr()
    load_model(path)
    assert capfd.readouterr() == ("", "")


def test_keys_that_choose_code_are_not_read_at_any_depth(folder, watched):
    config = _config(
        "CLIPModel", attn_implementation="org/repo", _attn_implementation_internal="org/repo",
        use_kernels=True,
    )  # fmt: skip
    config["text_config"] = {**config["text_config"], "_attn_implementation": "org/repo"}
    config["vision_config"] = {**config["vision_config"], "experts_implementation": "org/repo"}
    path = folder(config)
    with watched():
        loaded = load_model(path)
    text = loaded.module.config.text_config
    assert loaded.module.config._attn_implementation == text._attn_implementation == "eager"
    assert loaded.notes[0] == (
        "not for a config.json to choose, not read: _attn_implementation, experts_implementation, "
        "attn_implementation, _attn_implementation_internal, use_kernels"
    )


def test_code_in_the_folder_is_refused_and_not_run(folder, canary, watched):
    names = {"AutoConfig": "own.Config", "AutoModel": "own.Model"}
    path = folder(_config(auto_map=names))
    (path / "own.py").write_text(f"import os\nos.system({canary!r})\n")
    words = r"custom code refused: auto_map in config\.json"
    with watched() as events, pytest.raises(RefusedError, match=words) as error:
        load_model(path)
    assert "own.Config" in str(error.value)
    assert "--model pkg.module:factory" in str(error.value)
    assert not [event for event in events if event.endswith("own.py")]


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model.bin.index.json"])
def test_weights_as_a_pickle_are_refused_with_the_way_on(name, folder, watched):
    path = folder(_config())
    (path / name).write_bytes(b"x")
    with (
        watched(),
        pytest.raises(RefusedError, match=rf"net has its weights in {name}, a pickle.*--model"),
    ):
        load_model(path)


def test_pickles_beside_safetensors_are_never_opened(saved, canary, watched):
    _, path = saved()
    for name in ("training_args.bin", "pytorch_model.bin", "optimizer.pt"):
        torch.save(Calls(os.system, canary), path / name)
    with watched() as events:
        load_model(path)
    opened = {event.rpartition("/")[2] for event in events if str(path) in event}
    assert opened == {"config.json", "model.safetensors"}


def test_a_wrapped_timm_model_cannot_name_a_checkpoint(folder, tmp_path, watched):
    evil = tmp_path / "evil.pt"
    config = {
        "model_type": "timm_wrapper", "architectures": ["TimmWrapperModel"],
        "architecture": "resnet10t", "num_classes": 3, "label_names": ["a", "b", "c"],
        "model_args": {"checkpoint_path": str(evil)},
    }  # fmt: skip
    path = folder(config)
    with watched() as events:
        loaded = load_model(path)
    assert "checkpoint_path" in loaded.notes[0]
    assert not [event for event in events if "evil" in event]
    for elsewhere in ("hf-hub:org/net", f"local-dir:{tmp_path}"):
        path = folder({**config, "architecture": elsewhere})
        with watched(), pytest.raises(RefusedError, match=r"architecture in .* names a model else"):
            load_model(path)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (_config(model_type="gpt99"), r"transformers \S+ knows no model_type 'gpt99'; update"),
        ({"model_type": "zoedepth"}, r"names no architecture, .* have no plain one; write the"),
        (_config(architectures=["GPT2Config"]), "has no class 'GPT2Config' among its models"),
        (_config(architectures=["Trainer"]), "has no class 'Trainer' among its models of"),
        (_config(architectures=["os.system"]), r"has no class 'os\.system'"),
        (_config(architectures=[["x"]]), "has no class"),
        (_config(architectures=["__class__"]), "has no class '__class__'"),
        (_config(n_head=5), r"cannot build config\.json as 'gpt2': \w+: .*divisible"),
        (_config(n_embd="wide"), r"cannot build config\.json as 'gpt2': "),
        (_config(activation_function="no"), "cannot build config.json as 'gpt2': KeyError"),
        (_config(quantization_config={"quant_method": "gptq"}), r"quantised \(gptq\)"),
        (_config(n_embd=2**20, n_head=2), r"GPT2LMHeadModel takes \S+ TB in float32, more than h"),
        ('{"model_type": 3}', "has no model_type"),
        ('{"model_type": "gpt2", "n_layer": 1e999}', "cannot build config.json"),
    ],
)  # fmt: skip
def test_a_config_that_makes_no_sense_is_one_line(config, words, folder, watched):
    path = folder(config)
    with watched(), pytest.raises(LoadError, match=words) as error:
        load_model(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_layer": 10**9}, "asks for n_layer = 1000000000; at most 10000"),
        ({"num_labels": 10**9}, "asks for num_labels"),
        ({"backbone_config": {"backbone": "org/net"}}, "names a model elsewhere"),
        ({"parts": [{"auto_map": {"AutoModel": "x.Y"}}]}, "custom code refused"),
    ],
)
def test_a_config_made_to_do_harm_is_refused(changes, words, folder, watched):
    path = folder(_config(**changes))
    with watched(), pytest.raises(RefusedError, match=words):
        load_model(path)


def test_a_config_for_too_many_modules_is_refused(folder, monkeypatch, libraries):
    monkeypatch.setattr(huggingface, "MAX_MODULES", 20)
    with pytest.raises(RefusedError, match="the config asks for more than 20 modules"):
        load_model(folder(_config()))


def test_a_config_that_is_too_long_is_refused(folder):
    path = folder(json.dumps(_config(filler="x" * (5 << 20))))
    with pytest.raises(RefusedError, match=r"config\.json has 5\.2 MB; at most 4\.2 MB"):
        load_model(path)


def test_weights_that_do_not_fit_are_counted_and_the_first_is_named(saved, folder):
    _, path = saved()
    tensors = load_file(path / "model.safetensors")
    bias = tensors.pop("transformer.h.0.ln_1.bias")
    tensors["transformer.ln_f.bias"] = torch.ones(3)
    with pytest.raises(LoadError, match=r"net does not fit the model: weights 1 missing") as error:
        load_model(folder(_config(), tensors))
    assert "(first 'transformer.h.0.ln_1.bias')" in str(error.value)
    assert "'transformer.ln_f.bias': (3,) in the file, (32,) in the model)" in str(error.value)
    tensors |= {"transformer.h.0.ln_1.bias": bias, "transformer.ln_f.bias": bias + 1}
    tensors["head"] = bias + 2
    loaded = load_model(folder(_config(), tensors))
    assert loaded.notes == ("1 tensor of net not used by GPT2LMHeadModel (first 'head')",)


def test_a_missing_or_old_transformers_is_named(folder, monkeypatch):
    path = folder(_config())
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "5.2.1")
    with pytest.raises(RefusedError, match=r"transformers 5\.2\.1 .*CVE-2026-4372.*5\.3 or newer"):
        load_model(path)

    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(
        LoadError, match=r"need transformers: pip install 'isometry\[transformers\]"
    ):
        load_model(path)


@pytest.mark.parametrize("name", ["gpt2", "org/name", "Qwen/Qwen2.5-0.5B"])
def test_a_name_on_the_hub_is_not_fetched(name, tmp_path, monkeypatch, watched):
    monkeypatch.chdir(tmp_path)
    words = "give a local folder: isometry does not download"
    with watched(), pytest.raises(LoadError, match=words):
        load_model(name)


def test_adapters_and_pipelines_are_refused_with_the_way_on(folder):
    path = folder(_config())
    (path / "model_index.json").write_text("{}")
    with pytest.raises(LoadError, match="diffusers pipeline folder: it holds several models"):
        load_model(path)
    (path / "adapter_config.json").write_text("{}")
    with pytest.raises(LoadError, match=r"adapter \(PEFT\) folder: .*merge"):
        load_model(path)


def test_links_of_the_hub_cache_are_followed_and_no_others(saved, tmp_path):
    model, path = saved()
    snapshot, blobs = tmp_path / "models--x" / "snapshots" / "abc", tmp_path / "models--x" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    shutil.copy(path / "config.json", snapshot)
    shutil.copy(path / "model.safetensors", blobs / "1234")
    (snapshot / "model.safetensors").symlink_to("../../blobs/1234")
    assert torch.equal(_output(load_model(snapshot).module), _output(model))
    (snapshot / "model.safetensors").unlink()
    (snapshot / "model.safetensors").symlink_to(path / "model.safetensors")
    with pytest.raises(RefusedError, match="is a link out of its folder"):
        load_model(snapshot)


def test_the_watch_sees_what_it_is_there_for(watched, tmp_path):
    with pytest.raises(AssertionError, match="write"), watched():
        (tmp_path / "x").write_text("x")
    with pytest.raises(AssertionError, match=r"os\.system"), watched():
        os.system("exit")


def test_example_inputs_know_what_they_do_not_know(libraries):
    assert example_inputs(torch.nn.Linear(2, 2)) is None
    model = _built(libraries[0], "BertForMaskedLM")
    first, again, other = (example_inputs(model, seed=s)["input_ids"] for s in (0, 0, 1))
    assert first.shape == (1, 16)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not (first == model.config.pad_token_id).any()


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "ctrl", "n_positions": 100_000_000, "n_embd": 16, "n_layer": 1},
        {"model_type": "distilbert", "sinusoidal_pos_embds": True,
         "max_position_embeddings": 20_000_000, "dim": 768},
    ],
    ids=["ctrl", "distilbert"],
)  # fmt: skip
def test_tables_of_positions_are_bounded_before_they_are_built(tmp_path, libraries, config):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(RefusedError, match=r"asks for a table of .* positions"):
        load_model(tmp_path)
