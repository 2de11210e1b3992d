"""The transformers that can be named: what they are made of and where their weights are.  No library is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bakeoff.data.dataset import TaskName

PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))  # these networks take 0..1 as it is
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Kind:
    """An architecture of the library: classes of its network, configuration and backbone's configuration.

    `norm` is the mean and standard deviation that it wants, `multiple` what the image's side is padded to a multiple
    of; there may be at most as many queries as cells of the maps at `strides`, where there are some.  `outs` are the
    backbone's stages that are looked at, `trunks` its modules.
    """

    task: TaskName
    network: str
    config: str
    backbone: str
    norm: tuple[tuple[float, ...], tuple[float, ...]]
    multiple: int
    strides: tuple[int, ...] = ()
    outs: tuple[int, ...] = (2, 3, 4)
    trunks: tuple[str, ...] = ("model.backbone.model",)


@dataclass(frozen=True)
class Published:
    """One network with weights trained on COCO: where they are, under which licence, and the configuration's fields."""

    kind: str
    hub: str
    licence: str
    fields: Fields = field(default_factory=dict)
    backbone: Fields = field(default_factory=dict)
    queries: int = 300


KINDS = {
    "rtdetr_v2": Kind(
        "detection", "RTDetrV2ForObjectDetection", "RTDetrV2Config", "RTDetrResNetConfig", PLAIN, 32, (8, 16, 32)
    ),
    "dfine": Kind("detection", "DFineForObjectDetection", "DFineConfig", "HGNetV2Config", PLAIN, 32, (8, 16, 32)),
    "rf_detr": Kind(
        "detection",
        "RfDetrForObjectDetection",
        "RfDetrConfig",
        "RfDetrDinov2Config",
        IMAGENET,
        32,
        (16,),
        trunks=("model.backbone.backbone",),
    ),
    "mask2former": Kind(
        "instance",
        "Mask2FormerForUniversalSegmentation",
        "Mask2FormerConfig",
        "SwinConfig",
        IMAGENET,
        32,
        outs=(1, 2, 3, 4),
        trunks=("model.pixel_level_module.encoder",),
    ),
    "eomt": Kind(
        "instance", "EomtForUniversalSegmentation", "EomtConfig", "", IMAGENET, 16, trunks=("embeddings", "layers")
    ),
}
ON_TIMM = ("dfine", "rtdetr_v2")  # kinds that can stand on any timm backbone

_BASIC = {"hidden_sizes": [64, 128, 256, 512], "layer_type": "basic"}
_STAGES = {
    "stage_downsample": [False, True, True, True],
    "stage_light_block": [False, False, True, True],
    "stage_kernel_size": [3, 3, 5, 5],
}
_SMALLEST = {
    **_STAGES,
    "hidden_sizes": [128, 256, 512, 1024],
    "stem_channels": [3, 16, 16],
    "stage_in_channels": [16, 64, 256, 512],
    "stage_mid_channels": [16, 32, 64, 128],
    "stage_out_channels": [64, 256, 512, 1024],
    "stage_num_blocks": [1, 1, 2, 1],
    "stage_numb_of_layers": [3, 3, 3, 3],
    "use_learnable_affine_block": True,
}
_MEDIUM = {
    **_STAGES,
    "hidden_sizes": [192, 384, 768, 1536],
    "stem_channels": [3, 24, 32],
    "stage_in_channels": [32, 96, 384, 768],
    "stage_mid_channels": [32, 64, 128, 256],
    "stage_out_channels": [96, 384, 768, 1536],
    "stage_num_blocks": [1, 1, 3, 1],
    "stage_numb_of_layers": [4, 4, 4, 4],
    "use_learnable_affine_block": True,
}
_LARGE = {
    **_STAGES,
    "hidden_sizes": [256, 512, 1024, 2048],
    "stem_channels": [3, 32, 48],
    "stage_in_channels": [48, 128, 512, 1024],
    "stage_mid_channels": [48, 96, 192, 384],
    "stage_out_channels": [128, 512, 1024, 2048],
    "stage_num_blocks": [1, 1, 3, 1],
    "stage_numb_of_layers": [6, 6, 6, 6],
}
_NANO = {
    "num_feature_levels": 2,
    "encoder_ffn_dim": 512,
    "encode_proj_layers": [1],
    "d_model": 128,
    "encoder_hidden_dim": 128,
    "decoder_ffn_dim": 512,
    "encoder_in_channels": [512, 1024],
    "decoder_n_points": [6, 6],
    "decoder_in_channels": [128, 128],
    "feat_strides": [16, 32],
    "depth_mult": 0.5,
    "decoder_layers": 3,
    "hidden_expansion": 0.34,
}


def _points(layers: int, expansion: float, depth: float, channels: list[int]) -> Fields:
    """D-FINE's fields that differ between its middle sizes."""
    return {
        "decoder_layers": layers,
        "hidden_expansion": expansion,
        "depth_mult": depth,
        "decoder_n_points": [3, 6, 3],
        "encoder_in_channels": channels,
    }


def _dinov2(size: int, patch: int, windows: int, first: int) -> Fields:
    """RF-DETR's small DINOv2: twelve layers, of which every third is looked at."""
    layers = [first, first + 3, first + 6, first + 9]
    small = {"hidden_size": 384, "num_attention_heads": 6, "num_hidden_layers": 12, "use_mask_token": False}
    return {**small, "image_size": size, "patch_size": patch, "num_windows": windows, "out_indices": layers}


def _rf_detr(layers: int) -> Fields:
    """RF-DETR's decoder."""
    return {"decoder_layers": layers, "decoder_n_points": 2}


APACHE, MIT = "apache-2.0", "mit"
PUBLISHED = {
    "rtdetr_v2_r18vd": Published(
        "rtdetr_v2",
        "PekingU/rtdetr_v2_r18vd",
        APACHE,
        {"encoder_in_channels": [128, 256, 512], "hidden_expansion": 0.5, "decoder_layers": 3},
        {**_BASIC, "depths": [2, 2, 2, 2]},
    ),
    "rtdetr_v2_r34vd": Published(
        "rtdetr_v2",
        "PekingU/rtdetr_v2_r34vd",
        APACHE,
        {"encoder_in_channels": [128, 256, 512], "hidden_expansion": 0.5, "decoder_layers": 4},
        {**_BASIC, "depths": [3, 4, 6, 3]},
    ),
    "rtdetr_v2_r50vd": Published("rtdetr_v2", "PekingU/rtdetr_v2_r50vd", APACHE),
    "rtdetr_v2_r101vd": Published(
        "rtdetr_v2",
        "PekingU/rtdetr_v2_r101vd",
        APACHE,
        {"encoder_ffn_dim": 2048, "encoder_hidden_dim": 384, "decoder_in_channels": [384, 384, 384]},
        {"depths": [3, 4, 23, 3]},
    ),
    "dfine_nano": Published(
        "dfine", "ustc-community/dfine-nano-coco", APACHE, _NANO, {**_SMALLEST, "out_indices": [3, 4]}
    ),
    "dfine_small": Published(
        "dfine", "ustc-community/dfine-small-coco", APACHE, _points(3, 0.5, 0.34, [256, 512, 1024]), _SMALLEST
    ),
    "dfine_medium": Published(
        "dfine", "ustc-community/dfine-medium-coco", APACHE, _points(4, 1.0, 0.67, [384, 768, 1536]), _MEDIUM
    ),
    "dfine_large": Published(
        "dfine", "ustc-community/dfine-large-coco", APACHE, _points(6, 1.0, 1.0, [512, 1024, 2048]), _LARGE
    ),
    "rf_detr_nano": Published("rf_detr", "Roboflow/rf-detr-nano", APACHE, _rf_detr(2), _dinov2(384, 16, 2, 3)),
    "rf_detr_small": Published("rf_detr", "Roboflow/rf-detr-small", APACHE, _rf_detr(3), _dinov2(512, 16, 2, 3)),
    "rf_detr_medium": Published("rf_detr", "Roboflow/rf-detr-medium", APACHE, _rf_detr(4), _dinov2(576, 16, 2, 3)),
    "mask2former_swin_tiny": Published(
        "mask2former",
        "facebook/mask2former-swin-tiny-coco-instance",
        "other",  # the hub's word
        backbone={"depths": [2, 2, 6, 2], "drop_path_rate": 0.3},
        queries=100,
    ),
    "mask2former_swin_small": Published(
        "mask2former",
        "facebook/mask2former-swin-small-coco-instance",
        "other",
        backbone={"depths": [2, 2, 18, 2], "drop_path_rate": 0.3},
        queries=100,
    ),
    "eomt_large": Published("eomt", "tue-mps/coco_instance_eomt_large_640", MIT, queries=200),
}
