"""From what a network returns to the scores and probabilities of its classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from napari_gradcam.cam import output_scores
from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from torch import Tensor

Activation = Literal["softmax", "sigmoid"]


@dataclass(frozen=True)
class Head:
    """How the last layer of a classifier is read.

    Attributes
    ----------
    classes
        Number of classes a person may ask for.
    activation
        ``"softmax"`` for classes that exclude one another, ``"sigmoid"`` for classes that do not, or for one logit that
        decides between two.
    outputs
        How many scores the network gives, where it is known.
    """

    classes: int
    activation: Activation
    outputs: int | None = None

    @property
    def exclusive(self) -> bool:
        """Whether the classes exclude one another: by a softmax over all, or one logit that decides between two."""
        return self.activation == "softmax" or self.outputs == 1

    def class_scores(self, output: Any) -> Tensor:
        """Scores before softmax or sigmoid, ``(batch, class)``.

        One logit z that decides between two classes gives the scores (−z, z): what speaks against the second class
        speaks for the first.

        Raises
        ------
        GradCamError
            If the network gives another number of scores than there are classes.
        """
        scores = output_scores(output)
        if scores.shape[1] == 1 and self.classes == 2:
            return torch.cat([-scores, scores], dim=1)
        if scores.shape[1] != self.classes:
            raise GradCamError(
                f"The network gives {scores.shape[1]} scores but {self.classes} class names are declared; correct "
                "them (channel_def in a bundle's metadata.json)."
            )
        return scores

    def probabilities(self, scores: Tensor, ending: str | None = None) -> Tensor:
        """Probabilities of the scores of :meth:`class_scores`, ``(batch, class)``.

        Parameters
        ----------
        scores
            Before softmax or sigmoid.
        ending
            What the network itself ends in, if it does: the network knows better than who declared the head.
        """
        if ending == "tanh":
            scores, ending = scores.tanh(), None
        return scores.softmax(dim=1) if (ending or self.activation) == "softmax" else scores.sigmoid()


def already_probabilities(scores: Tensor) -> bool:
    """Tell whether scores are a softmax's output already: none negative and each sample's sum is one.

    A second softmax would flatten them, and their gradient vanishes where the network is certain (Selvaraju et al. 2017
    take the score before softmax for that reason).
    """
    sums = scores.sum(dim=1)
    return scores.shape[1] > 1 and bool((scores >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-5)
