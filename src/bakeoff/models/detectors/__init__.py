"""Detectors and instance segmenters: torchvision's heads on any feature maps, and the adapter around them."""
