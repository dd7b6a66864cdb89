"""Transformer blocks on a map of tokens: attention in (shifted) windows, attention over the whole map, and changes of
resolution. Everything here takes and gives tokens as (B, H, W, C).

After Liu et al., "Swin Transformer", ICCV 2021 ([27] of LEMaRT): windows, cyclic shift, a learned bias for every
relative position, patch merging. LEMaRT section 4.4.c adds patch splitting, "the opposite of a Patch Merging layer".

Any size of map runs. A window longer than the map is clamped to it, each axis for itself, and then there is nothing to
shift on that axis. A side that is no multiple of the window is padded, and the padding is no key for a real token.
"""

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd.function import once_differentiable

from harmonylib.errors import HarmonyError

LARGE = 512  # tokens of a window, from which on a CPU better computes its scores twice than keeps them
TILE = 2**20  # scores that are worked on at once: a few such tiles stay in the cache


class WindowAttention(nn.Module):
    """Self-attention in windows of ``window`` x ``window`` tokens, with a bias for every relative position.

    Args:
        dim: channels.
        heads: must divide ``dim``.
        window: side of a window in tokens.
        shifted: move the windows by half their side, so that tokens at the borders of an unshifted block's windows
            meet their neighbours. The map is rolled for that; tokens that are no neighbours stay apart by a mask.

    Raises:
        HarmonyError: ``heads`` does not divide ``dim``.
    """

    def __init__(self, dim: int, heads: int, window: int, shifted: bool = False):
        super().__init__()
        self.heads = check_heads(dim, heads)
        self.window = window
        self.shifted = shifted
        self.qkv = nn.Linear(dim, 3 * dim)
        self.project = nn.Linear(dim, dim)
        self.table = nn.Parameter(torch.empty(heads, 2 * window - 1, 2 * window - 1))  # [query - key + window - 1]
        with torch.no_grad():  # `nn.init.trunc_normal_` as it was: PyTorch now draws other numbers from the same seed
            self.table.uniform_(-1, 1).erfinv_().mul_(0.02 * 2**0.5).clamp_(-2, 2)
        self._strangers = None, None  # of which map, and the mask: pictures mostly come in one size

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C), any H and W."""
        size = x.shape[1:3]
        window = tuple(min(self.window, side) for side in size)
        # Tensors without data are a GPU's where training is counted, or an export traced.
        a_gpus = isinstance(x, FakeTensor) and (torch.is_grad_enabled() or torch.cuda.is_available())
        if window[0] * window[1] >= LARGE and x.device.type == "cpu" and not a_gpus:
            return self.project(self._in_pieces(self.qkv(x)))
        pad = tuple(-side % length for side, length in zip(size, window, strict=True))
        shift = tuple(length // 2 * (self.shifted and length < side) for side, length in zip(size, window, strict=True))
        if any(pad):
            x = F.pad(x, (0, 0, 0, pad[1], 0, pad[0]))
        if any(shift):
            x = x.roll((-shift[0], -shift[1]), dims=(1, 2))
        x = self._attend(x, window, self._hidden(size, window, shift, x.device) if any(pad + shift) else None)
        if any(shift):
            x = x.roll(shift, dims=(1, 2))
        return self.project(x[:, : size[0], : size[1]])

    def _attend(self, x: Tensor, window: tuple[int, int], apart: Tensor | None) -> Tensor:
        batch, height, width, dim = x.shape
        rows, columns = window
        bias = self.bias(rows, columns)  # (heads, N, N)
        if apart is not None:  # windows go into the heads' axis: their masks differ, and so need no copy per picture
            bias = bias.masked_fill(apart, float("-inf")).flatten(0, 1)  # (windows * heads, N, N)
        grid = (height // rows, rows, width // columns, columns)
        qkv = self.qkv(x).view(batch, *grid, 3, self.heads, -1).permute(5, 0, 1, 3, 6, 2, 4, 7)
        query, key, value = qkv.reshape(3, -1, len(bias), rows * columns, dim // self.heads)
        x = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
        x = x.reshape(batch, grid[0], grid[2], self.heads, rows, columns, -1)
        return x.permute(0, 1, 4, 2, 5, 3, 6).reshape(batch, height, width, dim)

    def _hidden(self, *place: object) -> Tensor:
        if self._strangers[0] != place:
            self._strangers = place, strangers(*place)
        return self._strangers[1]

    def _in_pieces(self, qkv: Tensor) -> Tensor:
        """The same without roll, padding and mask: a window that strangers share is cut into what belongs together."""
        down, across = (bands(side, self.window, self.shifted) for side in qkv.shape[1:3])
        strips = [torch.cat([self._piece(qkv, rows, columns) for columns in across], dim=2) for rows in down]
        return torch.cat(strips, dim=1)

    def _piece(self, qkv: Tensor, down: tuple[int, int, int], across: tuple[int, int, int]) -> Tensor:
        """What the windows of one shape see in themselves: (B, count * rows, count * columns, C)."""
        (top, rows, high), (left, columns, wide) = down, across
        part = qkv[:, top : top + high * rows, left : left + wide * columns]
        tokens = part.reshape(-1, high, rows, wide, columns, 3, self.heads, part.shape[-1] // (3 * self.heads))
        tokens = tokens.permute(5, 0, 1, 3, 6, 2, 4, 7)
        query, key, value = tokens.reshape(3, -1, self.heads, rows * columns, tokens.shape[-1])
        x = biased_attention(query, key, value, self.bias(rows, columns).to(query.dtype))
        x = x.reshape(-1, high, wide, self.heads, rows, columns, x.shape[-1]).permute(0, 1, 4, 2, 5, 3, 6)
        return x.reshape(-1, *part.shape[1:3], part.shape[-1] // 3)

    def bias(self, rows: int, columns: int) -> Tensor:
        """(heads, N, N) for windows of N = rows * columns tokens; a clamped window uses the middle of the table.

        The entry for query q and key k is table[q - k + window - 1] on either axis. Sliding views of the table turned
        round hold just that; looking up every pair costs several times as much at a window of 32.
        """
        table = self.table.flip(1, 2)
        for axis, length in ((1, rows), (2, columns)):
            table = table.narrow(axis, self.window - length, 2 * length - 1)
        views = table.unfold(1, rows, 1).unfold(
            2, columns, 1
        )  # (heads, rows, columns, rows, columns), queries reversed
        return views.flip(1, 2).reshape(self.heads, rows * columns, -1)


def strangers(size: torch.Size, window: tuple[int, int], shift: tuple[int, int], device: torch.device) -> Tensor:
    """Which tokens of a window must not see each other: (windows, 1, N, N), True where a key is hidden.

    A roll brings the opposite border of the map into the last windows; padding is a region of its own. Every token
    sees itself, so that no softmax is without keys.
    """
    with torch.inference_mode(False):  # the mask is kept, and may serve training next
        wrapped, beyond = [], []
        for side, length, move in zip(size, window, shift, strict=True):
            whole = side + -side % length
            source = torch.arange(whole, device=device) + move
            wrapped.append((source >= whole).long())
            beyond.append(source % whole >= side)
        region = 2 * wrapped[0][:, None] + wrapped[1]
        region = region.masked_fill(beyond[0][:, None] | beyond[1], 4)  # (H, W), padded
        region = region.unflatten(0, (-1, window[0])).unflatten(2, (-1, window[1])).transpose(1, 2)
        region = region.reshape(-1, 1, window[0] * window[1])  # (windows, 1, N)
        return region[..., :, None] != region[..., None, :]


def bands(side: int, window: int, shifted: bool) -> list[tuple[int, int, int]]:
    """How the windows divide one side of a map: (start, length, count) of the windows of each length.

    Shifted windows begin with half a one. What is left at the end is a shorter window.
    """
    window = min(window, side)
    start = window // 2 * (shifted and window < side)
    count, rest = divmod(side - start, window)
    every = (0, start, 1), (start, window, count), (side - rest, rest, 1)
    return [band for band in every if band[1] * band[2]]


def biased_attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """softmax(query key^T / sqrt(C) + bias) value; (windows, heads, N, C), bias (heads, N, N) of every window."""
    if bias.requires_grad:
        return BiasedAttention.apply(query, key, value, bias)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias[None])


class BiasedAttention(torch.autograd.Function):
    """Attention whose bias learns, without the map of scores.

    PyTorch's fused attention for CPUs has no gradient for a bias; without it, all scores of all windows go through
    memory a dozen times. Backwards, a tile of them is computed again, and its few operations find it in the cache.
    """

    @staticmethod
    def forward(ctx, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        plain = (tensor.detach() for tensor in (query, key, value))
        output = F.scaled_dot_product_attention(*plain, attn_mask=bias.detach()[None])
        ctx.save_for_backward(query, key, value, bias, output)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, ...]:
        query, key, value, bias, output = ctx.saved_tensors
        windows, heads, count, channels = query.shape
        query = query * channels**-0.5
        mean = (grad * output).sum(-1, keepdim=True)  # of a row's gradients, weighted by its attention
        to_query, to_key, to_value, to_bias = (torch.zeros_like(tensor) for tensor in (query, key, value, bias))
        height = max(1, TILE // count)
        scores, slope = query.new_empty(2, height, count)
        for head, top, window in product(range(heads), range(0, count, height), range(windows)):
            at, rows = (window, head), slice(top, top + height)
            own, error = query[at][rows], grad[at][rows]
            weights, slopes = scores[: len(own)], slope[: len(own)]
            torch.addmm(bias[head, rows], own, key[at].T, out=weights)
            torch.softmax(weights, -1, out=weights)
            to_value[at].addmm_(weights.T, error)
            torch.mm(error, value[at].T, out=slopes)
            slopes.sub_(mean[at][rows]).mul_(weights)
            to_bias[head, rows] += slopes
            torch.mm(slopes, key[at], out=to_query[at][rows])
            to_key[at].addmm_(slopes.T, own)
        return to_query.mul_(channels**-0.5), to_key, to_value, to_bias


class GlobalAttention(nn.Module):
    """Self-attention over the whole map, without position bias: fused, memory linear in the number of tokens.

    Raises:
        HarmonyError: ``heads`` does not divide ``dim``.
    """

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = check_heads(dim, heads)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.project = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        tokens = self.qkv(x).flatten(1, 2).unflatten(-1, (3, self.heads, -1))  # (B, N, 3, heads, C / heads)
        query, key, value = tokens.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value)  # (B, heads, N, C / heads)
        return self.project(attended.transpose(1, 2).reshape(x.shape))


class Block(nn.Module):
    """A pre-norm transformer block: x + attention(norm(x)), then x + mlp(norm(x)).

    Args:
        dim: channels.
        attention: from (B, H, W, dim) to the same shape.
        mlp_ratio: hidden channels of the MLP as a multiple of ``dim``.
    """

    def __init__(self, dim: int, attention: nn.Module, mlp_ratio: float = 4.0):
        super().__init__()
        hidden = int(dim * mlp_ratio)
        self.norm1 = nn.LayerNorm(dim)
        self.attention = attention
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchMerging(nn.Module):
    """Half the resolution: 2 x 2 tokens become one, (B, H, W, inputs) -> (B, H / 2, W / 2, outputs); H, W even."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.norm = nn.LayerNorm(4 * inputs)
        self.reduce = nn.Linear(4 * inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(1, (-1, 2)).unflatten(3, (-1, 2)).transpose(2, 3)  # (B, H / 2, W / 2, 2, 2, C)
        return self.reduce(self.norm(x.flatten(3)))


class PatchSplitting(nn.Module):
    """Twice the resolution: a token becomes 2 x 2, (B, H, W, inputs) -> (B, 2 H, 2 W, outputs)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.norm = nn.LayerNorm(inputs)
        self.enlarge = nn.Linear(inputs, 4 * outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enlarge(self.norm(x)).unflatten(-1, (2, 2, -1))  # (B, H, W, 2, 2, outputs)
        return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def check_heads(dim: int, heads: int) -> int:
    """``heads``, if it divides ``dim``. Raises HarmonyError otherwise."""
    if heads < 1 or dim % heads:
        raise HarmonyError(f"attention: {heads} heads do not divide {dim} channels; choose a divisor")
    return heads
