"""Windows: where tokens go, and attention against a loop over pairs of tokens."""

from __future__ import annotations

import pytest
import torch

from fastpose.models.layers import WindowAttention, join_windows, split_windows, window_padding


def test_windows_hold_neighbours_and_join_again():
    x = torch.arange(2 * 4 * 6, dtype=torch.float32).view(2, 4, 6, 1)
    tokens = split_windows(x, 2)
    assert tokens.shape == (12, 4, 1)
    assert tokens[1].flatten().tolist() == [2, 3, 8, 9]
    assert torch.equal(join_windows(tokens, 4, 6, 2), x)
    assert window_padding(8, 14, 7) == (6, 0)


def test_attention_equals_a_loop_over_pairs():
    torch.manual_seed(0)
    channels, heads, window = 6, 2, 3
    attention = WindowAttention(channels, heads, window).double()
    torch.nn.init.normal_(attention.relative_position_bias_table)
    tokens = torch.randn(2, 9, channels, dtype=torch.float64)
    qkv = attention.qkv(tokens).view(2, 9, 3, heads, 3)
    table = attention.relative_position_bias_table.view(5, 5, heads)  # (rows down, columns right) from key to query
    expected = torch.zeros(2, 9, heads, 3, dtype=torch.float64)
    for w in range(2):
        for head in range(heads):
            for i in range(9):
                scores = torch.stack(
                    [
                        qkv[w, i, 0, head] @ qkv[w, j, 1, head] / 3**0.5
                        + table[i // 3 - j // 3 + 2, i % 3 - j % 3 + 2, head]
                        for j in range(9)
                    ]
                )
                expected[w, i, head] = scores.softmax(0) @ qkv[w, :, 2, head]
    torch.testing.assert_close(attention(tokens), attention.proj(expected.flatten(2)))


def test_channels_must_divide_by_heads():
    with pytest.raises(ValueError, match="heads: expected a divisor of 10 channels, got 3"):
        WindowAttention(10, 3, 7)
