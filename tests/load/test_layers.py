"""Whole modules of stock layers come back the same."""

import warnings

import pytest
import torch
from torch import nn

from isometry.errors import RefusedError
from isometry.load import load_model
from isometry.load.names import LAYERS


def _cnn():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d((2, 2)),
        nn.Flatten(),
        nn.Linear(16, 5),
    )
    model(torch.randn(8, 3, 8, 8))  # running statistics away from their start
    return model


def _decoder():
    return nn.Sequential(
        nn.Unflatten(1, (8, 2, 2)),
        nn.ConvTranspose2d(8, 8, 3, stride=2),
        nn.GroupNorm(2, 8),
        nn.Upsample(scale_factor=2, mode="nearest"),
        nn.PixelShuffle(2),
        nn.GELU(approximate="tanh"),
        nn.InstanceNorm2d(2, affine=True),
    )


def _encoder(activation):
    layer = nn.TransformerEncoderLayer(8, 2, 16, activation=activation, batch_first=True)
    return nn.TransformerEncoder(layer, 2)


def _tied():
    layer = nn.Linear(4, 4)
    model = nn.Sequential(layer, nn.Tanh(), layer, nn.Linear(4, 4))
    model[3].weight = layer.weight
    return model


def _nested():
    inner = nn.Sequential(nn.Linear(4, 4), nn.PReLU())
    return nn.Sequential(inner, nn.Identity(), nn.Sequential(nn.LayerNorm(4), nn.RMSNorm(4)))


CASES = {
    "mlp": (lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), (2, 4)),
    "nested": (_nested, (3, 4)),
    "cnn": (_cnn, (2, 3, 8, 8)),
    "decoder": (_decoder, (2, 32)),
    "rnn": (lambda: nn.RNN(3, 4, nonlinearity="relu"), (5, 2, 3)),
    "lstm": (lambda: nn.LSTM(3, 4, 2, bidirectional=True, batch_first=True), (2, 5, 3)),
    "lstm, projected": (lambda: nn.LSTM(3, 4, proj_size=2, bias=False), (5, 2, 3)),
    "gru": (lambda: nn.GRU(3, 4, 2), (5, 2, 3)),
    "transformer, relu": (lambda: _encoder("relu"), (2, 5, 8)),
    "transformer, gelu": (lambda: _encoder("gelu"), (2, 5, 8)),
    "transformer, module": (lambda: _encoder(nn.SiLU()), (2, 5, 8)),
    "tied": (_tied, (2, 4)),
    "parallel": (lambda: nn.DataParallel(nn.Linear(4, 2)), (2, 4)),
}


def _first(output):
    return output[0] if isinstance(output, tuple) else output


@pytest.mark.filterwarnings("ignore:LSTM with projections", "ignore:enable_nested_tensor")
@pytest.mark.parametrize("name", CASES)
def test_a_saved_module_computes_the_same_after_loading(name, save):
    make, shape = CASES[name]
    torch.manual_seed(0)
    model = make().eval()
    loaded = load_model(save(model))
    x = torch.randn(shape)
    assert loaded.kind == "whole module"
    assert torch.equal(_first(loaded.module(x)), _first(model(x)))
    # A change of the rebuilt weights must show: the copy is not a frozen cache.
    with torch.no_grad():
        for parameter in loaded.module.parameters():
            parameter.mul_(1.5)
    assert not torch.equal(_first(loaded.module(x)), _first(model(x)))


@pytest.mark.parametrize("make", [lambda: nn.Embedding(5, 3), lambda: nn.EmbeddingBag(5, 3)])
def test_embeddings_come_back(make, save):
    model = make()
    tokens = torch.tensor([[0, 4, 2]])
    assert torch.equal(load_model(save(model)).module(tokens), model(tokens))


def _an_instance(layer):
    for arguments in [(), (2,), (4, 4), (4, 4, 3), (2, 2, 2), (2, (3, 3)), (8, 2, 16), (4, 9, [3])]:
        try:
            return layer(*arguments)
        except (TypeError, ValueError, AssertionError):
            continue
    inner = nn.TransformerEncoderLayer(8, 2)
    if layer is nn.TransformerDecoder:
        inner = nn.TransformerDecoderLayer(8, 2)
    return layer(inner, 1)


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_every_stock_layer_comes_back_with_its_class_and_state(name, save):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = _an_instance(LAYERS[name])
    loaded = load_model(save(model)).module
    assert type(loaded) is type(model)
    theirs, ours = model.state_dict(), loaded.state_dict()
    assert list(theirs) == list(ours)
    assert all(torch.equal(theirs[key], ours[key]) for key in theirs)
    assert repr(loaded) == repr(model)
    assert set(vars(loaded)) - set(vars(model)) == set()


def test_flags_of_training_and_of_gradients_are_kept(save):
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.3), nn.BatchNorm1d(2))
    model[1].eval()
    model[0].bias.requires_grad_(False)
    loaded = load_model(save(model)).module
    assert [m.training for m in loaded] == [True, False, True]
    assert [p.requires_grad for p in loaded.parameters()] == [True, False, True, True]


def test_buffers_that_are_not_saved_with_the_state_stay_so(save):
    model = nn.Linear(2, 2)
    model.register_buffer("kept", torch.ones(1))
    model.register_buffer("dropped", torch.ones(1), persistent=False)
    loaded = load_model(save(model)).module
    assert list(loaded.state_dict()) == ["weight", "bias", "kept"]
    assert torch.equal(loaded.dropped, torch.ones(1))


def test_tied_modules_and_weights_stay_tied(save):
    loaded = load_model(save(_tied())).module
    assert loaded[0] is loaded[2]
    assert loaded[3].weight is loaded[0].weight
    assert loaded[3].bias is not loaded[0].bias


def test_views_of_one_storage_still_share_it(save):
    storage = torch.arange(6.0)
    model = nn.Identity()
    model.register_buffer("a", storage[:4])
    model.register_buffer("b", storage[2:])
    loaded = load_model(save(model)).module
    loaded.a[3] = 9.0
    assert loaded.b[1] == 9.0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.complex64, torch.uint16])
def test_element_types_are_kept(dtype, save):
    model = nn.Identity()
    model.register_buffer("held", torch.arange(3).to(dtype))
    loaded = load_model(save(model)).module
    assert loaded.held.dtype is dtype
    assert torch.equal(loaded.held, model.held)


def test_plain_attributes_are_kept(save):
    model = nn.Linear(2, 2)
    model.note = {"seen": [1, (2.5, "é"), None, True]}
    model.shape, model.kind, model.place = torch.Size([1, 2]), torch.float16, torch.device("cpu")
    model.mask = torch.ones(2)
    loaded = load_model(save(model)).module
    assert loaded.note == model.note
    assert loaded.shape == model.shape
    assert loaded.kind is torch.float16
    assert loaded.place == torch.device("cpu")
    assert torch.equal(loaded.mask, model.mask)


def test_the_record_names_kind_size_checksum_and_classes(save):
    import hashlib

    path = save(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    loaded = load_model(path)
    assert loaded.size == path.stat().st_size
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [name.rpartition(".")[2] for name in loaded.classes] == ["Sequential", "Linear", "ReLU"]
    assert loaded.notes == ()


def test_a_recurrent_layer_whose_weights_do_not_fit_its_sizes_is_refused(save):
    model = nn.LSTM(3, 4)
    model.hidden_size = 400
    with pytest.raises(RefusedError, match="do not fit its stated sizes"):
        load_model(save(model))


def test_a_recurrent_layer_of_a_billion_layers_is_refused(save):
    model = nn.GRU(3, 4)
    model.num_layers = 10**9
    with pytest.raises(RefusedError, match="sizes that make no sense"):
        load_model(save(model))
