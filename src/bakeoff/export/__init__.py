"""A trained model -> a file for other programs (ONNX, torch.export, the hub's form) that provably says the same."""

from bakeoff.export.exporting import ALLOW, FORMS, Exported, Wish, export_model

__all__ = ["ALLOW", "FORMS", "Exported", "Wish", "export_model"]
