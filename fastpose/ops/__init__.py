"""The fused ops: NumPy arrays in, NumPy arrays out, or tensors in, tensors out; on the CPU and on CUDA.

`fastpose.ops.reference` holds the same functions in plain torch.
"""

from __future__ import annotations

__all__: list[str] = []
