"""Why a network says what it says: maps over an image, each with a check that it depends on what was learned."""

from bakeoff.explain import (
    deconvnet,
    filters,
    gradcam,
    guided,
    integrated_gradients,
    inversion,
    layercam,
    occlusion,
    rollout,
)
from bakeoff.explain.explainer import Explainer, Explanation, Map, Options, Picture, as_explainer, at_rest
from bakeoff.explain.subject import Subject, find_subject

EXPLAINERS: tuple[Explainer, ...] = tuple(
    map(
        as_explainer,
        (gradcam, layercam, integrated_gradients, occlusion, guided, deconvnet, inversion, filters, rollout),
    )
)

__all__ = [
    "EXPLAINERS",
    "Explainer",
    "Explanation",
    "Map",
    "Options",
    "Picture",
    "Subject",
    "as_explainer",
    "at_rest",
    "find_subject",
]
