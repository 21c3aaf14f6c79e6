"""The same numbers on a CUDA device as on the processor, and no trace left on it."""

import random

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from isometry_cli.main import main
from torch import nn

import isometry
from isometry.jacobian import Jacobian
from isometry.measure.exact import exact
from isometry.measure.largest import largest
from isometry.measure.quadrature import quadrature

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


def dense(width=48, depth=6):
    g = torch.Generator().manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(width, width), nn.Tanh()]
        nn.init.orthogonal_(layers[-2].weight, generator=g)
    return nn.Sequential(*layers), torch.randn(1, width, generator=g)


def convolutional():
    g = torch.Generator().manual_seed(1)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(8, 8, 3, padding=1), nn.GELU(), nn.Flatten(), nn.Linear(128, 20)]
    return nn.Sequential(*layers), torch.randn(1, 3, 8, 8, generator=g)


def recurrent():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(12, 16, num_layers=2, batch_first=True)

        def forward(self, x):
            return self.lstm(x)[0]

    return Last(), torch.randn(1, 5, 12, generator=torch.Generator().manual_seed(2))


def attentive():
    block = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, batch_first=True)
    encoder = nn.TransformerEncoder(block, 2)
    return encoder, torch.randn(1, 6, 16, generator=torch.Generator().manual_seed(3))


NETWORKS = [dense, convolutional, recurrent, attentive]


@pytest.fixture(params=NETWORKS, ids=lambda make: make.__name__)
def network(request):
    torch.manual_seed(0)
    return request.param()


def left_on_device():
    """What a measurement could leave behind on a device."""
    b = torch.backends
    return (
        torch.cuda.get_rng_state().numpy().tobytes(),
        torch.get_rng_state().numpy().tobytes(),
        repr(np.random.get_state()),
        random.getstate(),
        b.cuda.matmul.fp32_precision,
        b.cudnn.conv.fp32_precision,
        b.cudnn.rnn.fp32_precision,
        (b.cudnn.enabled, b.cudnn.benchmark, b.cudnn.deterministic),
        (b.cuda.flash_sdp_enabled(), b.cuda.math_sdp_enabled(), b.cuda.cudnn_sdp_enabled()),
        torch.cuda.current_device(),
    )


def test_values_agree_with_the_processor(network):
    model, x = network
    here = exact(Jacobian(model, x, device="cpu")).spectrum
    there = exact(Jacobian(model, x, device="cuda")).spectrum
    np.testing.assert_allclose(
        np.exp(there.log_sigma),
        np.exp(here.log_sigma),
        rtol=0,
        atol=1e-11 * np.exp(here.log_sigma.max()),
    )


def test_products_in_both_directions(network):
    model, x = network
    here, there = Jacobian(model, x, device="cpu"), Jacobian(model.cuda(), x.cuda())
    assert there.device.type == "cuda"
    for a, b in ((here, there), (here.T, there.T)):
        v = torch.randn(a.shape[1], 5, dtype=torch.float64)
        torch.testing.assert_close((b @ v.cuda()).cpu(), a @ v, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("method", ["exact", "quadrature", "product"])
def test_reports_agree(method):
    model, x = dense()
    here = isometry.analyze(model, x, device="cpu", method=method)
    there = isometry.analyze(model, x, device="cuda", method=method)
    assert there.jacobian.device.startswith("cuda")
    assert there.verdict == here.verdict
    assert there.score.value == pytest.approx(here.score.value, rel=1e-8)


def test_auto_takes_the_device_and_says_so():
    report = isometry.analyze(*dense(), device="auto")
    assert report.jacobian.device.startswith("cuda")
    assert any("device: cuda" in note for note in report.notes)


@pytest.mark.parametrize("method", ["exact", "quadrature"])
def test_nothing_is_left_behind(network, method):
    model, x = network
    model, x = model.cuda(), x.cuda()
    model(x)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    places = {k: v.data_ptr() for k, v in model.state_dict().items()}
    traces = left_on_device()
    isometry.analyze(model, x, method=method)
    assert left_on_device() == traces
    for k, v in model.state_dict().items():
        assert v.data_ptr() == places[k]
        assert torch.equal(v, before[k])


def test_memory_is_given_back():
    model, x = dense()
    model, x = model.cuda(), x.cuda()
    isometry.analyze(model, x)
    before = torch.cuda.memory_allocated()
    for _ in range(3):
        isometry.analyze(model, x)
    assert torch.cuda.memory_allocated() == before


def test_tf32_does_not_reach_a_float32_measurement():
    model, x = dense(256, 4)
    reference = isometry.analyze(model, x, device="cpu").spectrum.log_sigma
    matmul = torch.backends.cuda.matmul
    was, matmul.allow_tf32 = matmul.allow_tf32, True
    try:
        single = isometry.analyze(model.cuda(), x.cuda(), dtype="float32").spectrum.log_sigma
        assert matmul.allow_tf32
    finally:
        matmul.allow_tf32 = was
    assert abs(single[0] - reference[0]) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights(dtype):
    model, x = dense()
    model = model.to(dtype)
    here = isometry.analyze(model, x, device="cpu").score.value
    there = isometry.analyze(model.cuda(), x.cuda()).score.value
    assert there == pytest.approx(here, rel=1e-8)


def test_a_wrong_derivative_is_withheld_there_too():
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x

        @staticmethod
        def backward(ctx, grad):
            return grad

    class Doubling(nn.Module):
        def forward(self, x):
            return Wrong.apply(x)

    model, x = dense()
    report = isometry.analyze(nn.Sequential(model, Doubling()).cuda(), x.cuda())
    assert report.verdict.status == "WITHHELD"


def test_an_input_elsewhere_is_brought_over():
    model, x = dense()
    here = isometry.analyze(model, x, device="cpu").score.value
    assert isometry.analyze(model.cuda(), x).score.value == pytest.approx(here, rel=1e-9)


def test_a_default_device_makes_no_difference():
    model, x = dense()
    here = isometry.analyze(model, x, device="cpu").score.value
    torch.set_default_device("cuda")
    try:
        for method in ("exact", "quadrature", "product"):
            found = isometry.analyze(model, x, device="cpu", method=method)
            assert found.jacobian.device == "cpu"
            tolerance = 1e-9 if method != "quadrature" else 0.05
            assert found.score.value == pytest.approx(here, abs=tolerance)
    finally:
        torch.set_default_device(None)


def test_a_device_that_is_not_there():
    with pytest.raises(isometry.InputError, match="there is no cuda:97: 1 CUDA device"):
        isometry.analyze(*dense(), device="cuda:97")


def test_the_same_seed_gives_the_same_numbers():
    model, x = dense(96)
    runs = [
        isometry.analyze(model, x, device="cuda", method="quadrature", probes=16, steps=8, seed=7)
        for _ in range(2)
    ]
    assert runs[0].spectrum == runs[1].spectrum


def test_no_synchronisation_for_every_vector():
    """A step of a block of 8 vectors waits for the device as often as one of 2."""
    model, x = dense(200)
    jacobian = Jacobian(model, x, device="cuda")

    def waits(width):
        import warnings

        from isometry.measure.bidiagonal import Bidiagonalisation

        start = torch.linalg.qr(torch.randn(200, width, dtype=torch.float64, device="cuda"))[0]
        grown = Bidiagonalisation(jacobian, start, 6)
        grown.step()
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                grown.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return len(caught)

    waits(2)
    assert waits(8) == waits(2) <= 8


def test_largest_on_the_device():
    model, x = dense(96)
    here = largest(Jacobian(model, x, device="cpu"), 3).values
    there = largest(Jacobian(model, x, device="cuda"), 3).values
    np.testing.assert_allclose(there, here, rtol=1e-6)


def test_quadrature_reaches_a_large_input():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 7, stride=4), nn.Tanh(), nn.AdaptiveAvgPool2d(8), nn.Flatten()
    )
    jacobian = Jacobian(model.cuda(), torch.randn(1, 3, 224, 224).cuda())
    found = quadrature(jacobian, probes=8, steps=8)
    assert found.spectrum.log_sigma.max() > -20


def test_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, _ = dense()
    torch.save(model.state_dict(), "m.pt")
    (tmp_path / "made.py").write_text(
        "import torch\n"
        "from torch import nn\n\n"
        "def make():\n"
        "    return nn.Sequential(*[m for _ in range(6) for m in (nn.Linear(48, 48), nn.Tanh())])\n"
    )
    arguments = ["analyze", "m.pt", "--model", "made:make", "--device", "cuda", "--json", "-"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code in (0, 1), result.output
    assert '"device": "cuda' in result.output
