"""Which precision to compute in where half precision would not do."""

import torch


def at_least_fp32(dtype: torch.dtype) -> torch.dtype:
    """Return float32 for half precision, and every wider floating-point type as it is.

    Softmax, losses and variances are taken so. A plain cast to float32 would round float64, in which the model is
    compared with the published one.
    """
    return torch.promote_types(dtype, torch.float32)
