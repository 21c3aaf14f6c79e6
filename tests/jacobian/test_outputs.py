"""Outputs that cannot be measured are refused by what they are."""

import pytest
import torch

from isometry import Jacobian, MeasurementError

X = torch.randn(2, 4)


def _nested(x):
    return torch.nested.as_nested_tensor([x[0], x[1, :2]])


@pytest.mark.parametrize(
    ("f", "words"),
    [
        (torch.Tensor.to_sparse, "a sparse tensor: return a dense one"),
        (torch.Tensor.to_sparse_csr, "a sparse tensor: return a dense one"),
        (lambda x: (x.to_sparse(), x), "a sparse tensor: return a dense one"),
        (_nested, "a nested tensor: return a dense one"),
        (lambda x: x.to("meta"), r"no values \(meta device\): forward must compute where"),
        (lambda x: x.to(torch.float8_e4m3fn), "float8_e4m3fn, too coarse for a derivative"),
        (lambda x: x.argmax(1), "int64, which has no derivative"),
        (lambda x: x > 0, "bool, which has no derivative"),
        (lambda x: torch.fft.fft(x), "complex: only real outputs"),
    ],
)
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype")
def test_an_output_that_is_no_dense_real_tensor_is_refused(f, words):
    with pytest.raises(MeasurementError, match=f"^the output (is|has) {words}") as error:
        Jacobian(f, X)
    assert "\n" not in str(error.value)


def test_another_part_beside_such_an_output_is_measured():
    J = Jacobian(lambda x: (x.to_sparse(), 2 * x), X, output="1")
    assert torch.equal(J.dense(), 2 * torch.eye(8).double())
