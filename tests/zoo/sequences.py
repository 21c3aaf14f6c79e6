"""torch.nn: recurrent layers, attention, Transformers and embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.zoo.case import Family, Use, quiet

RECURRENT = Family("torch.nn: recurrent")
ATTENTION = Family("torch.nn: attention and Transformer")
EMBEDDINGS = Family("torch.nn: embeddings")

_SEQUENCE = (1, 4, 5)
for _rnn in (nn.RNN, nn.GRU, nn.LSTM):
    for _how, _options in {
        "": {},
        ", 2 layers": {"num_layers": 2},
        ", bidirectional": {"bidirectional": True},
        ", 2 layers, dropout, train mode": {"num_layers": 2, "dropout": 0.3},
    }.items():
        RECURRENT.add(
            f"nn.{_rnn.__name__}{_how}",
            lambda rnn=_rnn, options=_options: rnn(5, 4, batch_first=True, **options),
            _SEQUENCE,
            **({"train_mode": True} if "train" in _how else {}),
        )
RECURRENT.add("nn.RNN with ReLU", lambda: nn.RNN(5, 4, nonlinearity="relu"), (4, 1, 5))


def _with_projection(rnn: nn.Module, x: Tensor):
    with quiet("LSTM with projections is not supported with oneDNN"):
        return rnn(x)


RECURRENT.add(
    "nn.LSTM with projection",
    lambda: Use(nn.LSTM(5, 6, proj_size=3), _with_projection),
    (4, 1, 5),
)
RECURRENT.add("nn.LSTM, last hidden state", lambda: nn.LSTM(5, 4), (4, 1, 5), output="1.0")
RECURRENT.add(
    "nn.LSTM with a given state",
    lambda: nn.LSTM(5, 4),
    lambda: (torch.randn(4, 1, 5), (torch.randn(1, 1, 4), torch.randn(1, 1, 4))),
    wrt="input",
)
RECURRENT.add(
    "nn.GRU, wrt the first state",
    lambda: nn.GRU(5, 4),
    lambda: (torch.randn(3, 1, 5), torch.randn(1, 1, 4)),
    wrt="hx",
)


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(5, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, [4, 2], batch_first=True)
        return nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0]


RECURRENT.add("nn.GRU on a packed sequence", Packed, (2, 4, 5))


class Unrolled(nn.Module):
    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for step in x.unbind(1):
            state = self.cell(step, state)
        return state[0] if isinstance(state, tuple) else state


for _cell in (nn.RNNCell, nn.GRUCell, nn.LSTMCell):
    RECURRENT.add(
        f"nn.{_cell.__name__}, unrolled", lambda cell=_cell: Unrolled(cell(5, 4)), _SEQUENCE
    )
RECURRENT.add("nn.LSTMCell", lambda: nn.LSTMCell(5, 4), (1, 5))


def _self_attention(**options):
    def build() -> nn.Module:
        layer = nn.MultiheadAttention(6, 2, batch_first=True)
        return Use(layer, lambda f, x: f(x, x, x, **options))

    return build


_TOKENS = (1, 4, 6)
_CAUSAL = torch.triu(torch.ones(4, 4, dtype=torch.bool), 1)
for _name, _options in {
    "need_weights=True": {"need_weights": True},
    "need_weights=False": {"need_weights": False},
    "causal mask": {"attn_mask": _CAUSAL, "is_causal": True, "need_weights": False},
    "padding mask": {"key_padding_mask": torch.tensor([[False, False, False, True]])},
}.items():
    ATTENTION.add(f"nn.MultiheadAttention, {_name}", _self_attention(**_options), _TOKENS)
ATTENTION.add(
    "nn.MultiheadAttention, its weights", _self_attention(need_weights=True), _TOKENS, output=1
)
ATTENTION.add(
    "nn.MultiheadAttention, other sizes, wrt the key",
    lambda: nn.MultiheadAttention(6, 2, kdim=5, vdim=4, add_bias_kv=True, batch_first=True),
    lambda: (torch.randn(1, 3, 6), torch.randn(1, 4, 5), torch.randn(1, 4, 4)),
    wrt="key",
)
ATTENTION.add(
    "nn.MultiheadAttention, dropout, train mode",
    lambda: Use(
        nn.MultiheadAttention(6, 2, dropout=0.2, batch_first=True), lambda f, x: f(x, x, x)
    ),
    _TOKENS,
    train_mode=True,
)


def _layer(kind: type[nn.Module], **options) -> nn.Module:
    given = {"dropout": 0.0, "batch_first": True, "activation": "gelu", **options}
    return kind(6, 2, 8, **given)


def _encoder(**options) -> nn.Module:
    return nn.TransformerEncoder(_layer(nn.TransformerEncoderLayer, **options), 2)


def _with_memory(layer: nn.Module) -> nn.Module:
    return Use(layer, lambda f, x, memory: f(x, memory), torch.randn(1, 3, 6))


ATTENTION.add("nn.TransformerEncoderLayer", lambda: _layer(nn.TransformerEncoderLayer), _TOKENS)
ATTENTION.add("nn.TransformerEncoder", _encoder, _TOKENS)
ATTENTION.add("nn.TransformerEncoder, ReLU", lambda: _encoder(activation="relu"), _TOKENS)
ATTENTION.add(
    "nn.TransformerEncoder, norm first",
    lambda: nn.TransformerEncoder(
        _layer(nn.TransformerEncoderLayer, norm_first=True), 2, enable_nested_tensor=False
    ),
    _TOKENS,
)
ATTENTION.add("nn.TransformerEncoder, frozen", lambda: _encoder().requires_grad_(False), _TOKENS)
ATTENTION.add(
    "nn.TransformerEncoder, causal",
    lambda: Use(_encoder(), lambda f, x: f(x, mask=_CAUSAL, is_causal=True)),
    _TOKENS,
)
ATTENTION.add(
    "nn.TransformerEncoder, dropout, train mode",
    lambda: _encoder(dropout=0.1),
    _TOKENS,
    train_mode=True,
)
ATTENTION.add(
    "nn.TransformerDecoderLayer",
    lambda: _with_memory(_layer(nn.TransformerDecoderLayer)),
    _TOKENS,
)
ATTENTION.add(
    "nn.TransformerDecoder",
    lambda: _with_memory(nn.TransformerDecoder(_layer(nn.TransformerDecoderLayer), 2)),
    _TOKENS,
)
for _wrt in ("src", "tgt"):
    ATTENTION.add(
        f"nn.Transformer, wrt {_wrt}",
        lambda: nn.Transformer(6, 2, 1, 1, 8, dropout=0.0, batch_first=True),
        lambda: (torch.randn(1, 4, 6), torch.randn(1, 3, 6)),
        wrt=_wrt,
    )


def _ids() -> Tensor:
    return torch.tensor([[3, 1, 4, 1, 5]])


EMBEDDINGS.add("nn.Embedding", lambda: nn.Embedding(9, 4), _ids)
EMBEDDINGS.add(
    "nn.Embedding, then layers",
    lambda: nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(20, 6), nn.Tanh()),
    _ids,
)
EMBEDDINGS.add(
    "nn.Embedding, then LSTM",
    lambda: nn.Sequential(nn.Embedding(9, 4, padding_idx=0), nn.LSTM(4, 3, batch_first=True)),
    _ids,
)


class Positions(nn.Module):
    """Token and position embeddings: the token's is the input, the other a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(9, 4), nn.Embedding(8, 4)
        self.norm, self.head = nn.LayerNorm(4), nn.Linear(4, 9)

    def forward(self, ids: Tensor) -> Tensor:
        places = torch.arange(ids.shape[1])
        return self.head(self.norm(self.tokens(ids) + self.positions(places)))


EMBEDDINGS.add("token and position embeddings", Positions, _ids)
EMBEDDINGS.add("token ids by keyword", Positions, lambda: {"ids": _ids()})
for _mode in ("mean", "sum", "max"):
    EMBEDDINGS.add(
        f"nn.EmbeddingBag, {_mode}",
        lambda mode=_mode: nn.Sequential(
            nn.EmbeddingBag(9, 4, mode=mode), nn.Linear(4, 5), nn.Tanh()
        ),
        _ids,
    )
EMBEDDINGS.add(
    "one-hot rows instead of ids",
    lambda: Use(nn.Embedding(9, 4), lambda f, x: torch.tanh(x @ f.weight)),
    (1, 3, 9),
)

FAMILIES = (RECURRENT, ATTENTION, EMBEDDINGS)
