"""Tiny networks of linear layers, gates and attention, as `test_units` puts them between a stem and a classifier."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

CLASSES, CHANNELS, SIDE, WIDTH = 3, 3, 6, 8
TOKENS = 4


class Tokens(nn.Module):
    """Four patches as tokens [B, 4, 8], what is given, the mean over tokens, logits."""

    def __init__(self, middle: nn.Module) -> None:
        super().__init__()
        self.stem, self.middle, self.head = nn.Conv2d(CHANNELS, WIDTH, 3, 3), middle, nn.Linear(WIDTH, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        return self.head((x + self.middle(x)).mean(1))


class Mlp(nn.Module):
    def __init__(self, act: nn.Module, bias: bool = True, hidden: int = 5, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(WIDTH, hidden, bias=bias), act, nn.Linear(hidden, WIDTH)
        self.norm, self.drop = norm or nn.Identity(), nn.Dropout(0.3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.norm(self.drop(self.act(self.fc1(x)))))


class Normed(nn.Module):
    """LeViT's layer: a batch norm between layer and activation, on [B · T, C]; `turned`: over the tokens instead."""

    def __init__(self, act: nn.Module, turned: bool = False, beside: bool = False) -> None:
        super().__init__()
        self.turned, self.beside = turned, beside
        self.fc1, self.bn, self.act = nn.Linear(WIDTH, 5, bias=False), nn.BatchNorm1d(TOKENS if turned else 5), act
        self.fc2 = nn.Linear(5, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.fc1(x)
        z = self.bn(y) if self.turned else self.bn(y.flatten(0, 1)).reshape_as(y)
        return self.fc2(self.act(z) + (y if self.beside else 0))


class Channels(nn.Module):
    """A layer on [B, H, W, C], as in ConvNeXt and Swin."""

    def __init__(self, middle: nn.Module) -> None:
        super().__init__()
        self.stem, self.middle, self.head = nn.Conv2d(CHANNELS, WIDTH, 3, 3), middle, nn.Linear(WIDTH, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.middle(self.stem(x).permute(0, 2, 3, 1))
        return self.head(x.mean((1, 2)))


class Flat(nn.Module):
    """A layer on [B, C], as in the heads of VGG and MobileNetV3."""

    def __init__(self, middle: nn.Module) -> None:
        super().__init__()
        self.stem, self.middle, self.head = nn.Conv2d(CHANNELS, 2, 3, 3), middle, nn.Linear(WIDTH, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.middle(torch.relu(self.stem(x)).flatten(1)))


class Mixer(nn.Module):
    """A layer over tokens: the units of each lie along what were positions."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(TOKENS, 6), nn.Linear(6, TOKENS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x.transpose(1, 2)))).transpose(1, 2)


class Gated(nn.Module):
    """SwiGLU and its kind: one fused projection or two, with biases or without."""

    def __init__(self, fused: bool, bias: bool = True, act: Callable = F.silu, norm: bool = False) -> None:
        super().__init__()
        self.fused, self.act = fused, act
        if fused:
            self.w12 = nn.Linear(WIDTH, 10, bias=bias)
        else:
            self.w1, self.w2 = nn.Linear(WIDTH, 5, bias=bias), nn.Linear(WIDTH, 5, bias=bias)
        self.norm = nn.LayerNorm(5) if norm else nn.Identity()
        self.w3 = nn.Linear(5, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = self.w12(x).chunk(2, dim=-1) if self.fused else (self.w1(x), self.w2(x))
        return self.w3(self.norm(self.act(a) * b))


class Half(nn.Module):
    """A fused projection of which one half is activated and the other is read as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.both, self.out, self.other = nn.Linear(WIDTH, 8), nn.Linear(3, WIDTH), nn.Linear(5, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = self.both(x).split([5, 3], dim=-1)
        return self.out(F.gelu(b)) + self.other(a)


class Mha(nn.Module):
    """torch's own, tokens first or images first."""

    def __init__(self, batch_first: bool = True, bias: bool = True, weights: bool = False, **options: int) -> None:
        super().__init__()
        self.first, self.weights = batch_first, weights
        self.attn = nn.MultiheadAttention(WIDTH, 2, bias=bias, batch_first=batch_first, **options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x if self.first else x.transpose(0, 1)
        y = self.attn(x, x[:, :3] if self.attn.kdim != WIDTH else x, x, need_weights=self.weights)[0]
        return y if self.first else y.transpose(0, 1)


class Fused(nn.Module):
    """timm's and Swin's qkv; by SDPA or by hand, with a mask; per head (h, 3, d) or (3, h, d); in windows of two."""

    def __init__(
        self, how: str = "sdpa", bias: bool = True, by_head: bool = False, windows: int = 1, out_bias: bool = True
    ) -> None:
        super().__init__()
        self.how, self.by_head, self.windows = how, by_head, windows
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH, bias=bias), nn.Linear(WIDTH, WIDTH, bias=out_bias)
        self.position = nn.Parameter(torch.randn(1, 2, TOKENS // windows, TOKENS // windows))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, t, c = x.shape
        if self.windows > 1:
            x = torch.roll(x, 1, 1).view(b * self.windows, t // self.windows, c)
        n, t, c = x.shape
        parts = self.qkv(x)
        if self.by_head:
            q, k, v = parts.view(n, t, 2, 3, 4).permute(3, 0, 2, 1, 4).unbind(0)
        else:
            q, k, v = parts.reshape(n, t, 3, 2, 4).permute(2, 0, 3, 1, 4)
        if self.how == "sdpa":
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=self.position)
        elif self.how == "einsum":
            weights = (torch.einsum("bhid,bhjd->bhij", q, k) + self.position).softmax(-1)
            y = torch.einsum("b h i j, b h j d -> b h i d", weights, v)
        else:
            weights = F.dropout(((q @ k.transpose(-2, -1)) + self.position).softmax(-1), 0.1, self.training)
            y = weights @ v
        y = self.proj(y.transpose(1, 2).reshape(n, t, c))
        return torch.roll(y.reshape(b, -1, c), -1, 1) if self.windows > 1 else y


class Separate(nn.Module):
    """Own projections; the class token's queries alone, or one shared value head for two heads."""

    def __init__(self, groups: int = 2, token_alone: bool = False, bias: bool = True) -> None:
        super().__init__()
        self.groups, self.alone = groups, token_alone
        self.q, self.k, self.v = (nn.Linear(WIDTH, w, bias=bias) for w in (WIDTH, 4 * groups, 4 * groups))
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, t, _ = x.shape
        q = self.q(x[:, :1] if self.alone else x).view(b, -1, 2, 4).transpose(1, 2)
        k, v = (layer(x).view(b, t, self.groups, 4).transpose(1, 2) for layer in (self.k, self.v))
        if self.groups == 1:
            k, v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.out(y).expand(-1, t, -1)


class Beit(nn.Module):
    """A bias that is put together from two parameters and zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH)
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(WIDTH)), nn.Parameter(torch.zeros(WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, t, c = x.shape
        bias = torch.cat([self.q_bias, torch.zeros_like(self.v_bias), self.v_bias])
        q, k, v = F.linear(x, self.qkv.weight, bias).view(b, t, 3, 2, 4).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, t, c))


class Tied(nn.Module):
    """The classifier's weight is a hidden layer's, too."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fc, self.head = nn.Conv2d(CHANNELS, 2, 3, 3), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.head.weight = self.fc.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.fc(torch.relu(self.stem(x)).flatten(1))))


class QuickGelu(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(x)


class TokensFirst(nn.Module):
    """Tokens and images share a dimension, token after token."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(WIDTH, 5), nn.Linear(5, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, t, c = x.shape
        y = self.fc2(torch.relu(self.fc1(x.transpose(0, 1).reshape(t * b, c))))
        return y.view(t, b, c).transpose(0, 1)
