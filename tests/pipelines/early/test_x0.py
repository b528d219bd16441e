"""The clean latents that are foreseen are the true ones, for every scheduler and prediction that is known."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("diffusers")

import diffusers

from nsfw_guard.errors import UncoveredError
from nsfw_guard.pipelines.early import x0

# numpy says so of how some schedulers of diffusers read tensors.
pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")

ALPHA = ["DDIMScheduler", "DDPMScheduler", "PNDMScheduler", "TCDScheduler", "LCMScheduler", "DDIMParallelScheduler"]
SIGMA = ["EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler",
         "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler"]  # fmt: skip
SCALED = ["DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "UniPCMultistepScheduler",
          "DEISMultistepScheduler", "SASolverScheduler"]  # fmt: skip
FLOW = [
    ("FlowMatchEulerDiscreteScheduler", {}),
    ("FlowMatchHeunDiscreteScheduler", {}),
    ("DPMSolverMultistepScheduler", {"prediction_type": "flow_prediction", "use_flow_sigmas": True}),
    ("UniPCMultistepScheduler", {"prediction_type": "flow_prediction", "use_flow_sigmas": True}),
    ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
]
CLEAN = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))


def levels(scheduler, kind, timestep):
    """How much of the image and of the noise is in a sample, by definition."""
    if kind == "alpha":
        alpha = scheduler.alphas_cumprod[int(timestep)]
        return alpha.sqrt(), (1 - alpha).sqrt()
    index = scheduler.step_index if scheduler.step_index is not None else 0
    sigma = scheduler.sigmas[index]
    if kind == "flow":
        return 1 - sigma, sigma
    scale = 1 / (sigma**2 + 1).sqrt()
    return (torch.tensor(1.0), sigma) if kind == "sigma" else (scale, sigma * scale)


def oracle(prediction, sample, image, noise):
    """What a model that knows the truth would answer."""
    eps = (sample - image * CLEAN) / noise
    if prediction == "epsilon":
        return eps
    if prediction == "flow":
        return eps - CLEAN
    norm = (image**2 + noise**2).sqrt()  # of k-diffusion, whose samples are not of unit variance
    return image / norm * eps - noise / norm * CLEAN


def walk(scheduler, kind, prediction, steps=6):
    """Draws with a model that knows the truth, and foresees it at every step."""
    scheduler.set_timesteps(steps)
    sample = torch.randn(CLEAN.shape, generator=torch.Generator().manual_seed(4)) * float(
        getattr(scheduler, "init_noise_sigma", 1.0)
    )
    predictions = []
    for i, t in enumerate(scheduler.timesteps):
        image, noise = levels(scheduler, kind, t)
        if float(noise) == 0:
            break
        output = oracle(prediction, sample, image, noise)
        before = sample
        result = scheduler.step(output, t, sample, return_dict=True)
        sample = result.prev_sample
        # Half steps of KDPM2 have noise levels of their own.
        if not (hasattr(scheduler, "sigmas_interpol") and i % 2):
            predictions.append(x0.predict(scheduler, output, t, before, SimpleNamespace()))
    return predictions


CASES = [(n, {"prediction_type": p}, k) for names, k in ((ALPHA, "alpha"), (SIGMA, "sigma"), (SCALED, "scaled"))
         for n in names for p in ("epsilon", "v_prediction")]  # fmt: skip
CASES += [(name, settings, "flow") for name, settings in FLOW]


@pytest.mark.parametrize(("name", "settings", "kind"), CASES)
def test_the_true_latents_are_predicted_at_every_step(name, settings, kind) -> None:
    scheduler = getattr(diffusers, name)(**settings)
    prediction = "flow" if kind == "flow" else settings["prediction_type"]
    predictions = walk(scheduler, kind, prediction)
    assert len(predictions) >= 2
    for clean in predictions:
        assert torch.allclose(clean, CLEAN, atol=2e-3), float((clean - CLEAN).abs().max())


@pytest.mark.parametrize("name", ["DDIMScheduler", "DDPMScheduler", "LCMScheduler", "EulerDiscreteScheduler"])
def test_it_agrees_with_the_librarys_own_prediction(name) -> None:
    scheduler = getattr(diffusers, name)(clip_sample=False) if name[0] in "DL" else getattr(diffusers, name)()
    scheduler.set_timesteps(6)
    generator = torch.Generator().manual_seed(1)
    sample, output = (torch.randn(1, 4, 8, 8, generator=generator) for _ in range(2))
    t = scheduler.timesteps[0]
    result = scheduler.step(output, t, sample, return_dict=True)
    # LCM's own is its consistency boundary, not the plain clean sample: it is taken as it is told.
    assert x0.predict(scheduler, output, t, sample, result) is (
        result.denoised if name == "LCMScheduler" else result.pred_original_sample
    )
    if name != "LCMScheduler":
        ours = x0.predict(scheduler, output, t, sample, SimpleNamespace())
        assert torch.allclose(ours, result.pred_original_sample, atol=1e-3)


def test_a_learned_variance_is_ignored() -> None:
    scheduler = diffusers.DDPMScheduler()
    scheduler.set_timesteps(6)
    sample, output = torch.randn(1, 4, 8, 8), torch.randn(1, 8, 8, 8)
    t = scheduler.timesteps[0]
    twice = x0.predict(scheduler, output, t, sample, SimpleNamespace())
    once = x0.predict(scheduler, output[:, :4], t, sample, SimpleNamespace())
    assert torch.equal(twice, once)


def test_a_model_that_predicts_the_sample_is_taken_as_it_is() -> None:
    scheduler = diffusers.DDPMScheduler(prediction_type="sample")
    output = torch.randn(1, 4, 8, 8)
    assert x0.predict(scheduler, output, 1, output * 0, SimpleNamespace()) is output


def test_a_scheduler_that_is_not_known_is_refused_by_name() -> None:
    scheduler = SimpleNamespace(config={})
    assert not x0.known(scheduler)
    with pytest.raises(UncoveredError, match="does not support SimpleNamespace"):
        x0.predict(scheduler, CLEAN, 1, CLEAN, SimpleNamespace())


@pytest.mark.parametrize(
    "name", ["EDMEulerScheduler", "EDMDPMSolverMultistepScheduler", "CMStochasticIterativeScheduler", "IPNDMScheduler"]
)
def test_schedulers_that_scale_in_ways_of_their_own_are_not_guessed_at(name) -> None:
    assert not x0.known(getattr(diffusers, name)())
