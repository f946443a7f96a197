"""One predictor for every form of a trained model; torch is imported for models in torch only."""

from distill.predict.predictor import Predictor

__all__ = ["Predictor"]
