"""The clean latents that a model predicts during generation, from the arguments and result of `scheduler.step`.

Schedulers are told apart by their features, not by name alone. Predictions of the library itself are preferred.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nsfw_guard.errors import UncoveredError

# Noise levels of k-diffusion: the sample is x + sigma * noise.
SIGMAS = (
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "LMSDiscreteScheduler",
)


def predict(scheduler: Any, model_output: Tensor, timestep: Any, sample: Tensor, result: Any) -> Tensor:
    """Return the sample without noise, as the model predicts it at this step.

    Args:
        scheduler: the scheduler after the step.
        model_output, timestep, sample: arguments of `step`.
        result: the result of `step`, with named fields.

    Raises:
        UncoveredError: the scheduler is not supported.
    """
    for name in ("pred_original_sample", "denoised"):
        predicted = getattr(result, name, None)
        if isinstance(predicted, Tensor):
            return predicted
    output = model_output[:, : sample.shape[1]] if _learns_variance(model_output, sample) else model_output
    kind = _kind(scheduler)
    if kind == "sample":
        return output
    level = _alpha(scheduler, timestep, sample) if kind == "alpha" else _sigma(scheduler, sample)
    formula = _FORMULAS[kind, _prediction(scheduler, kind)]
    clean: Tensor = formula(sample.float(), output.float(), level).to(sample.dtype)
    return clean


def known(scheduler: Any) -> bool:
    """Return whether the clean latents of this scheduler can be computed."""
    try:
        return bool(_kind(scheduler))
    except UncoveredError:
        return False


def _kind(scheduler: Any) -> str:
    """The name of the formula for a scheduler."""
    name, config = type(scheduler).__name__, scheduler.config
    prediction = config.get("prediction_type", "epsilon")
    if name.startswith("FlowMatch") or prediction == "flow_prediction" or config.get("use_flow_sigmas"):
        return "flow"
    if prediction in {"sample", "original_sample"}:
        return "sample"
    if prediction in {"epsilon", "v_prediction"}:
        if name in SIGMAS:
            return "sigma"
        # Schedulers with preconditioning (EDM) scale their samples differently.
        preconditioned = hasattr(scheduler, "precondition_outputs")
        if hasattr(scheduler, "convert_model_output") and hasattr(scheduler, "sigmas") and not preconditioned:
            return "scaled"
        if hasattr(scheduler, "alphas_cumprod"):
            return "alpha"
    raise UncoveredError(
        f"early_stop does not support {name} with prediction_type={prediction!r}: omit early_stop, or use another "
        "scheduler"
    )


def _prediction(scheduler: Any, kind: str) -> str:
    return "flow" if kind == "flow" else str(scheduler.config.get("prediction_type", "epsilon"))


def _learns_variance(output: Tensor, sample: Tensor) -> bool:
    return output.ndim == sample.ndim and output.ndim > 1 and output.shape[1] == 2 * sample.shape[1]


def _sigma(scheduler: Any, sample: Tensor) -> Tensor:
    """The noise level before the step, which has advanced the index by one."""
    sigma = scheduler.sigmas[int(scheduler.step_index) - 1]
    return torch.as_tensor(sigma, device=sample.device, dtype=torch.float32)


def _alpha(scheduler: Any, timestep: Any, sample: Tensor) -> Tensor:
    """The share of the clean image in the sample, for one timestep or one per image."""
    steps = torch.as_tensor(timestep).long().cpu()
    alpha: Tensor = scheduler.alphas_cumprod.cpu()[steps].to(sample.device, torch.float32)
    return alpha.view(-1, *[1] * (sample.ndim - 1)) if alpha.ndim else alpha


def _flow(x: Tensor, v: Tensor, sigma: Tensor) -> Tensor:
    return x - sigma * v


def _sigma_noise(x: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    return x - sigma * noise


def _sigma_v(x: Tensor, v: Tensor, sigma: Tensor) -> Tensor:
    return x / (sigma**2 + 1) - v * sigma / (sigma**2 + 1).sqrt()


def _scaled_noise(x: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    scale = 1 / (sigma**2 + 1).sqrt()
    return (x - sigma * scale * noise) / scale


def _scaled_v(x: Tensor, v: Tensor, sigma: Tensor) -> Tensor:
    scale = 1 / (sigma**2 + 1).sqrt()
    return scale * x - sigma * scale * v


def _alpha_noise(x: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
    return (x - (1 - alpha).sqrt() * noise) / alpha.sqrt()


def _alpha_v(x: Tensor, v: Tensor, alpha: Tensor) -> Tensor:
    return alpha.sqrt() * x - (1 - alpha).sqrt() * v


_FORMULAS: dict[tuple[str, str], Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    ("flow", "flow"): _flow,
    ("sigma", "epsilon"): _sigma_noise,
    ("sigma", "v_prediction"): _sigma_v,
    ("scaled", "epsilon"): _scaled_noise,
    ("scaled", "v_prediction"): _scaled_v,
    ("alpha", "epsilon"): _alpha_noise,
    ("alpha", "v_prediction"): _alpha_v,
}
